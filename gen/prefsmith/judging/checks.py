"""What must hold of a judge file and its prompt text, so that the judge can be asked and its replies can be read.

Every message names the file and what to do. Nothing here opens one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from prefsmith.errors import UsageError, did_you_mean
from prefsmith.judging.file import JudgeFile
from prefsmith.judging.leaf import SHOWN, Kind

LOGPROBS = "logprobs"
_DIGITS = tuple("123456789")
_CHOICES: dict[Kind, tuple[tuple[str, ...], ...]] = {
    "rubric": (_DIGITS,),
    "pairwise": (("A", "B", "TIE"), ("A", "B")),
    "listwise": ((),),
    "checklist": (("YES", "NO"),),
    "list": ((),),
}
_HINTS: dict[Kind, str] = {
    "rubric": "where 10 is on a scale, the token of 1 also begins it; leave `choices` out for 1 to 9",
    "pairwise": "a pairwise judge says A for the first answer shown and B for the second, and TIE if it may",
    "listwise": "a listwise judge ranks letters, as many as there are answers",
    "checklist": "a checklist is answered with YES or NO",
    "list": "",
}
_ONLY: dict[str, tuple[Kind, ...]] = {
    "orders": ("pairwise",),
    "samples": ("rubric",),
    "shuffles": ("listwise",),
    "questions": ("checklist",),
    "logprobs": ("rubric", "pairwise", "checklist"),
    "decisions": ("rubric", "pairwise", "checklist"),
    "structured": ("rubric", "pairwise", "checklist"),
}
"""Keys that not every kind has."""
_BRACED = re.compile(r"\{(\w+)\}")
_COLUMN = re.compile(r"[a-z_]+")


def check_keys(file: JudgeFile, path: Path) -> None:
    """Raises UsageError for keys that this kind has not, or that do not go together."""
    if file.kind == "reward":
        if more := sorted(file.model_fields_set - {"kind", "model"}):
            raise UsageError(f"{path}: a reward model is asked nothing, so {', '.join(more)} mean nothing to it")
        return
    if file.prompt is None:
        raise UsageError(f"{path}: 'prompt' is missing")
    for key, kinds in _ONLY.items():
        if key in file.model_fields_set and file.kind not in kinds:
            raise UsageError(f"{path}: {key} belongs to a {' or '.join(kinds)} judge; this one is {file.kind}")
    if LOGPROBS in file.needs and file.kind not in _ONLY[LOGPROBS]:
        raise UsageError(f"{path}: needs {LOGPROBS!r}, which a {file.kind} judge cannot use")
    if (file.questions is None) == (file.kind == "checklist"):
        raise UsageError(f"{path}: a checklist, and only that, has [questions] with the `prompt` of who writes them")
    if file.samples > 1 and file.sampling.temperature == 0:
        raise UsageError(
            f"{path}: samples = {file.samples} at temperature 0 are one reply {file.samples} times; give [sampling] a "
            "temperature"
        )
    if file.decisions and file.structured:
        raise UsageError(f"{path}: decisions fall back to a schema by themselves; leave structured out")
    if file.structured and (file.logprobs or LOGPROBS in file.needs):
        raise UsageError(f"{path}: structured replies and logprobs do not go together; leave one of them out")


def checked_labels(kind: Kind, choices: list[str] | None, path: Path) -> tuple[str, ...]:
    allowed = _CHOICES[kind]
    labels = allowed[0] if choices is None else tuple(choices)
    if labels in allowed:
        return labels
    why = ""
    if kind == "rubric":
        long = next((label for label in labels if label not in _DIGITS), None)
        why = f"{long!r} is not one digit from 1 to 9; " if long is not None else ""
    expected = " or ".join(str(list(one)) for one in allowed)
    raise UsageError(f"{path}: choices = {list(labels)!r}; {why}expected {expected}: {_HINTS[kind]}")


def checked_reads(
    kind: Kind, name: str, prompt: str, file: JudgeFile, needs: Sequence[str], path: Path
) -> tuple[str, ...]:
    """The columns that the prompt text names; raises UsageError for a text that cannot be filled or read."""
    where = f"{path}: prompt {name!r}"
    shown = SHOWN[kind]
    named = _BRACED.findall(prompt)
    own = ("question",) if kind == "checklist" else ()
    columns = {"reference", "category", *needs, *own}
    allowed = {"prompt", *shown, *columns, *(() if kind == "list" else ("criteria",))}
    if bad := next((column for column in needs if not _COLUMN.fullmatch(column)), None):
        raise UsageError(f"{path}: needs {bad!r}; a column in a prompt text has a name of a-z and _ only")
    for field in named:
        if field not in allowed:
            known = did_you_mean(field, allowed)
            raise UsageError(f"{where} holds {{{field}}}; {known}; list a column of the items under `needs`")
    for field in ("prompt", *own, *shown):
        if named.count(field) != 1:
            raise UsageError(f"{where} must hold {{{field}}} exactly once, not {named.count(field)} times")
    if kind != "list":
        _check_judging(kind, named, file, needs, where, prompt, name, path)
    return tuple(sorted(set(named) & columns))


def _check_judging(
    kind: Kind, named: list[str], file: JudgeFile, needs: Sequence[str], where: str, prompt: str, name: str, path: Path
) -> None:
    """What holds for a text that shows answers and asks for a verdict."""
    shown = SHOWN[kind]
    for column in needs:
        if column not in named:
            raise UsageError(f"{path}: needs {column!r}, but its prompt {name!r} does not hold {{{column}}}")
    if ("criteria" in named) != bool(file.criteria):
        raise UsageError(f"{where} and [criteria] belong together: give both {{criteria}} and the table, or neither")
    # The questions of a checklist differ from call to call, so they stand behind the answer that they share.
    last = (*shown, "question") if kind == "checklist" else shown
    if tuple(named[-len(last) :]) != last or "criteria" in named[named.index("prompt") :]:
        order = ", ".join(f"{{{field}}}" for field in last)
        raise UsageError(
            f"{where}: {{criteria}} comes before {{prompt}}, and {order} last, so that calls share a prefix"
        )
    if "VERDICT:" not in prompt:
        raise UsageError(f"{where} must ask for a last line `VERDICT: …`, which is what is read")
