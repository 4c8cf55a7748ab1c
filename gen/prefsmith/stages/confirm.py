"""The last stage: a pairwise judge must name the chosen side before a pair is written, in both orders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefsmith.ledger.known import Known, OpenItem
from prefsmith.outcomes import Pair
from prefsmith.stages import duel
from prefsmith.stages.calls import Call, Leaf
from prefsmith.stages.entrants import Entrants
from prefsmith.stages.score import Want, calls_for, lacks

Found = Sequence[tuple[OpenItem, tuple[Pair, ...]]]


def missing(leaf: Leaf, of: Entrants, found: Found, known: Known) -> list[Call]:
    return calls_for(wants(leaf, of, found, known), known)


def wants(leaf: Leaf, of: Entrants, found: Found, known: Known) -> Iterator[Want]:
    for item, pairs in found:
        for pair in pairs:
            yield from duel.wants_of(leaf, of, item, *_texts(pair, known))


def _texts(pair: Pair, known: Known) -> tuple[int, int]:
    return known.completions[pair.chosen].text, known.completions[pair.rejected].text


def confirmed(leaf: Leaf, of: Entrants, item: OpenItem, pair: Pair, known: Known) -> bool | None:
    """The judge names the chosen side; None while an answer is missing."""
    if lacks(leaf, item.item):
        return False
    found = duel.result_of(leaf, of, item, *_texts(pair, known), known)
    return None if found is None else found.position == 0
