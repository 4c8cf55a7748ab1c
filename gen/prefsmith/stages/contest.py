"""The stage of a benchmark of judges: every judge about the two answers that each item names; no sampling, no pairs.

A judge that chooses is asked in both orders, all others score the two as they score what was sampled. It knows no gold
label. An item names its answers by the hashes of their texts, so that the same pair is the same in every file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from prefsmith.ledger.ids import reads_hash, text_hash
from prefsmith.ledger.known import Known, OpenItem
from prefsmith.outcomes import Score
from prefsmith.records import Item, canonical
from prefsmith.stages import decide, score
from prefsmith.stages.calls import Call, Leaf, Stage
from prefsmith.stages.entrants import Entrants
from prefsmith.stages.score import Want, lacks

ANSWERS: Final = "answers"
"""The column of an item that holds the hashes of its two texts, a before b."""


def answer_body(text: str) -> bytes:
    """An imported answer as the ledger stores it: the assistant's message."""
    return canonical({"role": "assistant", "content": text})


def by_hash(known: Known) -> dict[str, int]:
    """Text ids by the hashes that items name them by."""
    return {text_hash(body).hex(): text for body, text in known.text_ids.items()}


class Contested(NamedTuple):
    """An item's two answers, as text ids; one where they are the same."""

    a: int
    b: int
    of: Entrants


def contested(item: Item, known: Known, texts: Mapping[str, int]) -> Contested:
    """`texts`: as `by_hash` gives them."""
    named = {texts[one]: bytes.fromhex(one) for one in item.columns[ANSWERS]}
    a, b = (texts[one] for one in item.columns[ANSWERS])
    return Contested(a, b, Entrants.named(b"".join(named.values()), named))


def wants(stage: Stage, pair: Contested, item: OpenItem, known: Known, correct: float) -> Iterator[Want]:
    """Of a judge that chooses AB and BA, whatever its file says of orders; of others what they score both by."""
    leaf = stage.leaf
    if leaf is not None and lacks(leaf, item.item):
        return
    if leaf is not None and leaf.gives == "choice":
        reads = reads_hash(item.item, leaf.reads)
        yield from (Want(leaf, item.item, reads, shown) for shown in ((pair.a, pair.b), (pair.b, pair.a)))
    elif leaf is not None and _scores_each(leaf):
        yield from score.wants_each(leaf, item, pair.of.texts, known)
    else:
        yield from decide.wants(stage, pair.of, item, known, correct)


def scores(stage: Stage, pair: Contested, item: OpenItem, known: Known, correct: float) -> dict[int, Score] | None:
    """By text, None while something is owed."""
    if stage.leaf is not None and _scores_each(stage.leaf):
        return score.verdicts_each(stage.leaf, item, pair.of.texts, known)
    return decide.scores(stage, pair.of, item, known, correct)


def _scores_each(leaf: Leaf) -> bool:
    return leaf.gives == "score" and leaf.lister is None


def missing(stages: Sequence[Stage], items: Sequence[OpenItem], known: Known, correct: float) -> list[Call]:
    """Verdicts that the ledger lacks; equal keys are one call."""
    texts = by_hash(known)
    found = [(item, contested(item.item, known, texts)) for item in items]
    wanted = (want for item, pair in found for stage in stages for want in wants(stage, pair, item, known, correct))
    return score.calls_for(wanted, known)
