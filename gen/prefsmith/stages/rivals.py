"""The pairs of a contest: each arm's answer beside the first arm's, at the same temperature and index.

Scores decide nothing here, and neither does the order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prefsmith.ledger.known import Known
from prefsmith.outcomes import Key, Pair
from prefsmith.reasons import Reason
from prefsmith.stages.calls import Plan


def meetings(plan: Plan) -> Iterator[tuple[int, int, Key, Key]]:
    """(arm, temperature's place, that arm's completion, the first arm's) of every pair of the plan."""
    for arm, samplers in enumerate(plan.arms[1:], 1):
        for place, (first, other) in enumerate(zip(plan.arms[0], samplers, strict=True)):
            for i in range(min(plan.samplers[first], plan.samplers[other])):
                yield arm, place, (other, i), (first, i)


def whole(gates: Mapping[Key, Reason | None], key: Key) -> bool:
    """It is there, and no gate holds it back but that it says what another one says."""
    return key in gates and gates[key] in (None, Reason.IDENTICAL)


def pairs(plan: Plan, gates: Mapping[Key, Reason | None], known: Known) -> tuple[Pair, ...]:
    """Those that a judge can be asked about: two whole answers that differ. `chosen` is the later arm's."""
    return tuple(
        Pair(mine, theirs, 0.0, 0.0, 0, "arms")
        for _, _, mine, theirs in meetings(plan)
        if whole(gates, mine)
        and whole(gates, theirs)
        and known.completions[mine].text != known.completions[theirs].text
    )
