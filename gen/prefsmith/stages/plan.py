"""`needed(plan, prompt, known) -> calls`: the one function that decides what is asked.

Pure: it sees a prompt with its items and what the ledger holds of it, in no order, and answers which calls are
missing. A stage looks at another one only when that one is complete, so the set of calls does not depend on what
arrived first; a resume is the same function on a fuller ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from prefsmith.gates import gated
from prefsmith.ledger.known import Known, OpenItem, Work
from prefsmith.outcomes import Key, Pair, Score
from prefsmith.reasons import Reason
from prefsmith.stages import confirm, contest, decide, grid, rivals, score
from prefsmith.stages.calls import Call, Plan
from prefsmith.stages.entrants import Entrants


class Settled(NamedTuple):
    """What came of one item; exactly one of `pairs` and `reason` is empty. `scores`: by completion, then judge id."""

    pairs: tuple[Pair, ...]
    reason: Reason | None
    scores: Mapping[Key, Mapping[int, float | Reason]]


def needed(plan: Plan, work: Work, known: Known) -> list[Call]:
    """The calls of the first stage that lacks any; none when the prompt is complete."""
    if plan.contests:
        return contest.missing(plan.stages, work.items, known, plan.rule.correct)
    if sampling := grid.missing(plan, known):
        return [*sampling] if plan.samples else []
    gates = gates_of(plan, work, known)
    of, correct = entrants(plan, work, gates, known), plan.rule.correct
    if plan.arms:
        return rivals.missing(plan, of, work.items, gates, known)
    pairless: Sequence[OpenItem] = work.items
    found: list[tuple[OpenItem, tuple[Pair, ...]]] = []
    for stage in plan.stages:
        if missing := decide.missing(stage, of, pairless, known, correct):
            return missing
        if stage is plan.stages[-1] and plan.confirm is None:
            break  # nobody asks what became of it
        still: list[OpenItem] = []
        for item in pairless:
            verdicts = decide.scores(stage, of, item, known, correct) or {}
            result = score.paired(plan, stage.judge, item, of.alive, verdicts)
            if isinstance(result, Reason):
                still.append(item)
            else:
                found.append((item, result))
        pairless = still
    return confirm.missing(plan.confirm, of, found, known) if plan.confirm else []


def settle(plan: Plan, work: Work, known: Known, gates: Mapping[Key, Reason | None]) -> dict[int, Settled]:
    """What came of each item (by id), from what is known now; a missing answer is `incomplete`."""
    if plan.contests:
        return {item.id: _contested(plan, item, known) for item in work.items}
    if grid.is_open(plan, known):
        return {item.id: Settled((), Reason.INCOMPLETE, {}) for item in work.items}
    of = entrants(plan, work, gates, known)
    if plan.arms:
        return {item.id: Settled(*rivals.settled(plan, of, item, gates, known)) for item in work.items}
    return {item.id: _settled(plan, item, of, known) for item in work.items}


def _contested(plan: Plan, item: OpenItem, known: Known) -> Settled:
    """An item of a benchmark makes no pair."""
    owed = contest.missing(plan.stages, [item], known, plan.rule.correct)
    return Settled((), Reason.INCOMPLETE if owed else Reason.BENCHMARK, {})


def gates_of(plan: Plan, work: Work, known: Known) -> dict[Key, Reason | None]:
    """The gate of each completion of the view, None for those that pass."""
    n = len(known.completions)  # they only grow, and a Known belongs to one plan
    if known.gated is None or known.gated[0] != n:
        known.gated = (n, gated(plan.gates, known, plan.sampler_hashes, plan.seed, work.hash))
    return known.gated[1]


def entrants(plan: Plan, work: Work, gates: Mapping[Key, Reason | None], known: Known) -> Entrants:
    """The texts to decide among: those of the completions that passed, by cell and index."""
    held = known.completions
    alive = {key: held[key].text for key in plan.keys if gates.get(key, Reason.INCOMPLETE) is None}
    return Entrants(work.hash, alive, plan.sampler_hashes)


def _settled(plan: Plan, item: OpenItem, of: Entrants, known: Known) -> Settled:
    scores: dict[Key, dict[int, float | Reason]] = {}
    reason: Reason = Reason.NO_VERDICT
    chosen: tuple[Pair, ...] = ()
    for stage in plan.stages:
        verdicts: Mapping[int, Score] | None = {}
        for judge, verdicts in decide.told(stage, of, item, known, plan.rule.correct):
            if verdicts is None:
                return Settled((), Reason.INCOMPLETE, scores)
            # Also of completions that stay out as identical: they have the verdict of their text.
            for k, c in known.completions.items():
                if (v := verdicts.get(c.text)) is not None:
                    scores.setdefault(k, {})[judge] = v.reason or v.value or 0.0
        result = score.paired(plan, stage.judge, item, of.alive, verdicts or {})
        if not isinstance(result, Reason):
            chosen = result
            break
        # A later judge without a verdict does not hide what an earlier one said.
        reason = result if result is not Reason.NO_VERDICT else reason
    if not chosen:
        return Settled((), reason, scores)
    if plan.confirm is None:
        return Settled(chosen, None, scores)
    agreed = (p for p in chosen if confirm.confirmed(plan.confirm, of, item, p, known))
    kept = tuple(p._replace(confirmed=True) for p in agreed)
    return Settled(kept, None if kept else Reason.NOT_CONFIRMED, scores)
