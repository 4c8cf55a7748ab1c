"""Each arm against the first one before a judge, in both orders: wins, ties, losses and the win rate.

A win or a loss is one that both orders name. Two orders that disagree are a tie here, and counted: the answers are so
close that their place decided. A cut-off or empty answer loses against a whole one without a question; equal texts tie.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from prefsmith.agreement.intervals import clustered, resampled
from prefsmith.evaluation.arms import Arm
from prefsmith.folder import Folder
from prefsmith.ledger.known import OpenItem
from prefsmith.outcomes import Key
from prefsmith.reasons import Reason
from prefsmith.records import Json
from prefsmith.stages import duel
from prefsmith.stages.calls import Leaf, Plan
from prefsmith.stages.entrants import Entrants
from prefsmith.stages.plan import entrants
from prefsmith.stages.rivals import meetings, whole
from prefsmith.stages.view import Seen, seen

SEED: Final = 0
NO_VERDICT: Final = "without_verdict"
_WORTH = {"won": 1.0, "lost": 0.0, "won_unasked": 1.0, "lost_unasked": 0.0}
"""What a duel adds to the win rate; every other outcome is a tie. Without a verdict it is left out."""

UNASKED: Final = {
    "won_unasked": "won, for the other answer is cut off or empty",
    "lost_unasked": "lost, for it is cut off or empty",
    "both_unfit": "a tie, for both are cut off or empty",
    "same_text": "a tie, for both say the same",
}
"""Outcomes that no judge was asked for, in words."""

At = tuple[int, int]
"""(arm, temperature's place)."""
_SAID: Final[Mapping[int | None, str]] = {0: "won", 1: "lost", -1: "tie"}


class Met(NamedTuple):
    """An arm's answer `i` beside the first arm's. `first`, `second`: what the judge said with that arm's
    answer in that place; None where it was not asked, or gave no verdict."""

    arm: int
    place: int
    i: int
    outcome: str
    first: str | None
    second: str | None


def meetings_of(folder: Folder) -> Iterator[list[Met]]:
    """Item by item, in the order of `folder.records()`; empty while something is owed, or where no judge compares."""
    plan = folder.view.plan
    for one in seen(folder.ledger.db, folder.view, bodies=False):
        for item in one.work.items:
            owed = plan.confirm is None or one.settled[item.id].reason is Reason.INCOMPLETE
            yield [] if owed or plan.confirm is None else list(_met(one, item, plan.confirm, plan))


def _met(one: Seen, item: OpenItem, leaf: Leaf, plan: Plan) -> Iterator[Met]:
    of, at = entrants(plan, one.work, one.gates, one.known), one.known.completions
    for arm, place, mine, theirs in meetings(plan):
        if mine in at and theirs in at:
            outcome = _outcome(one, item, leaf, of, mine, theirs)
            said = duel.by_order(leaf, of, item, at[mine].text, at[theirs].text, one.known)
            asked = () if outcome in UNASKED else said
            first, second = [None if v is None else _SAID.get(v.position) for v in asked] or (None, None)
            yield Met(arm, place, mine[1], outcome, first, second)


def duels_of(folder: Folder, arms: Sequence[Arm]) -> list[list[Json]]:
    """By temperature, each later arm against the first; empty lists where no judge compares."""
    plan, places = folder.view.plan, range(len(arms[0].samplers))
    if plan.confirm is None:
        return [[] for _ in places]
    counts = {(arm, place): Counter[str]() for arm in range(1, len(arms)) for place in places}
    rows: dict[At, list[tuple[int, float]]] = {at: [] for at in counts}
    for one in seen(folder.ledger.db, folder.view, bodies=False):
        for item in one.work.items:
            if one.settled[item.id].reason is Reason.INCOMPLETE:
                continue
            worth: dict[At, list[float]] = {}
            for met in _met(one, item, plan.confirm, plan):
                at = (met.arm, met.place)
                counts[at][met.outcome] += 1
                if met.outcome != NO_VERDICT:
                    worth.setdefault(at, []).append(_WORTH.get(met.outcome, 0.5))
            for at, of in worth.items():
                rows[at].append((one.work.id, sum(of) / len(of)))
    return [[_told(arms, arm, counts[arm, place], rows[arm, place]) for arm in range(1, len(arms))] for place in places]


def _outcome(one: Seen, item: OpenItem, leaf: Leaf, of: Entrants, mine: Key, theirs: Key) -> str:
    fit = (whole(one.gates, mine), whole(one.gates, theirs))
    if not all(fit):
        return "won_unasked" if fit[0] else "lost_unasked" if fit[1] else "both_unfit"
    a, b = (one.known.completions[key].text for key in (mine, theirs))
    if a == b:
        return "same_text"
    both = duel.result_of(leaf, of, item, a, b, one.known)
    if both is None:
        return NO_VERDICT
    if both.position is None:
        return "orders_disagree" if both.reason is Reason.INCONSISTENT_ORDERS else NO_VERDICT
    return _SAID[both.position]


def _told(arms: Sequence[Arm], arm: int, counts: Counter[str], rows: list[tuple[int, float]]) -> Json:
    worth = np.array([w for _, w in rows], dtype=np.float64)
    cluster = np.unique(np.array([p for p, _ in rows], dtype=np.int64), return_inverse=True)[1].astype(np.int64)
    drawn = resampled(cluster, [np.ones(len(rows)), worth], SEED)
    value = float(worth.mean()) if len(rows) else None
    interval = None if value is None else clustered(value, drawn.shares(1, 0), drawn.n_clusters)
    return {
        "arm": arms[arm].name,
        "over": arms[0].name,
        "n_items": len(rows),
        "win_rate": {"value": value, "interval": interval},
        "outcomes": dict(counts.most_common()),
    }
