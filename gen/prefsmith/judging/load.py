"""Judges by name: a file on the shelf, a file at a path, or what a package brings as an entry point.

Invariant: a judge that loads can be asked; its prompt text names only what will be filled in, in the order that keeps
what calls share at the front. Everything wrong with a file is told here. It knows no endpoint.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from prefsmith.errors import UsageError, did_you_mean
from prefsmith.judging.checks import LOGPROBS, check_keys, checked_labels, checked_reads
from prefsmith.judging.file import JudgeFile, SamplingPart, told
from prefsmith.judging.judge import LeafJudge
from prefsmith.judging.leaf import Kind, ModelJudge
from prefsmith.judging.reward import RewardJudge
from prefsmith.records import Sampling
from prefsmith.shelf import shelf

GROUP = "prefsmith.judges"
"""Entry points of packages: each names a function of an Asked that returns a `LeafJudge`."""


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


def kind_of(use: str, roots: Sequence[Path] = ()) -> str | None:
    """The kind of a judge file; None for what is none: a package's judge tells its kind once it has a model."""
    return _parsed(_path(use, roots)).kind if use.endswith(".toml") or use in _shelved() else None


def pairwise_names() -> list[str]:
    """The judges of the shelf that compare two answers, and what packages bring."""
    return [name for name in judge_names() if kind_of(name) in ("pairwise", None)]


def load_judge(
    use: str, model: tuple[str, str], wire_model: str, roots: Sequence[Path], list_model: AskedModel | None = None
) -> ModelJudge:
    """The judge of that name that talks to a model. Raises UsageError, also for a reward model."""
    judge = load_any(use, AskedModel(*model, wire_model), roots, list_model)
    if isinstance(judge, RewardJudge):
        raise UsageError(f"judge {use!r} is a reward model, which cannot be talked to")
    return judge


def load_any(
    use: str, asked: AskedModel, roots: Sequence[Path], list_model: AskedModel | None = None
) -> ModelJudge | RewardJudge:
    """The judge of that name on the shelf, or of that path; a relative path is looked for in each of `roots`.

    `list_model`: another one that writes a checklist's questions. Raises UsageError.
    """
    path = _path(use, roots)
    file = _parsed(path)
    check_keys(file, path)
    lister = None
    if file.questions is not None:
        lister = _judge("list", file.questions.prompt, file, path, list_model or asked, file.questions.sampling)
    elif list_model is not None:
        raise UsageError(f"judge {use!r} writes no list, so `list_model` is nothing to it; take it out")
    if file.kind == "reward":
        return RewardJudge(path.stem, *asked)
    return _judge(file.kind, file.prompt or "", file, path, asked, file.sampling, lister)


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
    reads = checked_reads(kind, prompt_name, prompt, file, columns, path)
    writes = kind == "list"
    return ModelJudge(
        name=path.stem,
        kind=kind,
        prompt=prompt,
        labels=checked_labels(kind, None if writes else file.choices, path),
        target=asked.target,
        model=asked.model,
        wire_model=asked.wire_model,
        sampling=Sampling(**sampling.model_dump()),
        criteria=() if writes else tuple(file.criteria.items()),
        reads=reads,
        # What an item must have, of what this text reads: the questions need not stand on what the answers do.
        needs=tuple(name for name in columns if name in reads),
        orders=file.orders,
        logprobs=not writes and (file.logprobs or file.decisions or LOGPROBS in file.needs),
        needs_logprobs=not writes and LOGPROBS in file.needs,
        structured=not writes and (file.structured or file.decisions),
        decides=not writes and file.decisions,
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
