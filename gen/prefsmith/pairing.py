"""Chosen and rejected from scores: pure functions that see neither texts nor the order of arrival.

Whatever is equal is decided by a seeded draw over the completion's own hash, never by its position. A candidate
without a score takes no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from prefsmith.ledger.ids import draw
from prefsmith.outcomes import Key, Pair
from prefsmith.reasons import Reason

Strategy = Literal["best_worst", "correct_incorrect"]


@dataclass(frozen=True, slots=True)
class Rule:
    """`min_margin` in the deciding judge's units; `quantile` (0 to 1) instead is applied over a whole run, later."""

    strategy: Strategy = "best_worst"
    min_margin: float = 0.0
    quantile: float | None = None
    min_chosen: float | None = None
    correct: float = 1.0
    max_per_prompt: int = 1
    seed: int = 0


class Scored(NamedTuple):
    """A completion that passed the gates, with the hash of its sampler, which outlives any ledger's integers."""

    key: Key
    of_sampler: bytes
    score: float


_TIE_DRAW: Final = b"pair"


def pairs(rule: Rule, candidates: Sequence[Scored], judge: int, of_item: bytes) -> tuple[Pair, ...] | Reason:
    """The pairs of one item, best first, or why there is none. Needs two scored candidates."""
    drawn = sorted(candidates, key=lambda c: draw(rule.seed, _TIE_DRAW, of_item, c.of_sampler, c.key[1]))
    if rule.strategy == "correct_incorrect":
        right = [c for c in drawn if c.score >= rule.correct]
        wrong = [c for c in drawn if c.score < rule.correct]
        if not wrong:
            return Reason.ALL_RIGHT
        if not right:
            return Reason.ALL_WRONG
        # Each side was shuffled by one draw; the second side needs its own, or both picks would hang together.
        wrong.sort(key=lambda c: draw(rule.seed, b"wrong", of_item, c.of_sampler, c.key[1]))
        sides = list(zip(right, wrong, strict=False))
    else:
        best = sorted(drawn, key=lambda c: -c.score)
        worst = sorted(drawn, key=lambda c: c.score)
        sides = [(b, w) for b, w in zip(best, worst, strict=True) if b.score > w.score]
        if not sides:
            return Reason.TIE
    return _kept(rule, sides, judge)


def _kept(rule: Rule, sides: Sequence[tuple[Scored, Scored]], judge: int) -> tuple[Pair, ...] | Reason:
    wide = [(c, r) for c, r in sides if c.score - r.score >= rule.min_margin]
    if not wide:
        return Reason.BELOW_MARGIN
    good = [(c, r) for c, r in wide if rule.min_chosen is None or c.score >= rule.min_chosen]
    if not good:
        return Reason.CHOSEN_TOO_LOW
    return tuple(Pair(c.key, r.key, c.score, r.score, judge, rule.strategy) for c, r in good[: rule.max_per_prompt])


def quantile_cut(margins: Sequence[float], q: float) -> float:
    """The margin below which a share `q` of this run's pairs lies (nearest rank); 0 where there is none."""
    ordered = sorted(margins)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else 0.0
