"""The scoring stages: which verdicts of one judge are missing, and what its scores make of an item."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prefsmith.judging.verdicts import Step, next_step
from prefsmith.ledger.ids import reads_hash
from prefsmith.ledger.known import Known, OpenItem
from prefsmith.outcomes import Judged, Key, Pair, Score
from prefsmith.pairing import Scored, pairs
from prefsmith.reasons import Reason
from prefsmith.records import Item
from prefsmith.stages.calls import Asked, Call, Graded, Leaf, Plan


def missing(leaf: Leaf, items: Sequence[OpenItem], texts: Sequence[int], known: Known) -> list[Call]:
    """Verdicts of this judge on these texts that the ledger lacks; equal keys are one call."""
    if not asks(leaf, texts):
        return []
    out: dict[object, Call] = {}
    for open_item in items:
        item = open_item.item
        if lacks(leaf, item):
            continue
        reads = reads_hash(item, leaf.reads)
        unjudged = [t for t in texts if (leaf.judge, reads, (t,), 0) not in known.verdicts]
        if not unjudged:
            continue
        if leaf.role == "grader":
            out.setdefault((leaf.judge, reads), Graded(leaf, item, reads, tuple(unjudged)))
            continue
        for text in unjudged:
            call = asked(leaf, item, reads, (text,), known)
            out.setdefault(call.key, call)
    return list(out.values())


def asks(leaf: Leaf, texts: Sequence[int]) -> bool:
    """One text can make no pair; graders cost nothing and complete the pass rates."""
    return len(texts) > 1 or leaf.role == "grader"


def asked(leaf: Leaf, item: Item, reads: bytes, shown: tuple[int, ...], known: Known) -> Asked:
    """The next step for a verdict: the first question, or what follows a reply that could not be read."""
    tried = known.tried.get((leaf.judge, reads, shown, 0), ())
    step = next_step([(Step(t.step), t.reason) for t in tried]) or Step.ASK
    return Asked(leaf, item, reads, shown, step, tried[-1].reply if tried else None)


def lacks(leaf: Leaf, item: Item) -> bool:
    """The item has not what this judge cannot do without: it is not asked, and has no verdict of it."""
    return any(not item.read((name,)) for name in leaf.needs)


def verdicts_of(leaf: Leaf, item: OpenItem, keys: Iterable[Key], known: Known) -> dict[Key, Judged]:
    """The verdicts of this judge on completions that it is asked about; what another view asked stays out."""
    if lacks(leaf, item.item):
        return {}
    reads = reads_hash(item.item, leaf.reads)
    verdicts = ((k, known.verdicts.get((leaf.judge, reads, (known.completions[k].text,), 0))) for k in keys)
    return {k: v for k, v in verdicts if v is not None}


def paired(plan: Plan, leaf: Leaf, item: OpenItem, alive: Sequence[Key], known: Known) -> tuple[Pair, ...] | Reason:
    hashes = plan.sampler_hashes
    scored = [
        Scored(k, hashes[k[0]], v.value)
        for k, v in verdicts_of(leaf, item, alive, known).items()
        if isinstance(v, Score) and v.value is not None
    ]
    if len(alive) < 2:
        return Reason.TOO_FEW
    if len(scored) < 2:
        return Reason.NO_VERDICT
    return pairs(plan.rule, scored, leaf.judge, item.hash)
