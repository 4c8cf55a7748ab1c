"""The exact grader of the demo's tasks.

Reads one completion and the `check` column of its prompt, answers 1.0 or 0.0 and nothing between.
It knows nothing of families, prompts or models: the four kinds of check are its whole world.
"""

import json
import re
from collections.abc import Mapping

_MARK = "#### "
_WORDS = re.compile(r"\w+(, \w+)*")


def grade_demo(text: str, check: Mapping[str, object]) -> float:
    """1.0 if the completion is right to the letter, else 0.0; no partial credit.

    `check["kind"]` decides what else the check holds:

    - `number`: `answer` (int). The final answer must be that number, in plain digits.
    - `text`: `answer` (str). The final answer must equal it.
    - `pick`: `n` (int), `among` (list of words), `without` (word). The final answer must be `n` different
      words of `among`, none of them `without`, in alphabetical order, joined by a comma and a space.
    - `json`: `object`. The whole completion must be that JSON object; the order of keys is free.

    The final answer is everything after the *first* `#### ` at the start of a line, so neither a second
    final line nor an afterthought can repair a wrong one. White space at the very end is forgiven.
    Raises ValueError for an unknown kind and KeyError for a field that the check lacks.
    """
    kind = check["kind"]
    if kind == "json":
        return float(_is_same_json(text, check["object"]))
    answer = _final_answer(text)
    if kind == "number":
        # Compared as text: int() would also take "+7", "07", "1_0" and other scripts' digits.
        return float(answer == str(check["answer"]))
    if kind == "text":
        return float(answer == check["answer"])
    if kind == "pick":
        return float(answer is not None and _is_pick(answer, check))
    raise ValueError(f"unknown kind of check {kind!r}; expected 'number', 'text', 'pick' or 'json'")


def in_form(text: str, check: Mapping[str, object]) -> bool:
    """The completion has the form that its task asks for, whatever it says: right answers always have it.

    `json`: it parses as an object. The others have a final answer: plain digits for `number`, else words with a comma
    and a space between.
    """
    if check["kind"] == "json":
        try:
            return isinstance(json.loads(text), dict)
        except (ValueError, RecursionError):
            return False
    answer = _final_answer(text)
    if answer is None:
        return False
    return answer.isdecimal() if check["kind"] == "number" else _WORDS.fullmatch(answer) is not None


def _final_answer(text: str) -> str | None:
    """What follows the first mark at the start of a line; None without one."""
    _, found, answer = ("\n" + text).partition("\n" + _MARK)
    return answer.rstrip() if found else None


def _is_pick(answer: str, check: Mapping[str, object]) -> bool:
    among = check["among"]
    if not isinstance(among, list | tuple):
        raise ValueError(f"'among' must be a list of words, got {among!r}")
    words = answer.split(", ")
    return (
        len(words) == check["n"]
        and len(set(words)) == len(words)
        and words == sorted(words)
        and check["without"] not in words
        and all(word in among for word in words)
    )


def _is_same_json(text: str, wanted: object) -> bool:
    try:
        # Pairs instead of a dict, so that a key given twice is not silently merged.
        pairs = json.loads(text, object_pairs_hook=lambda pairs: pairs)
    except (ValueError, RecursionError):
        return False
    if not isinstance(wanted, Mapping):
        raise ValueError(f"'object' must be a JSON object, got {wanted!r}")
    if not isinstance(pairs, list) or len(pairs) != len(wanted):
        return False
    if not all(isinstance(pair, tuple) for pair in pairs):  # a JSON array, not an object
        return False
    # The type belongs to the value: 1, 1.0 and true are equal in Python and different in JSON.
    return all(
        key in wanted and type(value) is type(wanted[key]) and value == wanted[key] for key, value in pairs
    ) and len({key for key, _ in pairs}) == len(pairs)
