"""A judge that scores by itself: which of its verdicts are missing, and what its scores make of an item."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from prefsmith.judging.verdicts import Step, next_step
from prefsmith.ledger.ids import reads_hash
from prefsmith.ledger.known import Known, OpenItem, VerdictKey
from prefsmith.outcomes import Key, Pair, Score
from prefsmith.pairing import Scored, pairs
from prefsmith.reasons import Reason
from prefsmith.records import Item
from prefsmith.stages.calls import Asked, Call, Graded, Leaf, Plan

_ASK = Step.ASK


class Want(NamedTuple):
    """A verdict that a stage decides by, whether it is there or not."""

    leaf: Leaf
    item: Item
    reads: bytes
    shown: tuple[int, ...]
    repeat: int = 0

    @property
    def key(self) -> VerdictKey:
        return (self.leaf.judge, self.reads, self.shown, self.repeat)


def missing(leaf: Leaf, items: Sequence[OpenItem], texts: Sequence[int], known: Known) -> list[Call]:
    """Verdicts of this judge on these texts that the ledger lacks; equal keys are one call."""
    if not asks(leaf, texts):
        return []
    if leaf.repeats > 1:
        return calls_for((want for item in items for want in wants(leaf, item, texts, known)), known)
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


def wants(leaf: Leaf, item: OpenItem, texts: Sequence[int], known: Known) -> Iterator[Want]:
    """Each text once, or as often as the judge samples its score; the second time only where the first reply did not
    bring the probabilities of all scores."""
    if not lacks(leaf, item.item) and asks(leaf, texts):
        yield from wants_each(leaf, item, texts, known)


def wants_each(leaf: Leaf, item: OpenItem, texts: Sequence[int], known: Known) -> Iterator[Want]:
    """Also where there is one text alone."""
    reads = reads_hash(item.item, leaf.reads)
    for text in texts:
        first = Want(leaf, item.item, reads, (text,))
        yield first
        held = known.verdicts.get(first.key) if leaf.repeats > 1 else None
        if leaf.repeats > 1 and not (leaf.early and (held is None or _whole(held))):
            yield from (first._replace(repeat=i) for i in range(1, leaf.repeats))


def _whole(one: object) -> bool:
    return isinstance(one, Score) and one.p is not None


def calls_for(wanted: Iterator[Want], known: Known) -> list[Call]:
    """What is not known of it, as calls: once each, texts of a grader together."""
    out: dict[object, Call] = {}
    for want in wanted:
        if want.key in known.verdicts:
            continue
        if want.leaf.role != "grader":
            if want.key not in out:
                out[want.key] = asked(want.leaf, want.item, want.reads, want.shown, known, want.repeat)
            continue
        batch = out.get((want.leaf.judge, want.reads))
        texts = batch.texts if isinstance(batch, Graded) else ()
        if want.shown[0] not in texts:
            graded = Graded(want.leaf, want.item, want.reads, (*texts, want.shown[0]))
            out[want.leaf.judge, want.reads] = graded
    return list(out.values())


def asks(leaf: Leaf, texts: Sequence[int]) -> bool:
    """One text can make no pair; graders cost nothing and complete the pass rates."""
    return len(texts) > 1 or leaf.role == "grader"


def asked(leaf: Leaf, item: Item, reads: bytes, shown: tuple[int, ...], known: Known, repeat: int = 0) -> Asked:
    """The next step for a verdict: the first question, or what follows a reply that could not be read."""
    tried = known.tried.get((leaf.judge, reads, shown, repeat))
    if not tried:
        return Asked(leaf, item, reads, shown, _ASK, None, repeat)
    step = next_step([(Step(t.step), t.reason) for t in tried]) or Step.ASK
    return Asked(leaf, item, reads, shown, step, tried[-1].reply, repeat)


def lacks(leaf: Leaf, item: Item) -> bool:
    """The item has not what this judge cannot do without: it is not asked, and has no verdict of it."""
    return not all(item.has(name) for name in leaf.needs)


def lacking(leaf: Leaf, item: Item) -> str:
    """Why this judge is not asked about an item, "" when it has all that it needs."""
    names = [name for name in leaf.needs if not item.has(name)]
    return f"lacks {' and '.join(names)}" if names else ""


def verdicts_of(leaf: Leaf, item: OpenItem, texts: Sequence[int], known: Known) -> dict[int, Score] | None:
    """The verdicts of this judge by text, None while it is still owed some; what another view asked stays out."""
    if lacks(leaf, item.item) or not asks(leaf, texts):
        return {}
    return verdicts_each(leaf, item, texts, known)


def verdicts_each(leaf: Leaf, item: OpenItem, texts: Sequence[int], known: Known) -> dict[int, Score] | None:
    """Also where there is one text alone."""
    judge, reads, held = leaf.judge, reads_hash(item.item, leaf.reads), known.verdicts
    if leaf.repeats > 1:
        if any(want.key not in held for want in wants_each(leaf, item, texts, known)):
            return None
        return {t: _mean([held.get((judge, reads, (t,), i)) for i in range(leaf.repeats)], leaf.early) for t in texts}
    found = {t: v for t in texts if isinstance(v := held.get((judge, reads, (t,), 0)), Score)}
    return found if len(found) == len(texts) else None


def _mean(samples: Sequence[object], early: bool) -> Score:
    """Of the samples that could be read, which must be more than half; `p` is the share of the commonest value."""
    held = [one for one in samples if isinstance(one, Score)]
    if early and _whole(held[0]):
        return held[0]
    values = [one.value for one in held if one.value is not None]
    if 2 * len(values) <= len(held):
        ((reason, _),) = Counter(one.reason for one in held if one.reason is not None).most_common(1)
        return Score(reason=reason)
    return Score(sum(values) / len(values), p=Counter(values).most_common(1)[0][1] / len(values))


def paired(
    plan: Plan, judge: int, item: OpenItem, alive: Mapping[Key, int], verdicts: Mapping[int, Score]
) -> tuple[Pair, ...] | Reason:
    """What the pairing rule makes of one judge's scores. `alive`: what passed the gates, with the id of its text."""
    if len(alive) < 2:
        return Reason.TOO_FEW
    hashes = plan.sampler_hashes
    scored = [
        Scored(k, hashes[k[0]], v.value)
        for k, text in alive.items()
        if (v := verdicts.get(text)) is not None and v.value is not None
    ]
    if len(scored) < 2:
        return Reason.NO_VERDICT
    return pairs(plan.rule, scored, judge, item.hash)
