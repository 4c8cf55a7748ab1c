"""The last stage: a pairwise judge must name the chosen side in both orders before a pair is written."""

from __future__ import annotations

from collections.abc import Sequence

from prefsmith.judging.verdicts import both_orders
from prefsmith.ledger.ids import reads_hash
from prefsmith.ledger.known import Known, OpenItem, VerdictKey
from prefsmith.outcomes import Choice, Pair
from prefsmith.stages.calls import Call, Leaf
from prefsmith.stages.score import asked, lacks


def missing(leaf: Leaf, found: Sequence[tuple[OpenItem, tuple[Pair, ...]]], known: Known) -> list[Call]:
    out: dict[VerdictKey, Call] = {}
    for open_item, chosen in found:
        if lacks(leaf, open_item.item):
            continue
        reads = reads_hash(open_item.item, leaf.reads)
        for pair in chosen:
            for shown in _orders(pair, known):
                key = (leaf.judge, reads, shown, 0)
                if key not in known.verdicts:
                    out.setdefault(key, asked(leaf, open_item.item, reads, shown, known))
    return list(out.values())


def _orders(pair: Pair, known: Known) -> tuple[tuple[int, int], tuple[int, int]]:
    a, b = known.completions[pair.chosen].text, known.completions[pair.rejected].text
    return (a, b), (b, a)


def confirmed(leaf: Leaf, item: OpenItem, pair: Pair, known: Known) -> bool | None:
    """Both orders name the chosen side; None while an answer is missing."""
    if lacks(leaf, item.item):
        return False
    reads = reads_hash(item.item, leaf.reads)
    ab, ba = (known.verdicts.get((leaf.judge, reads, shown, 0)) for shown in _orders(pair, known))
    if not isinstance(ab, Choice) or not isinstance(ba, Choice):
        return None
    return both_orders(ab, ba).position == 0
