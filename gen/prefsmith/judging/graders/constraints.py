"""Conditions that a text must meet, as the `check` column of a prompt names them: {"sentences": 2, "avoid": ["snow"]}.

The value is the share of conditions met, where being finished counts as one more that is always met: a cut-off answer
is gated before it gets here. So it is 1.0 exactly when all hold. A condition that is not known, or has a value of the
wrong type, gives no score at all. Every condition is pure and linear in the length of the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from unicodedata import normalize

from prefsmith.errors import did_you_mean
from prefsmith.judging.graders.answers import RIGHT
from prefsmith.judging.graders.number import as_number, last_number
from prefsmith.outcomes import Score
from prefsmith.records import Json

V = TypeVar("V")
_LETTER = r"[^\W_]"
"""A letter or digit: the underscore of _this_ emphasis is neither."""
_WORD = re.compile(rf"{_LETTER}+(?:['’\-\u2010\u2011]{_LETTER}+)*")
_OPENING = "\"'“”„«‘’"
_CLOSING = "\"'”“»’"
_SENTENCE_END = re.compile(rf"(?<=[.!?])[{_CLOSING}]*\s+")
_BULLET = re.compile(r"\s*(?:[-*]\s+|•\s*)\S")
_NUMBERED = re.compile(r"\s*([0-9]{1,6})[.)]\s+\S")
_QUOTED = re.compile(r'["“„][^"“”„]*["”“]')


@dataclass(frozen=True, slots=True)
class Condition(Generic[V]):
    """`read` checks the value that the prompt gives; `holds` asks the (stripped, NFC) text."""

    read: Callable[[Json], V]
    holds: Callable[[str, V], bool]


def prepare_constraints(columns: Mapping[str, Json]) -> Callable[[str], Score]:
    """A grader of texts for the conditions in `check`; raises ValueError naming a condition that cannot be used."""
    conditions = _read_check(columns["check"])

    def grade(text: str) -> Score:
        answer = normalize("NFC", text).strip()
        failed = [name for name, holds in conditions if not holds(answer)]
        if not failed:
            return RIGHT
        return Score((len(conditions) - len(failed) + 1) / (len(conditions) + 1), parts={"failed": failed})

    return grade


def _read_check(check: Json) -> list[tuple[str, Callable[[str], bool]]]:
    if not isinstance(check, Mapping):
        raise ValueError(f"the column 'check' must be an object of conditions, got {check!r}")
    # Columnar files give every row the keys of all rows; null means that this row does not ask for it.
    asked = {name: value for name, value in check.items() if value is not None}
    if not asked:
        raise ValueError("the column 'check' holds no condition")
    return [(name, _bind(name, value)) for name, value in asked.items()]


def _bind(name: str, value: Json) -> Callable[[str], bool]:
    condition = CONDITIONS.get(name)
    if condition is None:
        raise ValueError(f"unknown condition {name!r} in the column 'check'; {did_you_mean(name, CONDITIONS)}")
    try:
        wanted = condition.read(value)
    except ValueError as error:
        raise ValueError(f"condition {name!r}: {error}") from None
    return lambda answer: condition.holds(answer, wanted)


def _count(value: Json) -> int:
    # Columnar files turn whole numbers beside nulls into floats.
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if not whole or isinstance(value, bool) or value < 0:
        raise ValueError(f"expected a whole number, got {value!r}")
    return int(value)


def _flag(value: Json) -> bool:
    if value is not True:
        raise ValueError(f"expected true, got {value!r}")
    return True


def _text(value: Json) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"expected a text, got {value!r}")
    return normalize("NFC", value).strip()


def _texts(value: Json) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple) or not listed:
        raise ValueError(f"expected a list of texts, got {value!r}")
    return tuple(_text(each) for each in listed)


def _folded(value: Json) -> frozenset[str]:
    return frozenset(text.casefold() for text in _texts(value))


def _phrase(text: str) -> str:
    """A pattern for the text as whole words: `cat` is not in `cats`, `35` not in `135` or `35.50`; $35 is in US$35."""
    body = r"\s+".join(re.escape(part).replace("'", "['’]").replace("’", "['’]") for part in text.split())
    before = r"(?<![^\W_])(?<![0-9][.,])" if text[0].isdigit() else r"(?<![^\W_])" if text[0].isalnum() else ""
    after = r"(?![^\W_]|[.,][0-9])" if text[-1].isdigit() else r"(?![^\W_])" if text[-1].isalnum() else ""
    return before + body + after


def _phrases(value: Json) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(_phrase(text), re.IGNORECASE) for text in _texts(value))


def _beginning(value: Json) -> re.Pattern[str]:
    return re.compile(_phrase(_text(value)), re.IGNORECASE)


def _ending(value: Json) -> re.Pattern[str]:
    text = _text(value).rstrip(_CLOSING)
    return re.compile(rf"{_phrase(_text(text))}\Z", re.IGNORECASE)


def _n_words(text: str) -> int:
    return len(_WORD.findall(text))


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def _n_sentences(text: str) -> int:
    parts = (part for line in text.splitlines() for part in _SENTENCE_END.split(line))
    return sum(_WORD.search(part) is not None for part in parts)


def _are_bullets(text: str, n: int) -> bool:
    lines = _lines(text)
    return len(lines) == n and all(_BULLET.match(line) for line in lines)


def _is_numbered(text: str, n: int) -> bool:
    numbers = [int(found[1]) for line in text.splitlines() if (found := _NUMBERED.match(line))]
    return numbers == list(range(1, n + 1))


def _is_comma_list(text: str, n: int) -> bool:
    parts = text.split(",")
    return len(_lines(text)) == 1 and len(parts) == n and all(_WORD.search(part) for part in parts)


def _without_closing_quotes(text: str) -> str:
    return text.rstrip(_CLOSING + " \t\r\n")


def _is_quoted(text: str, _: bool) -> bool:
    return _QUOTED.fullmatch(text) is not None and _WORD.search(text) is not None


def _is_only(text: str, words: frozenset[str]) -> bool:
    start, end = 0, len(text)
    while start < end and not text[start].isalnum():
        start += 1
    while end > start and not text[end - 1].isalnum():
        end -= 1
    return text[start:end].casefold() in words


def _starts_with_word(text: str, words: frozenset[str]) -> bool:
    first = _WORD.search(text)
    return first is not None and first[0].casefold() in words


def _json(text: str) -> Json:
    """The JSON value that is the whole text, a code fence around it apart; raises ValueError or RecursionError."""
    if text.startswith("```") and text.endswith("```") and len(text) > 6:
        first_line = text.find("\n")
        text = text[first_line + 1 : -3] if first_line > 0 else text[3:-3]
    return json.loads(text, object_pairs_hook=_object, parse_constant=_not_json)


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key stands twice")
    return keys


def _not_json(word: str) -> Json:
    raise ValueError(f"{word} is not JSON")


def _has_json_keys(text: str, keys: tuple[str, ...]) -> bool:
    try:
        value = _json(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.keys() == set(keys)


def _is_json_list(text: str, n: int) -> bool:
    try:
        value = _json(text)
    except (ValueError, RecursionError):
        return False
    return isinstance(value, list) and len(value) == n


CONDITIONS: Mapping[str, Condition[Any]] = {
    "words": Condition(_count, lambda text, n: _n_words(text) == n),
    "words_max": Condition(_count, lambda text, n: _n_words(text) <= n),
    "words_min": Condition(_count, lambda text, n: _n_words(text) >= n),
    "chars_max": Condition(_count, lambda text, n: len(text) <= n),
    "sentences": Condition(_count, lambda text, n: _n_sentences(text) == n),
    "lines": Condition(_count, lambda text, n: len(_lines(text)) == n),
    "bullets": Condition(_count, _are_bullets),
    "numbered": Condition(_count, _is_numbered),
    "comma_list": Condition(_count, _is_comma_list),
    "lower": Condition(_flag, lambda text, _: text.islower()),
    "upper": Condition(_flag, lambda text, _: text.isupper()),
    "quoted": Condition(_flag, _is_quoted),
    "question": Condition(_flag, lambda text, _: _without_closing_quotes(text).endswith("?")),
    "exclaim": Condition(_flag, lambda text, _: _without_closing_quotes(text).endswith("!")),
    "starts": Condition(_beginning, lambda text, phrase: phrase.match(text.lstrip(_OPENING)) is not None),
    "ends": Condition(_ending, lambda text, phrase: phrase.search(_without_closing_quotes(text)) is not None),
    "include": Condition(_phrases, lambda text, phrases: all(each.search(text) for each in phrases)),
    "has_any": Condition(_phrases, lambda text, phrases: any(each.search(text) for each in phrases)),
    # An answer of three words avoids everything; it says nothing.
    "avoid": Condition(_phrases, lambda text, phrases: _n_words(text) > 3 and not any(p.search(text) for p in phrases)),
    "no_char": Condition(_text, lambda text, chars: not set(chars.casefold()) & set(text.casefold())),
    "json_keys": Condition(_texts, _has_json_keys),
    "json_list": Condition(_count, _is_json_list),
    "number": Condition(as_number, lambda text, number: last_number(text) == number),
    "only": Condition(_folded, _is_only),
    "first": Condition(_folded, _starts_with_word),
    "line": Condition(_text, lambda text, line: text == line),
}
