"""How much the judging of an item can be: calls of each judge, texts in one of them, turns of models that share memory.

Upper bounds, with every text judged and every reply read at once; what gates, verdicts and probabilities spare is not
known before.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import factorial

from prefsmith.errors import UsageError
from prefsmith.judging.leaf import MOST_LISTED
from prefsmith.judging.parse import LETTERS
from prefsmith.stages.calls import Leaf, Plan, Stage
from prefsmith.stages.tournament import MOST_ROUND_ROBIN, n_minmax, n_rounds


def most_calls(plan: Plan) -> Iterator[tuple[Leaf, int]]:
    """Of each leaf, for one item."""
    for stage in plan.stages:
        yield from _calls(stage, len(plan.keys))
    if plan.confirm is not None:
        yield plan.confirm, _orders(plan.confirm) * plan.rule.max_per_prompt


def _calls(stage: Stage, k: int) -> Iterator[tuple[Leaf, int]]:
    leaf = stage.leaf
    if stage.kind == "tournament":
        n = n_minmax(k) if stage.rule == "minmax" else k * (k - 1) // 2
        yield from ((one, n * _orders(one)) for one in stage.leaves)
    elif leaf is None:
        for member in stage.members:
            yield from _calls(member, k)
    elif leaf.lister is not None:
        yield leaf.lister, 1
        yield leaf, k * MOST_LISTED
    elif leaf.gives == "ranking":
        yield leaf, min(leaf.repeats, factorial(min(k, 6)))
    else:
        yield leaf, k * leaf.repeats


def _orders(leaf: Leaf) -> int:
    return 1 if leaf.seeded else 2


def shown_by(leaf: Leaf, k: int) -> int:
    """Texts in one call."""
    return {"score": 1, "choice": 2, "ranking": k, "list": 0}[leaf.gives]


def turns(stage: Stage, k: int) -> list[str]:
    """The models of a stage in the order in which they are needed: one that asks several about each round of a
    tournament needs them again in the next."""
    lanes = list(dict.fromkeys(leaf.lane for leaf in stage.leaves if leaf.lane))
    return lanes * (n_rounds(k) if stage.kind == "tournament" and len(lanes) > 1 else 1)


def check_sizes(plan: Plan) -> None:
    """Raises UsageError for a stage that cannot take so many completions."""
    k = 2 if plan.contests else len(plan.keys)
    for part in (part for stage in plan.stages for part in stage.whole):
        if part.rule == "roundrobin" and k > MOST_ROUND_ROBIN:
            raise UsageError(
                f"{part.name}: a round robin of {k} completions is {k * (k - 1) // 2} duels; up to "
                f"{MOST_ROUND_ROBIN} are taken, for more write `tournament: minmax`",
                ("judge",),
            )
        if part.leaf is not None and part.leaf.gives == "ranking" and k > len(LETTERS):
            raise UsageError(f"{part.name!r} ranks {len(LETTERS)} answers at most, {k} are sampled", ("judge",))
