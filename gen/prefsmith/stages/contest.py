"""The stage of a benchmark of judges: every judge about the two answers that each item names; no sampling, no pairs.

A judge that is shown two texts is asked in both orders, one that is shown a single text about each of them. It knows no
gold label. An item names its answers by the hashes of their texts, so that the same pair is the same in every file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from prefsmith.ledger.ids import reads_hash, text_hash
from prefsmith.ledger.known import Known, OpenItem, VerdictKey
from prefsmith.records import Item, canonical
from prefsmith.stages.calls import Asked, Call, Graded, Leaf
from prefsmith.stages.score import asked, lacks

ANSWERS: Final = "answers"
"""The column of an item that holds the hashes of its two texts, a before b."""


def answer_body(text: str) -> bytes:
    """An imported answer as the ledger stores it: the assistant's message."""
    return canonical({"role": "assistant", "content": text})


def by_hash(known: Known) -> dict[str, int]:
    """Text ids by the hashes that items name them by."""
    return {text_hash(body).hex(): text for body, text in known.text_ids.items()}


def answers_of(item: Item, texts: Mapping[str, int]) -> tuple[int, int]:
    """The text ids of a and b; `texts`: as `by_hash` gives them."""
    a, b = item.columns[ANSWERS]
    return texts[a], texts[b]


def shown(leaf: Leaf, a: int, b: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """What a judge is shown of a pair, in two questions: AB and BA, or a and b."""
    return ((a, b), (b, a)) if leaf.role == "compare" else ((a,), (b,))


def missing(leaves: Sequence[Leaf], items: Sequence[OpenItem], known: Known) -> list[Call]:
    """Verdicts that the ledger lacks; equal keys are one call."""
    out: dict[VerdictKey, Asked] = {}
    graded: dict[object, Graded] = {}
    texts_of = by_hash(known)
    for open_item in items:
        item = open_item.item
        a, b = answers_of(item, texts_of)
        for leaf in leaves:
            if lacks(leaf, item):
                continue
            reads = reads_hash(item, leaf.reads)
            owed = [
                one for one in dict.fromkeys(shown(leaf, a, b)) if (leaf.judge, reads, one, 0) not in known.verdicts
            ]
            if leaf.role == "grader":
                texts = tuple(text for (text,) in owed)
                before = graded.get((leaf.judge, reads))
                texts = tuple(dict.fromkeys((*(before.texts if before else ()), *texts)))
                if texts:
                    graded[leaf.judge, reads] = Graded(leaf, item, reads, texts)
                continue
            for one in owed:
                call = asked(leaf, item, reads, one, known)
                out.setdefault(call.key, call)
    return [*out.values(), *graded.values()]
