"""Judges by name: a file on the shelf, a file at a path, or what a package brings as an entry point.

Invariant: a judge that loads can be asked; its prompt text names only what will be filled in, in the order that keeps
what calls share at the front. Everything wrong with a file is told here. It knows no endpoint.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from prefsmith.errors import UsageError, did_you_mean
from prefsmith.judging.file import JudgeFile, SamplingPart, told
from prefsmith.judging.judge import LeafJudge
from prefsmith.judging.leaf import SHOWN, Kind, ModelJudge
from prefsmith.records import Sampling
from prefsmith.shelf import shelf

GROUP = "prefsmith.judges"
"""Entry points of packages: each names a function of an Asked that returns a `LeafJudge`."""
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
    "structured": ("rubric", "pairwise", "checklist"),
}
"""Keys that not every kind has."""
_BRACED = re.compile(r"\{(\w+)\}")
_COLUMN = re.compile(r"[a-z_]+")


class AskedModel(NamedTuple):
    """The model that a judge asks: what is hashed of it, and what the server calls it."""

    target: str
    model: str
    wire_model: str


Resolve = Callable[[str], AskedModel]
"""From TARGET:MODEL to that. Raises UsageError."""


def judge_names() -> list[str]:
    """What the shelf holds, and what packages bring."""
    return sorted({*_shelved(), *(one.name for one in _brought())})


def model_of(use: str, roots: Sequence[Path]) -> str | None:
    """The model that a judge file names for itself, as TARGET:MODEL."""
    if _entry(use) is not None:
        return None
    model = _parsed(_path(use, roots)).model
    return None if model is None else f"{model.target}:{model.name}"


def load_judge(
    use: str, model: tuple[str, str], wire_model: str, roots: Sequence[Path], list_model: AskedModel | None = None
) -> ModelJudge:
    """The judge of that name on the shelf, or of that path; a relative path is looked for in each of `roots`.

    `model` is the identity (target, model) that is hashed, `wire_model` what the server calls the model; `list_model`:
    another one that writes a checklist's questions. Raises UsageError.
    """
    path = _path(use, roots)
    file = _parsed(path)
    _check_keys(file, path)
    asked = AskedModel(*model, wire_model)
    lister = None
    if file.questions is not None:
        lister = _judge("list", file.questions.prompt, file, path, list_model or asked, file.questions.sampling)
    elif list_model is not None:
        raise UsageError(f"judge {use!r} writes no list, so `list_model` is nothing to it; take it out")
    return _judge(file.kind, file.prompt, file, path, asked, file.sampling, lister)


def brought(use: str, model: AskedModel) -> LeafJudge | None:
    """The judge of that name that a package brings; None when none does. Raises UsageError for one that fails."""
    entry = _entry(use)
    if entry is None:
        return None
    try:
        judge: LeafJudge = entry.load()(model)
    except Exception as error:  # the boundary to other people's code
        raise UsageError(
            f"judge {use!r}: the entry point {entry.value!r} of {GROUP} cannot be used: {type(error).__name__}: {error}"
        ) from error
    lacking = [name for name in _protocol() if not hasattr(judge, name)]
    if lacking:
        raise UsageError(
            f"judge {use!r}: what {entry.value!r} returns is no judge: it lacks {', '.join(lacking)} "
            "(prefsmith.judging.judge.LeafJudge says what is needed)"
        )
    return judge


def _protocol() -> list[str]:
    return sorted(name for name in vars(LeafJudge) if not name.startswith("_"))


def _shelved() -> set[str]:
    return {path.stem for path in shelf("judges").glob("*.toml")}


def _brought() -> Sequence[EntryPoint]:
    return tuple(entry_points(group=GROUP))


def _entry(use: str) -> EntryPoint | None:
    if use.endswith(".toml") or use in _shelved():
        return None
    return next((one for one in _brought() if one.name == use), None)


def _judge(
    kind: Kind, prompt_name: str, file: JudgeFile, path: Path, asked: AskedModel, sampling: SamplingPart,
    lister: ModelJudge | None = None,
) -> ModelJudge:  # fmt: skip
    prompt = _prompt_text(prompt_name, path)
    columns = tuple(sorted(set(file.needs) - {LOGPROBS}))
    reads = _checked_reads(kind, prompt_name, prompt, file, columns, path)
    writes = kind == "list"
    return ModelJudge(
        name=path.stem,
        kind=kind,
        prompt=prompt,
        labels=_checked_labels(kind, None if writes else file.choices, path),
        target=asked.target,
        model=asked.model,
        wire_model=asked.wire_model,
        sampling=Sampling(**sampling.model_dump()),
        criteria=() if writes else tuple(file.criteria.items()),
        reads=reads,
        # What an item must have, of what this text reads: the questions need not stand on what the answers do.
        needs=tuple(name for name in columns if name in reads),
        orders=file.orders,
        logprobs=not writes and (file.logprobs or LOGPROBS in file.needs),
        needs_logprobs=not writes and LOGPROBS in file.needs,
        structured=not writes and file.structured,
        samples=file.samples,
        shuffles=file.shuffles,
        lister=lister,
    )


def _path(use: str, roots: Sequence[Path]) -> Path:
    if not use.endswith(".toml"):
        if use in _shelved():
            return shelf("judges") / f"{use}.toml"
        raise UsageError(f"no judge is called {use!r}; {did_you_mean(use, judge_names())}; a path to one ends in .toml")
    tried = [root / use for root in (roots or [Path()])]  # an absolute `use` replaces the root
    for path in tried:
        if path.is_file():
            return path
    raise UsageError(f"no judge file {use!r}; looked for {', '.join(dict.fromkeys(map(str, tried)))}")


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def _parsed(path: Path) -> JudgeFile:
    try:
        raw = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    try:
        return JudgeFile.model_validate(raw)
    except ValidationError as error:
        raise UsageError("\n".join(told(path, error))) from None


def _prompt_text(name: str, judge: Path) -> str:
    """The prompt text, from beside the judge or from the shelf; white space around it is no part of it."""
    tried = list(dict.fromkeys([judge.parent / name, shelf("prompts") / name]))
    for path in tried:
        if path.is_file():
            text = _read(path).strip()
            if not text:
                raise UsageError(f"{path}, the prompt of {judge}, is empty")
            return text
    known = [path.name for path in shelf("prompts").glob("*.txt")]
    raise UsageError(f"{judge}: no prompt text {name!r} beside it or in prompts/; {did_you_mean(name, known)}")


def _check_keys(file: JudgeFile, path: Path) -> None:
    """Raises UsageError for keys that this kind has not, or that do not go together."""
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
    if file.structured and (file.logprobs or LOGPROBS in file.needs):
        raise UsageError(f"{path}: structured replies and logprobs do not go together; leave one of them out")


def _checked_labels(kind: Kind, choices: list[str] | None, path: Path) -> tuple[str, ...]:
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


def _checked_reads(
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
