"""Which of two texts is better, by a pairwise judge, several of them, or a cheap one with a strong one behind it.

A duel without a verdict has its reason; nobody wins it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from prefsmith.judging.verdicts import both_orders
from prefsmith.ledger.ids import reads_hash
from prefsmith.ledger.known import Known, OpenItem
from prefsmith.outcomes import Choice
from prefsmith.reasons import Reason
from prefsmith.stages.calls import Leaf, Stage
from prefsmith.stages.entrants import Entrants
from prefsmith.stages.score import Want, lacks


def wants(stage: Stage, of: Entrants, item: OpenItem, a: int, b: int, known: Known) -> Iterator[Want]:
    """`a` and `b`: text ids. A cascade wants its second member once the first has not settled it."""
    if stage.leaf is not None:
        yield from wants_of(stage.leaf, of, item, a, b)
        return
    for member in stage.members:
        yield from wants(member, of, item, a, b, known)
        if stage.kind == "cascade":
            found = result(member, of, item, a, b, known)
            if found is None or _sure(found, stage.below):
                return


def wants_of(leaf: Leaf, of: Entrants, item: OpenItem, a: int, b: int) -> Iterator[Want]:
    if not lacks(leaf, item.item):
        reads = reads_hash(item.item, leaf.reads)
        yield from (Want(leaf, item.item, reads, shown) for shown in _orders(leaf, of, a, b))


def _orders(leaf: Leaf, of: Entrants, a: int, b: int) -> Sequence[tuple[int, int]]:
    return (of.ordered(leaf.hash, a, b),) if leaf.seeded else ((a, b), (b, a))


def result(stage: Stage, of: Entrants, item: OpenItem, a: int, b: int, known: Known) -> Choice | None:
    """Position 0 is `a`; None while something is owed."""
    if stage.leaf is not None:
        return result_of(stage.leaf, of, item, a, b, known)
    if stage.kind == "cascade":
        found: Choice | None = None
        for member in stage.members:
            found = result(member, of, item, a, b, known)
            if found is None or _sure(found, stage.below):
                break
        return found
    votes = [result(member, of, item, a, b, known) for member in stage.members]
    told = [vote for vote in votes if vote is not None]
    return majority(told) if len(told) == len(votes) else None


def result_of(leaf: Leaf, of: Entrants, item: OpenItem, a: int, b: int, known: Known) -> Choice | None:
    if lacks(leaf, item.item):
        return Choice(reason=Reason.NO_VERDICT)
    reads, orders = reads_hash(item.item, leaf.reads), _orders(leaf, of, a, b)
    held = [known.verdicts.get((leaf.judge, reads, shown, 0)) for shown in orders]
    choices = [one for one in held if isinstance(one, Choice)]
    if len(choices) < len(held):
        return None
    if leaf.seeded:
        return choices[0] if orders[0] == (a, b) else choices[0].swap()
    return both_orders(*choices)


def by_order(
    leaf: Leaf, of: Entrants, item: OpenItem, a: int, b: int, known: Known
) -> tuple[Choice | None, Choice | None]:
    """What was said with `a` shown first and with `b` shown first, position 0 being `a` in both; None for an order that
    has not been asked."""
    reads = reads_hash(item.item, leaf.reads)
    ab, ba = (known.verdicts.get((leaf.judge, reads, shown, 0)) for shown in ((a, b), (b, a)))
    return (ab if isinstance(ab, Choice) else None), (ba.swap() if isinstance(ba, Choice) else None)


def majority(votes: Sequence[Choice]) -> Choice:
    """What more than half of all say, those without a verdict counted as saying nothing; else the reason that all
    share, or `disagreement`. `p` is the mean of those who know theirs."""
    position, n = Counter(vote.position for vote in votes).most_common(1)[0]
    if position is not None and 2 * n > len(votes):
        known = [vote.p for vote in votes if vote.p is not None]
        return Choice(position, p=sum(known) / len(known) if known else None)
    reasons = {vote.reason for vote in votes}
    (reason,) = reasons if len(reasons) == 1 else (None,)
    return Choice(reason=reason or Reason.DISAGREEMENT)


def _sure(one: Choice, below: float) -> bool:
    if one.position is None:
        return False
    return below == 0 or (one.p is not None and max(one.p, 1 - one.p) >= below)
