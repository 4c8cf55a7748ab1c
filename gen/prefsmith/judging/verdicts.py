"""What follows a judge's reply: the next step after an unreadable one, and one result of two orders.

Invariant: pure; a missing verdict stays missing, with its reason, and never turns into a tie, a side or a number.
It does not know prompts, models or the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from prefsmith.outcomes import Choice
from prefsmith.reasons import Reason


class Step(StrEnum):
    """How a verdict is asked for: the question, a reminder of the format, another sample, more room to answer."""

    ASK = "ask"
    REPAIR = "repair"
    FRESH = "fresh"
    LONGER = "longer"


_UNREADABLE = frozenset({Reason.UNPARSEABLE, Reason.AMBIGUOUS, Reason.LOW_MASS})


def next_step(done: Sequence[tuple[Step, Reason]]) -> Step | None:
    """The step to take after those that ended without a verdict, in their order; None when there is none left.

    Unreadable: repair, then a fresh sample. Cut off: once more with room for twice as many tokens. Refused, filtered
    or refused by the server: nothing. The verdict's reason is that of the last step. A step whose reason is owed was
    not answered, and is taken again.
    """
    if not done:
        return Step.ASK
    step, reason = done[-1]
    taken = {step for step, _ in done}
    if reason.owed:
        return step
    if reason is Reason.REPLY_TRUNCATED:
        return None if Step.LONGER in taken else Step.LONGER
    if reason in _UNREADABLE:
        return next((s for s in (Step.REPAIR, Step.FRESH) if s not in taken), None)
    return None


def both_orders(ab: Choice, ba: Choice) -> Choice:
    """One result of a pair shown as (a, b) and as (b, a), in the first order's positions.

    Agreement keeps the choice (and the mean of `p`, where both have one). Disagreement, a tie against a side
    included, is `inconsistent_orders`. A missing verdict gives its reason, the first order's before the second's.
    """
    for one in (ab, ba):
        if one.position is None:
            return Choice(reason=one.reason)
    back = ba.swap()
    if ab.position != back.position:
        return Choice(reason=Reason.INCONSISTENT_ORDERS)
    p = None if ab.p is None or back.p is None else (ab.p + back.p) / 2
    return Choice(ab.position, p=p)
