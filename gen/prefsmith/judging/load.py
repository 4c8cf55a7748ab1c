"""Judge files: from a name on the shelf, or a path, to a judge. Everything wrong with a file is told here.

Invariant: a judge that loads can be asked; its prompt text names only what will be filled in, in the order that keeps
what calls share at the front. It reads files, and knows no endpoint.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefsmith.errors import UsageError, did_you_mean
from prefsmith.judging.leaf import SHOWN, Kind, ModelJudge
from prefsmith.records import Sampling
from prefsmith.shelf import shelf

_DIGITS = tuple("123456789")
_CHOICES: dict[Kind, tuple[tuple[str, ...], ...]] = {
    "rubric": (_DIGITS,),
    "pairwise": (("A", "B", "TIE"), ("A", "B")),
}
_BRACED = re.compile(r"\{(\w+)\}")
_COLUMN = re.compile(r"[a-z_]+")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Sampling(_Strict):
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.0
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Room for the reasons and the verdict line; a reply that is cut off is asked for once more with twice as much."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0


class _JudgeFile(_Strict):
    kind: Kind
    """rubric: one answer, 1 to 9. pairwise: which of two."""
    prompt: str
    """A text file beside this one, or on the shelf prompts/."""
    choices: list[str] | None = None
    """Words that the verdict line may hold; by default all that the kind knows."""
    orders: Literal["both"] = "both"
    """pairwise: ask in both orders; two that disagree are no verdict."""
    needs: list[str] = []
    """Columns without which an item cannot be judged."""
    criteria: dict[str, str] = {}
    """Fills {criteria}, one line each."""
    sampling: _Sampling = _Sampling()


def judge_names() -> list[str]:
    """What the shelf holds."""
    return sorted(path.stem for path in shelf("judges").glob("*.toml"))


def load_judge(use: str, model: tuple[str, str], wire_model: str, roots: Sequence[Path]) -> ModelJudge:
    """The judge of that name on the shelf, or of that path; a relative path is looked for in each of `roots`.

    `model` is the identity (target, model) that is hashed, `wire_model` what the server calls the model. Raises
    UsageError.
    """
    path = _path(use, roots)
    file = _parsed(path)
    prompt = _prompt_text(file.prompt, path)
    reads = _checked_reads(file, prompt, path)
    return ModelJudge(
        name=path.stem,
        kind=file.kind,
        prompt=prompt,
        labels=_checked_labels(file, path),
        target=model[0],
        model=model[1],
        wire_model=wire_model,
        sampling=Sampling(**file.sampling.model_dump()),
        criteria=tuple(file.criteria.items()),
        reads=reads,
        needs=tuple(sorted(set(file.needs))),
        orders=file.orders,
    )


def _path(use: str, roots: Sequence[Path]) -> Path:
    if not use.endswith(".toml"):
        names = judge_names()
        if use in names:
            return shelf("judges") / f"{use}.toml"
        raise UsageError(f"no judge is called {use!r}; {did_you_mean(use, names)}; a path to one ends in .toml")
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


def _parsed(path: Path) -> _JudgeFile:
    try:
        raw = tomllib.loads(_read(path))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}") from None
    try:
        return _JudgeFile.model_validate(raw)
    except ValidationError as error:
        raise UsageError("\n".join(_told(path, error))) from None


def _told(path: Path, error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        *above, last = (str(part) for part in problem["loc"])
        where = f"{path}: " + "".join(f"[{part}] " for part in above)
        if problem["type"] == "extra_forbidden":
            known = (_Sampling if above else _JudgeFile).model_fields
            yield f"{where}unknown key {last!r}; {did_you_mean(last, known)}"
        elif problem["type"] == "literal_error":
            known_words = get_args(Kind) if last == "kind" else ("both",)
            yield f"{where}{last} = {problem['input']!r}; {did_you_mean(str(problem['input']), known_words)}"
        elif problem["type"] == "missing":
            yield f"{where}{last!r} is missing"
        else:
            yield f"{where}{last} = {problem['input']!r}: {problem['msg']}"


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


def _checked_labels(file: _JudgeFile, path: Path) -> tuple[str, ...]:
    allowed = _CHOICES[file.kind]
    labels = allowed[0] if file.choices is None else tuple(file.choices)
    if labels in allowed:
        return labels
    if file.kind == "rubric":
        long = next((label for label in labels if label not in _DIGITS), None)
        why = f"{long!r} is not one digit from 1 to 9; " if long is not None else ""
        hint = "where 10 is on a scale, the token of 1 also begins it; leave `choices` out for 1 to 9"
    else:
        why, hint = "", "a pairwise judge says A for the first answer shown and B for the second, and TIE if it may"
    expected = " or ".join(str(list(one)) for one in allowed)
    raise UsageError(f"{path}: choices = {list(labels)!r}; {why}expected {expected}: {hint}")


def _checked_reads(file: _JudgeFile, prompt: str, path: Path) -> tuple[str, ...]:
    """The columns that the prompt text names; raises UsageError for a text that cannot be filled or read."""
    where = f"{path}: prompt {file.prompt!r}"
    shown = SHOWN[file.kind]
    named = _BRACED.findall(prompt)
    columns = {"reference", "category", *file.needs}
    if bad := next((name for name in file.needs if not _COLUMN.fullmatch(name)), None):
        raise UsageError(f"{path}: needs {bad!r}; a column in a prompt text has a name of a-z and _ only")
    for name in named:
        if name not in {"prompt", "criteria", *shown, *columns}:
            known = did_you_mean(name, {"prompt", "criteria", *shown, *columns})
            raise UsageError(f"{where} holds {{{name}}}; {known}; list a column of the items under `needs`")
    for name in ("prompt", *shown):
        if named.count(name) != 1:
            raise UsageError(f"{where} must hold {{{name}}} exactly once, not {named.count(name)} times")
    for name in file.needs:
        if name not in named:
            raise UsageError(f"{path}: needs {name!r}, but its prompt {file.prompt!r} does not hold {{{name}}}")
    if ("criteria" in named) != bool(file.criteria):
        raise UsageError(f"{where} and [criteria] belong together: give both {{criteria}} and the table, or neither")
    if tuple(named[-len(shown) :]) != shown or "criteria" in named[named.index("prompt") :]:
        order = ", ".join(f"{{{name}}}" for name in shown)
        raise UsageError(
            f"{where}: {{criteria}} comes before {{prompt}}, and {order} last, so that calls share a prefix"
        )
    if file.kind == "rubric" and "orders" in file.model_fields_set:
        raise UsageError(f"{path}: orders belongs to a pairwise judge; a rubric is shown one answer")
    if "VERDICT:" not in prompt:
        raise UsageError(f"{where} must ask for a last line `VERDICT: …`, which is what is read")
    return tuple(sorted(set(named) & columns))
