"""Recorded verdicts of a file, as votes over a benchmark's items.

A row is `{id, judge, order: AB|BA, verdict: A|B|TIE|null, …}` of a pairwise judge (A is the answer shown first), or
`{id, judge, scores: [of a, of b], …}` of a pointwise one. What does not fit is told with its line, before anything is
written; a judge that leaves pairs out is refused, for its figures would be about other items than they say.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Final

import numpy as np

from prefsmith.agreement.votes import ABSENT, NONE, Codes, Ids, Reals, Usage, Votes
from prefsmith.benchmark.rows import rows_of
from prefsmith.errors import UsageError, did_you_mean
from prefsmith.records import Json

_VERDICTS: Final[Mapping[Json, int]] = {"A": 1, "B": -1, "TIE": 0, "tie": 0, "Tie": 0, None: NONE}
_ORDERS: Final[Mapping[Json, int]] = {"AB": 0, "BA": 1}
_SHAPE: Final = "a row is {id, judge, order: AB|BA, verdict: A|B|TIE|null} or {id, judge, scores: [of a, of b]}"
_UNSAID: Final = "not_said"
_KEYS: Final = frozenset(
    ("id", "judge", "order", "verdict", "p", "repeat", "scores", "scale", "reason", "usage", "text")
)
_USAGE: Final = ("calls", "prompt_tokens", "completion_tokens", "seconds", "usd")


@dataclass(slots=True)
class _Told:
    """One judge's rows, one entry each. `vote` is about the answers already: turned where b was shown first."""

    pointwise: bool
    scale: str | None
    first_line: int
    place: array[int] = field(default_factory=lambda: array("q"))
    order: array[int] = field(default_factory=lambda: array("b"))
    vote: array[int] = field(default_factory=lambda: array("b"))
    repeat: array[int] = field(default_factory=lambda: array("l"))
    line: array[int] = field(default_factory=lambda: array("q"))
    p: array[float] = field(default_factory=lambda: array("d"))
    scores: array[float] = field(default_factory=lambda: array("d"))
    reasons: list[str | None] = field(default_factory=list)
    usage: dict[str, float] = field(default_factory=dict)
    told: Counter[str] = field(default_factory=Counter)


def votes_of(path: Path, ids: Mapping[str, int]) -> list[Votes]:
    """One Votes a judge, in the order of their first rows. Raises UsageError with the line of what is wrong."""
    judges: dict[str, _Told] = {}
    for line, row in rows_of(path):
        try:
            _add(judges, line, row, ids)
        except _Wrong as error:
            raise UsageError(f"{path}:{line}: {error}") from None
    if not judges:
        raise UsageError(f"{path} holds no verdicts; {_SHAPE}")
    names = list(ids)
    return [_votes(path, judge, told, names) for judge, told in judges.items()]


class _Wrong(Exception):
    pass


def _add(judges: dict[str, _Told], line: int, row: dict[str, Json], ids: Mapping[str, int]) -> None:
    _refuse_unknown(row, _KEYS)
    of, judge = row.get("id"), row.get("judge")
    if of is None or not isinstance(judge, str) or not judge:
        raise _Wrong(f"no id or no judge, but {', '.join(row) or 'nothing'}; {_SHAPE}")
    place = ids.get(of if isinstance(of, str) else str(of))
    if place is None:
        hint = did_you_mean(str(of), ids) if len(ids) <= 20 else "take the verdicts that belong to this file"
        raise _Wrong(f"the benchmark has no pair {str(of)[:80]!r}; {hint}")
    scores = row.get("scores")
    told = judges.get(judge)
    if told is None:
        told = judges[judge] = _Told(scores is not None, row.get("scale"), line)
    elif told.pointwise != (scores is not None):
        kinds = ("verdicts", "scores") if scores is not None else ("scores", "verdicts")
        raise _Wrong(
            f"judge {judge!r} gave {kinds[0]} from line {told.first_line} on and {kinds[1]} here: one judge has one "
            "scale; give each its own name"
        )
    elif told.scale != row.get("scale"):
        raise _Wrong(
            f"judge {judge!r} has the scale {row.get('scale')!r} here and {told.scale!r} on line {told.first_line}; "
            "scores on two scales cannot stand in one column: give each its own judge name"
        )
    if scores is not None:
        _add_scores(told, scores, row)
    else:
        _add_verdict(told, row)
    repeat = row.get("repeat", 0)
    if not isinstance(repeat, int):
        raise _Wrong(f"repeat is {repeat!r}, expected a whole number from 0")
    told.place.append(place)
    told.repeat.append(repeat)
    told.line.append(line)
    told.reasons.append((row.get("reason") or _UNSAID) if told.vote[-1] == NONE else None)
    if (usage := row.get("usage")) is not None:
        _add_usage(told, usage)


