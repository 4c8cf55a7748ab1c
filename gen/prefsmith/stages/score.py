"""The scoring stages: which verdicts of one judge are missing, and what its scores make of an item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from prefsmith.judging.verdicts import Step, next_step
from prefsmith.ledger.ids import reads_hash
from prefsmith.ledger.known import Known, OpenItem
from prefsmith.outcomes import Key, Pair, Score
from prefsmith.pairing import Scored, pairs
from prefsmith.reasons import Reason
from prefsmith.records import Item
from prefsmith.stages.calls import Asked, Call, Graded, Leaf, Plan

_ASK = Step.ASK


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
    tried = known.tried.get((leaf.judge, reads, shown, 0))
    if not tried:
        return Asked(leaf, item, reads, shown, _ASK, None)
    step = next_step([(Step(t.step), t.reason) for t in tried]) or Step.ASK
    return Asked(leaf, item, reads, shown, step, tried[-1].reply)


def lacks(leaf: Leaf, item: Item) -> bool:
    """The item has not what this judge cannot do without: it is not asked, and has no verdict of it."""
    return not all(item.has(name) for name in leaf.needs)


def verdicts_of(leaf: Leaf, item: OpenItem, texts: Sequence[int], known: Known) -> dict[int, Score] | None:
    """The verdicts of this judge by text, None while it is still owed some; what another view asked stays out."""
    if lacks(leaf, item.item) or not asks(leaf, texts):
        return {}
    judge, reads, held = leaf.judge, reads_hash(item.item, leaf.reads), known.verdicts
    found = {t: v for t in texts if isinstance(v := held.get((judge, reads, (t,), 0)), Score)}
    return found if len(found) == len(texts) else None


def paired(
    plan: Plan, leaf: Leaf, item: OpenItem, alive: Sequence[Key], known: Known, verdicts: Mapping[int, Score]
) -> tuple[Pair, ...] | Reason:
    """What the pairing rule makes of one judge's scores."""
    if len(alive) < 2:
        return Reason.TOO_FEW
    hashes, completions = plan.sampler_hashes, known.completions
    scored = [
        Scored(k, hashes[k[0]], v.value)
        for k in alive
        if (v := verdicts.get(completions[k].text)) is not None and v.value is not None
    ]
    if len(scored) < 2:
        return Reason.NO_VERDICT
    return pairs(plan.rule, scored, leaf.judge, item.hash)
