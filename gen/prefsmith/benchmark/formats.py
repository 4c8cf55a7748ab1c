"""The files that benchmarks of judges come in: which columns name each, and what a row of it means.

A shape is known by its columns alone. Where the good answer always stands in one place, the sides are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from prefsmith.benchmark.contest import Contest, drawn
from prefsmith.benchmark.rows import Row, rows_of
from prefsmith.benchmark.shapes import (
    Misfit,
    alpaca_eval,
    auto_j,
    chosen_rejected,
    judge_bench,
    llmbar,
    mt_bench,
    own,
    panda_lm,
    reward_bench_2,
    rm_bench,
)
from prefsmith.errors import UsageError, did_you_mean
from prefsmith.records import Json

Shape = Callable[[int, dict[str, Json]], Iterator[Contest]]


@dataclass(frozen=True, slots=True)
class Format:
    """`columns`: all of them stand in each row; `lists`: of these, those that hold lists; `drawn`: the first side is
    the good one, so sides are drawn; `merged`: several rows rate one pair."""

    name: str
    columns: tuple[str, ...]
    read: Shape
    lists: tuple[str, ...] = ()
    drawn: bool = False
    merged: bool = False

    def fits(self, row: dict[str, Json]) -> bool:
        if self.name == "own" and not ({"prompt", "messages"} & set(row) and {"label", "labels"} & set(row)):
            return False
        return all(name in row for name in self.columns) and all(isinstance(row[n], list) for n in self.lists)


# The order is that of recognition: the more columns a format asks for, the earlier.
FORMATS: Final = (
    Format("own", ("id", "a", "b"), own),
    Format("judgebench", ("pair_id", "question", "response_A", "response_B", "label"), judge_bench),
    Format("mt-bench", ("question_id", "model_a", "model_b", "winner", "turn", "conversation_a", "conversation_b"),
           mt_bench, merged=True),
    Format("pandalm", ("instruction", "input", "response1", "response2", "annotator1"), panda_lm),
    Format("auto-j", ("prompt", "response 1", "response 2", "label"), auto_j),
    Format("alpaca-eval", ("instruction", "output_1", "output_2", "preference"), alpaca_eval, merged=True),
    Format("llmbar", ("input", "output_1", "output_2", "label"), llmbar),
    Format("rewardbench-2", ("prompt", "chosen", "rejected", "num_correct", "subset"), reward_bench_2,
           ("chosen", "rejected"), drawn=True),
    Format("rm-bench", ("prompt", "chosen", "rejected", "domain"), rm_bench, ("chosen", "rejected"), drawn=True),
    Format("rewardbench", ("prompt", "chosen", "rejected", "chosen_model", "rejected_model"), chosen_rejected,
           drawn=True),
    Format("trl", ("chosen", "rejected"), chosen_rejected, drawn=True),
)  # fmt: skip
_BY_NAME: Final = {one.name: one for one in FORMATS}
NAMES: Final = ("auto", *_BY_NAME)


def contests_of(path: Path, name: str = "auto", seed: int = 0) -> Iterator[Contest]:
    """Every pair of the file, each id once. Raises UsageError with the line of what does not fit."""
    if name != "auto" and name not in _BY_NAME:
        raise UsageError(f"--format {name!r}: no such format; {did_you_mean(name, NAMES)}")
    rows = rows_of(path)
    first = next(rows, None)
    if first is None:
        raise UsageError(f"{path} holds no rows; a benchmark needs pairs with gold labels")
    chosen = _BY_NAME[name] if name != "auto" else _recognised(path, first)
    found = _read(path, chosen, first, rows)
    seen: dict[str, int] = {}
    for contest in _merged(found) if chosen.merged else found:
        if (before := seen.setdefault(contest.id, contest.line)) != contest.line:
            raise UsageError(
                f"{path}:{contest.line}: the id {contest.id!r} is on line {before} too; verdicts are told apart by it, "
                "so give each pair its own"
            )
        yield drawn(seed, contest) if chosen.drawn else contest


def recognised(path: Path) -> str:
    """The name of the file's format. Raises UsageError for one that is not known."""
    return _recognised(path, next(rows_of(path))).name


def _recognised(path: Path, first: Row) -> Format:
    line, row = first
    for one in FORMATS:
        if one.fits(row):
            return one
    known = "; ".join(f"{one.name} ({', '.join(one.columns)})" for one in FORMATS)
    raise UsageError(
        f"{path}:{line}: this shape is not known; its columns are {', '.join(row) or 'none'}. Known: {known}. Rename "
        "the columns to `id, prompt, a, b, label`, or name a format with --format"
    )


def _read(path: Path, of: Format, first: Row, rows: Iterator[Row]) -> Iterator[Contest]:
    row: Row | None = first
    while row is not None:
        line, value = row
        if lacking := [name for name in of.columns if name not in value]:
            raise UsageError(
                f"{path}:{line}: {of.name} needs {', '.join(map(repr, lacking))}; the row has {', '.join(value)}"
            )
        try:
            yield from of.read(line, value)
        except Misfit as error:
            raise UsageError(f"{path}:{line}: {error}") from None
        row = next(rows, None)


def _merged(found: Iterator[Contest]) -> Iterator[Contest]:
    """Rows of one pair by several raters, in either order of its sides, as one contest with all their ratings."""
    held: dict[tuple[str, frozenset[tuple[str | None, str]]], Contest] = {}
    for one in found:
        sides = frozenset([(one.model_a, one.a), (one.model_b, one.b)])
        kept = held.get((one.id, sides))
        if kept is None:
            held[one.id, sides] = one
            continue
        turned = kept.a != one.a
        added = tuple(None if r is None else -r if turned else r for r in one.ratings)
        held[one.id, sides] = replace(kept, ratings=(*kept.ratings, *added))
    # The id of a rated row names its prompt; of several pairs on it the line tells them apart.
    n_of: dict[str, int] = {}
    for one in held.values():
        n_of[one.id] = n_of.get(one.id, 0) + 1
    for one in held.values():
        yield one if n_of[one.id] == 1 else replace(one, id=f"{one.id}:{one.line}")
