"""`needed` under every kind of luck: replies in any order, short ones, failures, unreadable verdicts and kills.

Whatever the schedule, the same calls are asked and the same content is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from random import Random
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st
from world import Kept, answer, carried_out, prompts

from prefsmith.gates import Gates
from prefsmith.ledger.ids import reads_hash
from prefsmith.ledger.known import Completion, Known, Work
from prefsmith.outcomes import Choice, Score
from prefsmith.pairing import Rule
from prefsmith.reasons import Reason
from prefsmith.records import Item
from prefsmith.stages import grid, score
from prefsmith.stages.calls import Asked, Call, Cell, Gives, Leaf, Plan, Sampled, Stage
from prefsmith.stages.plan import gates_of, needed, settle

COLUMNS = st.sampled_from([(), ("reference",), None])


@st.composite
def leaves(draw: st.DrawFn, ids: Iterator[int], gives: Gives = "score", role: str = "judge", **more: Any) -> Leaf:
    j = next(ids)
    reads, needs = draw(COLUMNS), draw(st.sampled_from([(), (), ("reference",)]))
    return Leaf(j, b"%016d" % j, f"{gives} {j}", role, reads, needs, gives=gives, **more)  # type: ignore[arg-type]


@st.composite
def duels(draw: st.DrawFn, ids: Iterator[int]) -> Stage:
    kind = draw(st.sampled_from(["leaf", "leaf", "panel", "cascade"]))
    if kind == "leaf":
        return Stage.of(draw(leaves(ids, "choice", seeded=draw(st.booleans()))))
    members = [Stage.of(draw(leaves(ids, "choice"))) for _ in range(draw(st.integers(2, 3)))]
    return over(kind, members, "majority", draw, ids)


def over(kind: Any, members: list[Stage], rule: str, draw: st.DrawFn, ids: Iterator[int]) -> Stage:
    below = draw(st.sampled_from([0.0, 0.6])) if kind == "cascade" else 0.0
    j = next(ids)
    return Stage(kind, j, b"%016d" % j, kind, None, tuple(members), rule, below)


@st.composite
def stages(draw: st.DrawFn, ids: Iterator[int], depth: int = 1) -> Stage:
    kinds = ["grader", "score", "samples", "listwise", "checklist", "tournament", *["panel", "cascade"] * depth]
    kind = draw(st.sampled_from(kinds))
    if kind in ("panel", "cascade"):
        members = [draw(stages(ids, 0)) for _ in range(draw(st.integers(2, 3)))]
        return over(kind, members, draw(st.sampled_from(["mean", "majority"])), draw, ids)
    if kind == "tournament":
        return over("tournament", [draw(duels(ids))], draw(st.sampled_from(["minmax", "roundrobin"])), draw, ids)
    if kind == "listwise":
        return Stage.of(draw(leaves(ids, "ranking", repeats=draw(st.integers(1, 3)))))
    if kind == "checklist":
        lister = draw(leaves(ids, "list"))
        return Stage.of(replace(draw(leaves(ids, lister=lister)), reads=("question",)))
    if kind == "samples":
        return Stage.of(draw(leaves(ids, repeats=draw(st.integers(2, 3)), early=draw(st.booleans()))))
    return Stage.of(draw(leaves(ids, role="grader" if kind == "grader" else "judge")))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    ids = count(1)
    cells = tuple(
        Cell(s, bytes([s]) * 16, None, "m", draw(st.integers(1, 5)), "", 8) for s in range(1, draw(st.integers(2, 4)))
    )
    deciding = tuple(draw(st.lists(stages(ids), min_size=1, max_size=3)))
    confirm = draw(leaves(ids, "choice", "confirm", seeded=draw(st.booleans()))) if draw(st.booleans()) else None
    strategy, most = draw(st.sampled_from(["best_worst", "correct_incorrect"])), draw(st.integers(1, 2))
    rule = Rule(strategy, draw(st.sampled_from([0.0, 0.5])), max_per_prompt=most)  # type: ignore[arg-type]
    return Plan(cells, deciding, confirm, Gates(), rule, draw(st.integers(0, 3)))


SCHEDULES = st.lists(st.integers(0, 2**32), min_size=2, max_size=3, unique=True)


@settings(max_examples=120, deadline=None)
@given(plans(), SCHEDULES, st.integers(1, 4))
def test_no_schedule_changes_what_is_asked_or_kept(plan: Plan, schedules: list[int], n: int) -> None:
    first, *others = (carried_out(plan, prompts(n), Random(seed)) for seed in schedules)
    assert all(other == first for other in others)


def hasty(plan: Plan, work: Work, known: Known) -> list[Call]:
    """A stage as it must not be: it judges the first two answers that arrive and leaves the rest."""
    texts = tuple(
        dict.fromkeys(
            known.completions[k].text for k in sorted(known.completions, key=lambda k: known.completions[k].text)
        )
    )
    judged = score.missing(plan.leaves[0], work.items, texts[:2], known) if len(texts) > 1 else []
    return [*grid.missing(plan, known), *judged]


def test_the_same_harness_finds_a_stage_that_looks_at_arrivals() -> None:
    leaf = Leaf(1, b"1" * 16, "judge", "judge", ())
    cells = tuple(Cell(s, bytes([s]) * 16, None, "m", 4, "", 8) for s in (1, 2))
    plan = Plan(cells, (Stage.of(leaf),), None, Gates(), Rule(), 0)
    first = carried_out(plan, prompts(3), Random(0), hasty)
    differ = sum(carried_out(plan, prompts(3), Random(seed), hasty) != first for seed in range(1, 31))
    assert differ > 20
    careful = [carried_out(plan, prompts(3), Random(seed)) for seed in range(6)]
    assert all(one == careful[0] for one in careful)


@settings(max_examples=40, deadline=None)
@given(plans(), st.integers(0, 2**32))
def test_when_nothing_is_needed_every_item_has_pairs_or_a_reason_that_is_not_incomplete(plan: Plan, seed: int) -> None:
    luck = Random(seed)
    for work in prompts(3):
        kept = Kept()
        while calls := needed(plan, work, known := kept.read(luck)):
            for call in calls:
                answer(call, work, kept, known, luck)()
        settled = settle(plan, work, known, gates_of(plan, work, known))
        assert settled.keys() == {item.id for item in work.items}
        for one in settled.values():
            assert bool(one.pairs) != (one.reason is not None)
            assert one.reason is not Reason.INCOMPLETE


def test_a_stage_asks_nothing_before_the_one_below_is_complete() -> None:
    leaf = Leaf(1, b"1" * 16, "judge", "judge", ())
    plan = Plan((Cell(1, b"s" * 16, None, "m", 3, "", 1),), (Stage.of(leaf),), None, Gates(), Rule(), 0)
    (work,) = prompts(1)
    known = Known(bodies={i: b'{"content":"answer %d"}' % i for i in range(3)})
    for i in (2, 0, 1):
        assert {type(c) for c in needed(plan, work, known)} == {Sampled}
        known.completions[1, i] = Completion(i, 8, "stop", 3, 0, None)
    assert [type(c) for c in needed(plan, work, known)] == [Asked] * 3


def test_items_with_the_same_columns_for_a_judge_share_its_call() -> None:
    """30: equal calls are one, whichever item wants them."""
    (work,) = prompts(3)[2:]
    assert len(work.items) == 3
    for reads, n_calls in ((("category",), 2), (("reference",), 6), (None, 6)):
        leaf = Leaf(1, b"1" * 16, "judge", "judge", reads)
        plan = Plan((Cell(1, b"s" * 16, None, "m", 2, "", 2),), (Stage.of(leaf),), None, Gates(), Rule(), 0)
        texts = {1: "yes", 2: "no"}
        known = Known(
            {(1, i - 1): Completion(i, len(t), "stop", 1, 0, None) for i, t in texts.items()},
            bodies={i: orjson.dumps({"content": t}) for i, t in texts.items()},
        )
        assert len(needed(plan, work, known)) == n_calls
        known.verdicts[1, reads_hash(work.items[0].item, reads), (1,), 0] = Score(1.0)
        assert len(needed(plan, work, known)) == n_calls - 1


def test_a_later_judge_is_asked_only_for_items_without_a_pair() -> None:
    (work,) = prompts(2)[1:]
    plain = Leaf(1, b"1" * 16, "first", "judge", ("reference",))
    second = Leaf(2, b"2" * 16, "second", "judge", ("reference",))
    plan = Plan(
        (Cell(1, b"s" * 16, None, "m", 2, "", 2),), (Stage.of(plain), Stage.of(second)), None, Gates(), Rule(), 0
    )
    known = Known(
        {(1, i): Completion(i, 3, "stop", 1, 0, None) for i in (0, 1)},
        bodies=dict.fromkeys((0, 1), b'{"content":"abc"}'),
    )
    decided, tied = (reads_hash(item.item, ("reference",)) for item in work.items)
    known.verdicts |= {(1, decided, (i,), 0): Score(float(i)) for i in (0, 1)}
    known.verdicts |= {(1, tied, (i,), 0): Score(0.5) for i in (0, 1)}
    calls = needed(plan, work, known)
    assert {(c.leaf.judge, c.reads) for c in calls if isinstance(c, Asked)} == {(2, tied)} and len(calls) == 2


def test_a_plan_that_only_judges_samples_nothing_and_leaves_open_cells_incomplete() -> None:
    leaf = Leaf(1, b"1" * 16, "judge", "grader", ())
    plan = Plan((Cell(1, b"s" * 16, None, "m", 3, "", 2),), (Stage.of(leaf),), None, Gates(), Rule(), 0, samples=False)
    (work,) = prompts(1)
    known = Known({(1, 0): Completion(1, 3, "stop", 1, 0, None)}, bodies={1: b'{"content":"abc"}'})
    assert needed(plan, work, known) == [], "a stage looks at another one only when that one is complete"
    (settled,) = settle(plan, work, known, gates_of(plan, work, known)).values()
    assert settled.reason is Reason.INCOMPLETE


def test_verdicts_that_this_plan_would_not_ask_for_decide_nothing() -> None:
    """19: they are there because another recipe of the folder asked for them."""
    (work,) = prompts(1)
    item = work.items[0]._replace(item=Item(work.prompt))
    work = replace(work, items=(item,))
    cells = (Cell(1, b"s" * 16, None, "m", 2, "", 2),)
    known = Known(
        {(1, i): Completion(i, 100, "stop", 1, 0, None) for i in (0, 1)},
        bodies=dict.fromkeys((0, 1), b'{"content":"abc"}'),
    )
    reads = reads_hash(item.item, ())
    for j in (1, 2):
        known.verdicts |= {(j, reads, (i,), 0): Score(float(i)) for i in (0, 1)}
    known.verdicts |= {(9, reads, (1, 0), 0): Choice(0), (9, reads, (0, 1), 0): Choice(1)}

    def settled(leaf: Leaf, confirm: Leaf | None = None) -> tuple[int, Reason | None, object]:
        plan = Plan(cells, (Stage.of(leaf),), confirm, Gates(), Rule(), 0)
        assert needed(plan, work, known) == []
        one = settle(plan, work, known, gates_of(plan, work, known))[item.id]
        return len(one.pairs), one.reason, one.scores

    able, unable = Leaf(1, b"1" * 16, "a", "judge", ()), Leaf(2, b"2" * 16, "b", "judge", (), ("reference",))
    assert settled(able)[:2] == (1, None)
    assert settled(unable) == (0, Reason.NO_VERDICT, {})
    assert settled(able, Leaf(9, b"9" * 16, "c", "confirm", ()))[:2] == (1, None)
    assert settled(able, Leaf(9, b"9" * 16, "c", "confirm", (), ("reference",)))[:2] == (0, Reason.NOT_CONFIRMED)
    known.completions[1, 1] = known.completions[1, 1]._replace(finish_reason="length")
    known.gated = None  # a Known only grows; this one was changed
    assert settled(able) == (0, Reason.TOO_FEW, {})
    assert settled(replace(able, role="grader"))[2] == {(1, 0): {1: 0.0}}


def test_of_two_pairs_the_one_that_was_confirmed_is_kept() -> None:
    (work,) = prompts(1)
    leaf, confirm = Leaf(1, b"1" * 16, "a", "judge", ()), Leaf(9, b"9" * 16, "c", "confirm", ())
    plan = Plan(
        (Cell(1, b"s" * 16, None, "m", 4, "", 4),), (Stage.of(leaf),), confirm, Gates(), Rule(max_per_prompt=2), 0
    )
    known = Known({(1, i): Completion(i, 100, "stop", 1, 0, None) for i in range(4)})
    reads = reads_hash(work.items[0].item, ())
    known.verdicts |= {(1, reads, (i,), 0): Score(float(i)) for i in range(4)}
    assert len(needed(plan, work, known)) == 4
    known.verdicts |= {(9, reads, (3, 0), 0): Choice(0), (9, reads, (0, 3), 0): Choice(1)}
    known.verdicts |= {(9, reads, (2, 1), 0): Choice(0), (9, reads, (1, 2), 0): Choice(0)}
    (settled,) = settle(plan, work, known, gates_of(plan, work, known)).values()
    assert [(p.chosen, p.rejected, p.confirmed) for p in settled.pairs] == [((1, 3), (1, 0), True)]
