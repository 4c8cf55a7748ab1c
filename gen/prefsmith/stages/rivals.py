"""The stages of `eval`: every answer is graded, then each arm's answer meets the first arm's of the same temperature
and index before a judge, in both orders.

Pairs are made of arms here; scores decide nothing about them, and neither does the order of arrival.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prefsmith.ledger.known import Known, OpenItem
from prefsmith.outcomes import Key, Pair
from prefsmith.reasons import Reason
from prefsmith.stages import confirm, decide
from prefsmith.stages.calls import Call, Plan
from prefsmith.stages.entrants import Entrants

Gated = Mapping[Key, Reason | None]
Scores = dict[Key, dict[int, float | Reason]]


def missing(plan: Plan, of: Entrants, items: Sequence[OpenItem], gates: Gated, known: Known) -> list[Call]:
    """The calls of the first of these stages that lacks any; the sampling is complete."""
    for stage in plan.stages:
        if calls := decide.missing(stage, of, items, known, plan.rule.correct):
            return calls
    if plan.confirm is None:
        return []
    met = pairs(plan, gates, known)
    return confirm.missing(plan.confirm, of, [(item, met) for item in items], known)


def settled(
    plan: Plan, of: Entrants, item: OpenItem, gates: Gated, known: Known
) -> tuple[tuple[Pair, ...], Reason | None, Scores]:
    """The pairs whose later arm won in both orders, or why there are none, and the grader's score of every answer."""
    scores: Scores = {}
    for stage in plan.stages:
        verdicts = decide.scores(stage, of, item, known, plan.rule.correct)
        if verdicts is None:
            return (), Reason.INCOMPLETE, scores
        # Also of completions that stay out as identical: they have the verdict of their text.
        for key, completion in known.completions.items():
            if (v := verdicts.get(completion.text)) is not None:
                scores.setdefault(key, {})[stage.judge] = v.reason or v.value or 0.0
    if plan.confirm is None:
        return (), Reason.TIE, scores
    met = pairs(plan, gates, known)
    if confirm.missing(plan.confirm, of, [(item, met)], known):
        return (), Reason.INCOMPLETE, scores
    won = (pair for pair in met if confirm.confirmed(plan.confirm, of, item, pair, known))
    kept = tuple(pair._replace(confirmed=True) for pair in won)
    return kept, None if kept else Reason.NOT_CONFIRMED, scores


def meetings(plan: Plan) -> Iterator[tuple[int, int, Key, Key]]:
    """(arm, temperature's place, that arm's completion, the first arm's) of every pair of the plan."""
    for arm, samplers in enumerate(plan.arms[1:], 1):
        for place, (first, other) in enumerate(zip(plan.arms[0], samplers, strict=True)):
            for i in range(min(plan.samplers[first], plan.samplers[other])):
                yield arm, place, (other, i), (first, i)


def pairs(plan: Plan, gates: Gated, known: Known) -> tuple[Pair, ...]:
    """Those that a judge can be asked about: two whole answers that differ. `chosen` is the later arm's."""
    at = known.completions
    return tuple(
        Pair(mine, theirs, 0.0, 0.0, 0, "arms")
        for _, _, mine, theirs in meetings(plan)
        if whole(gates, mine) and whole(gates, theirs) and at[mine].text != at[theirs].text
    )


def whole(gates: Gated, key: Key) -> bool:
    """It is there, and no gate holds it back but that it says what another one says."""
    return key in gates and gates[key] in (None, Reason.IDENTICAL)
