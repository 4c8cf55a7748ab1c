"""The best and the worst of k texts by duels: ⌈3k/2⌉ − 2 of them instead of k(k − 1)/2, or all of them for few texts.

Each round's duels are asked together. Of a duel without a winner the one that the bracket names first goes on, and
then the tournament shows less: best and worst have scores only when wins lead from the one to the other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from prefsmith.outcomes import Choice, Score
from prefsmith.reasons import Reason

MOST_ROUND_ROBIN: Final = 4
"""Texts; all pairs of five are ten duels, where a bracket takes six."""
Duel = Callable[[int, int], Choice | None]
"""Of two texts; None while it is owed."""


@dataclass(slots=True)
class Played:
    """`owed`: duels whose result the tournament waits for; `scores` when it waits for none."""

    owed: list[tuple[int, int]] = field(default_factory=list)
    fought: list[tuple[int, int]] = field(default_factory=list)
    scores: dict[int, Score] = field(default_factory=dict)


class _Table:
    """Results so far."""

    def __init__(self, duel: Duel) -> None:
        self.duel, self.played = duel, Played()
        self.found: dict[tuple[int, int], Choice] = {}

    def round(self, pairs: Sequence[tuple[int, int]]) -> bool:
        """Play these; False when some are owed."""
        for a, b in pairs:
            self.played.fought.append((a, b))
            result = self.duel(a, b)
            if result is None:
                self.played.owed.append((a, b))
            else:
                self.found[a, b] = result
        return not self.played.owed

    def ahead(self, a: int, b: int) -> tuple[int, int]:
        """The two with the one that goes up first."""
        return (b, a) if self.found[a, b].position == 1 else (a, b)


def minmax(order: Sequence[int], duel: Duel) -> Played:
    """`order`: the texts as the bracket takes them."""
    table = _Table(duel)
    first = list(zip(order[::2], order[1::2], strict=False))
    if len(order) < 2 or not table.round(first):
        return table.played
    odd = [order[-1]] if len(order) % 2 else []
    up = [table.ahead(a, b)[0] for a, b in first] + odd
    down = [table.ahead(a, b)[1] for a, b in first] + odd
    while len(up) > 1 or len(down) > 1:
        rising = list(zip(up[::2], up[1::2], strict=False))
        falling = list(zip(down[::2], down[1::2], strict=False))
        if not table.round([*rising, *falling]):
            return table.played
        up = [table.ahead(a, b)[0] for a, b in rising] + ([up[-1]] if len(up) % 2 else [])
        down = [table.ahead(a, b)[1] for a, b in falling] + ([down[-1]] if len(down) % 2 else [])
    table.played.scores = _ends(up[0], down[0], table.found)
    return table.played


def n_minmax(k: int) -> int:
    """Duels of a bracket: each text but the best loses one, each but the worst wins one, and the first round serves
    both ends."""
    return (3 * k + 1) // 2 - 2 if k > 1 else 0


def n_rounds(k: int) -> int:
    return 1 + max(0, ((k + 1) // 2 - 1).bit_length()) if k > 1 else 0


def _ends(best: int, worst: int, found: dict[tuple[int, int], Choice]) -> dict[int, Score]:
    wins = [(a, b) if one.position == 0 else (b, a) for (a, b), one in found.items() if one.position in (0, 1)]
    if best != worst and _leads(best, worst, wins):
        return {best: Score(1.0), worst: Score(0.0)}
    reasons = Counter(one.reason for one in found.values() if one.reason is not None)
    if not reasons and best != worst:
        return {best: Score(0.5), worst: Score(0.5)}  # ties alone stand between them
    ((reason, _),) = reasons.most_common(1) or [(Reason.DISAGREEMENT, 0)]
    return {text: Score(reason=reason) for text in (best, worst)}


def _leads(start: int, end: int, wins: Sequence[tuple[int, int]]) -> bool:
    reached, new = {start}, {start}
    while new:
        new = {b for a, b in wins if a in new} - reached
        reached |= new
    return end in reached


def round_robin(order: Sequence[int], duel: Duel) -> Played:
    """Every text against every other: its score is the share of its settled duels that it won, ties counted half."""
    table = _Table(duel)
    if not table.round(list(combinations(order, 2))):
        return table.played
    for text in order:
        values, reasons = [], Counter[Reason]()
        for (a, b), one in table.found.items():
            if text not in (a, b):
                continue
            if one.reason is not None:
                reasons[one.reason] += 1
            else:
                values.append(0.5 if one.position == -1 else float((a, b)[one.position or 0] == text))
        if values:
            table.played.scores[text] = Score(sum(values) / len(values))
        elif reasons:
            table.played.scores[text] = Score(reason=reasons.most_common(1)[0][0])
    return table.played