def _refuse_unknown(given: Mapping[str, Json], known: Collection[str], of: str = "") -> None:
    """A key that nobody reads may be one that was meant to count."""
    for key in given:
        if key not in known:
            raise _Wrong(f"unknown key {of + key!r}; {did_you_mean(key, known)}")


def _add_verdict(told: _Told, row: dict[str, Json]) -> None:
    order, said = _ORDERS.get(row.get("order")), row.get("verdict")
    if order is None:
        raise _Wrong(f"order is {row.get('order')!r}, expected 'AB' (a was shown first) or 'BA'")
    if "verdict" not in row:
        raise _Wrong(
            "no verdict is given: write `verdict` as 'A' (the answer shown first), 'B', 'TIE', or null for none"
        )
    vote = _VERDICTS.get(said) if said is None or isinstance(said, str) else None
    if vote is None:
        raise _Wrong(
            f"verdict is {said!r}, expected 'A' (the answer shown first), 'B', 'TIE', or null for no verdict"
            + ("; a number is a score: write it as `scores`" if isinstance(said, int | float) else "")
        )
    p = row.get("p")
    if p is not None and (isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1):
        raise _Wrong(f"p is {p!r}, expected the probability of the answer shown first, from 0 to 1, or nothing")
    told.order.append(order)
    told.vote.append(-vote if order and vote != NONE else vote)
    told.p.append(float("nan") if p is None else 1 - p if order else p)


def _add_scores(told: _Told, scores: Json, row: dict[str, Json]) -> None:
    if row.get("order") is not None or row.get("verdict") is not None:
        raise _Wrong("scores stand beside an order or a verdict; scores are of a and b, whichever was shown first")
    if not isinstance(scores, list) or len(scores) != 2:
        raise _Wrong(f"scores is {scores!r}, expected [score of a, score of b]")
    for score in scores:
        if score is not None and (isinstance(score, bool) or not isinstance(score, int | float) or not isfinite(score)):
            raise _Wrong(f"a score is {score!r}, expected a finite number, or null for no verdict")
    a, b = scores
    told.order.append(0)
    told.vote.append(NONE if a is None or b is None else (a > b) - (a < b))
    told.scores.extend(float("nan") if s is None else float(s) for s in scores)


def _add_usage(told: _Told, usage: Json) -> None:
    if not isinstance(usage, dict):
        raise _Wrong(f"usage is {usage!r}, expected an object such as {{'prompt_tokens': 900, 'usd': 0.002}}")
    _refuse_unknown(usage, _USAGE, "usage.")
    for name in _USAGE:
        value = usage.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value) or value < 0:
            raise _Wrong(f"usage.{name} is {value!r}, expected a number from 0")
        told.usage[name] = told.usage.get(name, 0) + value
        told.told[name] += 1


# -- columns


