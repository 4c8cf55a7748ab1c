"""Chosen and rejected from scores: pure functions that see neither texts nor the order of arrival.

Whatever is equal is decided by a seeded draw over the completion's own hash, never by its position. A candidate
without a score takes no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal, NamedTuple

from prefsmith.ledger.ids import draw
from prefsmith.outcomes import Key, Pair
from prefsmith.reasons import Reason

Strategy = Literal["best_worst", "correct_incorrect", "arms"]


@dataclass(frozen=True, slots=True)
class Rule:
    """`min_margin` in the deciding judge's units; `quantile` (percent) instead is applied over a whole run, later."""

    strategy: Strategy = "best_worst"
    min_margin: float = 0.0
    quantile: int | None = None
    min_chosen: float | None = None
    correct: float = 1.0
    max_per_prompt: int = 1
    seed: int = 0


class Scored(NamedTuple):
    """A completion that passed the gates, with the hash of its sampler, which outlives any ledger's integers."""

    key: Key
    of_sampler: bytes
    score: float


_BY_HASH = attrgetter("of_sampler", "key")
"""A sampler has one hash: of one of them the index decides."""


def pairs(rule: Rule, candidates: Sequence[Scored], judge: int, of_item: bytes) -> tuple[Pair, ...] | Reason:
    """The pairs of one item, best first, or why there is none. Needs two scored candidates."""
    if rule.strategy == "correct_incorrect":
        right = [c for c in candidates if c.score >= rule.correct]
        wrong = [c for c in candidates if c.score < rule.correct]
        if not wrong:
            return Reason.ALL_RIGHT
        if not right:
            return Reason.ALL_WRONG
        # All of them, since a pair that misses the margin makes room for the next.
        ends = zip(_drawn(rule, b"right", of_item, right), _drawn(rule, b"wrong", of_item, wrong), strict=False)
        sides = list(ends)
    else:
        by_score: dict[float, list[Scored]] = {}
        for c in candidates:
            by_score.setdefault(c.score, []).append(c)
        if len(by_score) == 1:
            return Reason.TIE
        best, worst = _ranked(rule, of_item, by_score, True), _ranked(rule, of_item, by_score, False)
        sides = [(b, w) for b, w in zip(best, worst, strict=True) if b.score > w.score]
    return _kept(rule, sides, judge)


def _ranked(rule: Rule, of_item: bytes, by_score: dict[float, list[Scored]], best: bool) -> list[Scored]:
    """As many as pairs are wanted, from the best or from the worst on; equal ones in a drawn order."""
    out: list[Scored] = []
    for score in sorted(by_score, reverse=best):
        # Each side has its own draw, or equals of both ends would be picked hand in hand.
        out += _drawn(rule, b"best" if best else b"worst", of_item, by_score[score], rule.max_per_prompt)
        if len(out) >= rule.max_per_prompt:
            break
    return out[: rule.max_per_prompt]


def _drawn(rule: Rule, what: bytes, of_item: bytes, equals: list[Scored], most: int | None = None) -> list[Scored]:
    """The first `most` of a seeded shuffle of completions that nothing else tells apart.

    It starts from the order of their hashes, which is the same in every ledger and says nothing of temperature.
    """
    if len(equals) < 2:
        return equals
    left = sorted(equals, key=_BY_HASH)
    state = draw(rule.seed, what, of_item)
    out: list[Scored] = []
    while left and len(out) != most:
        state, i = divmod(state, len(left))
        out.append(left.pop(i))
        if state < len(left) ** 2:  # too few bits left to pick evenly
            state = draw(rule.seed, what, of_item, len(left))
    return out


def _kept(rule: Rule, sides: Sequence[tuple[Scored, Scored]], judge: int) -> tuple[Pair, ...] | Reason:
    wide = [(c, r) for c, r in sides if c.score - r.score >= rule.min_margin]
    if not wide:
        return Reason.BELOW_MARGIN
    good = [(c, r) for c, r in wide if rule.min_chosen is None or c.score >= rule.min_chosen]
    if not good:
        return Reason.CHOSEN_TOO_LOW
    return tuple(Pair(c.key, r.key, c.score, r.score, judge, rule.strategy) for c, r in good[: rule.max_per_prompt])


def quantile_cut(margins: Sequence[float], percent: int) -> float:
    """The margin below which so many percent of this run's pairs lie (nearest rank); 0 where there is none."""
    ordered = sorted(margins)
    return ordered[min(len(ordered) - 1, percent * len(ordered) // 100)] if ordered else 0.0
