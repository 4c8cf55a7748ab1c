"""A checklist: questions written once for an item, each of them asked of each text; the score is the share of yes.

One question without an answer, and the text has no score: the mean of the others would be of another list.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from prefsmith.ledger.ids import reads_hash
from prefsmith.ledger.known import Known, OpenItem
from prefsmith.outcomes import Artifact, Score
from prefsmith.records import Item
from prefsmith.stages.calls import Leaf
from prefsmith.stages.score import Want, asks, lacks


def wants(leaf: Leaf, item: OpenItem, texts: Sequence[int], known: Known) -> Iterator[Want]:
    """The list; once it is there, its questions about each text, those of one text together: they share a prefix."""
    if lacks(leaf, item.item) or not asks(leaf, texts):
        return
    listing = _listing(leaf, item.item)
    yield listing
    for question in _questions(listing, known) or ():
        about = _about(item.item, question)
        yield from (Want(leaf, about, reads_hash(about, leaf.reads), (text,)) for text in texts)


def scores(leaf: Leaf, item: OpenItem, texts: Sequence[int], known: Known) -> dict[int, Score] | None:
    if lacks(leaf, item.item) or not asks(leaf, texts):
        return {}
    listing = _listing(leaf, item.item)
    questions = _questions(listing, known)
    if questions is None:
        return None
    if not questions:
        return {text: Score(reason=known.verdicts[listing.key].reason) for text in texts}
    reads = [reads_hash(_about(item.item, question), leaf.reads) for question in questions]
    out = {}
    for text in texts:
        held = [known.verdicts.get((leaf.judge, of, (text,), 0)) for of in reads]
        answers = [one for one in held if isinstance(one, Score)]
        if len(answers) < len(held):
            return None
        reason = next((one.reason for one in answers if one.reason is not None), None)
        values = [one.value or 0.0 for one in answers]
        out[text] = Score(reason=reason) if reason else Score(sum(values) / len(values))
    return out


def _listing(leaf: Leaf, item: Item) -> Want:
    assert leaf.lister is not None
    return Want(leaf.lister, item, reads_hash(item, leaf.lister.reads), ())


def _questions(listing: Want, known: Known) -> Sequence[str] | None:
    """None while nobody has written them, none at all when nobody could."""
    found = known.verdicts.get(listing.key)
    return None if not isinstance(found, Artifact) else found.lines or ()


def _about(item: Item, question: str) -> Item:
    """The item as the answering judge reads it: the question is a column, and so in the key of its verdict."""
    return replace(item, columns={**item.columns, "question": question})