def _votes(path: Path, judge: str, told: _Told, names: Sequence[str]) -> Votes:
    n = len(names)
    place, order = np.array(told.place, np.int64), np.array(told.order, np.int64)
    repeat, line = np.array(told.repeat, np.int64), np.array(told.line, np.int64)
    vote = np.array(told.vote, np.int8)
    by_question = np.lexsort((line, repeat, order, place))
    question = (place * 2 + order)[by_question]
    repeated = question[1:] == question[:-1]
    _refuse_twins(path, judge, repeat[by_question], line[by_question], repeated)
    first = by_question[np.r_[True, ~repeated]]
    columns = np.full((n, 2), ABSENT, np.int8)
    columns[place[first], order[first]] = vote[first]
    _refuse_gaps(path, judge, columns, names)
    p_ab, p_ba = (None, None) if told.pointwise else _by_order(np.array(told.p), place, order, first, n)
    scores = None
    if told.pointwise:
        scores = np.full((n, 2), np.nan)
        scores[place[first]] = np.array(told.scores).reshape(-1, 2)[first]
    asked = (columns != ABSENT).any(axis=0)
    counted = Counter(told.reasons[i] for i in first.tolist()) if (vote == NONE).any() else Counter[str | None]()
    return Votes(
        judge,
        columns[:, 0],
        columns[:, 1] if asked[1] else None,
        p_ab,
        p_ba,
        scores,
        reasons={why: k for why, k in counted.items() if why is not None},
        repeated=_agreed(vote[by_question], question),
        usage=_usage(told, len(first)),
    )


def _by_order(p: Reals, place: Ids, order: Ids, first: Ids, n: int) -> tuple[Reals | None, Reals | None]:
    if np.isnan(p).all():
        return None, None
    held = np.full((n, 2), np.nan)
    held[place[first], order[first]] = p[first]
    return held[:, 0], held[:, 1]


def _refuse_twins(path: Path, judge: str, repeat: Ids, line: Ids, repeated: Codes | Ids) -> None:
    twin = np.flatnonzero(repeated & (repeat[1:] == repeat[:-1]))
    if len(twin):
        before, after = int(line[twin[0]]), int(line[twin[0] + 1])
        raise UsageError(
            f"{path}:{after}: judge {judge!r} gave this verdict on line {before} already; remove one, or number "
            "answers to the same question with `repeat`: 0, 1, …"
        )


def _refuse_gaps(path: Path, judge: str, columns: Codes, names: Sequence[str]) -> None:
    """Every pair has both orders, or every pair has one: nothing else can be summed up by one rule."""
    held = (columns != ABSENT).sum(axis=1)
    if (held == held[0]).all() and held[0] > 0:
        return
    bare = np.flatnonzero(held == 0)
    if len(bare):
        raise UsageError(
            f"{path}: judge {judge!r} has no verdict, in either order, on {len(bare):,} of {len(names):,} pairs "
            f"(first {names[bare[0]]!r}); add them, with `verdict: null` where it gave none, or take a file of the "
            "pairs that it saw"
        )
    single = np.flatnonzero(held == 1)
    raise UsageError(
        f"{path}: judge {judge!r} has both orders of some pairs and one of {len(single):,} (first "
        f"{names[single[0]]!r}); add the other order, with `verdict: null` where it gave none"
    )


def _agreed(vote: Codes, question: Ids) -> tuple[int, int]:
    """Over questions asked more than once: pairs of repeats with the same verdict, and all pairs; no verdict agrees
    with none. `vote` and `question` in the order of the questions."""
    if len(np.unique(question)) == len(question):
        return 0, 0
    _, code = np.unique(question, return_inverse=True)
    sizes = np.bincount(code)
    same = sum(int((k * (k - 1) // 2).sum()) for v in (1, 0, -1) for k in [np.bincount(code, weights=vote == v)])
    return same, int((sizes * (sizes - 1) // 2).sum())


def _usage(told: _Told, n_verdicts: int) -> Usage:
    of, told_by = told.usage, told.told
    return Usage(
        n_verdicts,
        int(of.get("calls", 0)),
        int(of.get("prompt_tokens", 0)),
        int(of.get("completion_tokens", 0)),
        max(told_by["prompt_tokens"], told_by["completion_tokens"]),
        of.get("seconds", 0.0),
        told_by["seconds"],
        of.get("usd", 0.0),
        told_by["usd"],
    )
