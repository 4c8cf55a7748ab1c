"""All texts in one call, in several seeded orders, whose ranks are averaged: Borda's count, scaled to 0 … 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prefsmith.ledger.ids import reads_hash
from prefsmith.ledger.known import Known, OpenItem
from prefsmith.outcomes import Ranking, Score
from prefsmith.stages.calls import Leaf
from prefsmith.stages.entrants import Entrants
from prefsmith.stages.score import Want, lacks


def wants(leaf: Leaf, of: Entrants, item: OpenItem) -> Iterator[Want]:
    if len(of.texts) > 1 and not lacks(leaf, item.item):
        reads = reads_hash(item.item, leaf.reads)
        yield from (Want(leaf, item.item, reads, shown) for shown in of.shuffles(leaf.hash, leaf.repeats))


def scores(leaf: Leaf, of: Entrants, item: OpenItem, known: Known) -> dict[int, Score] | None:
    wanted = list(wants(leaf, of, item))
    held = [(want.shown, known.verdicts.get(want.key)) for want in wanted]
    rankings = [(shown, one) for shown, one in held if isinstance(one, Ranking)]
    if len(rankings) < len(wanted):
        return None
    return averaged(rankings)


def averaged(rankings: Sequence[tuple[tuple[int, ...], Ranking]]) -> dict[int, Score]:
    """The share of the others that a text stands above, equal ones counted half, averaged over the orders that could be
    read; where none could, the first one's reason. Each ranking comes with the texts in the order shown."""
    read = [(shown, one.order) for shown, one in rankings if one.order is not None]
    if not read:
        return {t: Score(reason=one.reason) for shown, one in rankings[:1] for t in shown}
    total: dict[int, float] = {}
    for shown, order in read:
        for t, value in _values(shown, order).items():
            total[t] = total.get(t, 0.0) + value
    return {t: Score(value / len(read)) for t, value in total.items()}


def _values(shown: Sequence[int], order: Sequence[Sequence[int]]) -> Mapping[int, float]:
    out, below = {}, len(shown)
    for group in order:
        below -= len(group)
        for position in group:
            out[shown[position]] = (below + (len(group) - 1) / 2) / (len(shown) - 1)
    return out
