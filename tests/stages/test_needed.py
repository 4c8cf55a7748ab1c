"""`needed` under every kind of luck: replies in any order, short ones, failures, unreadable verdicts and kills.

A model of a run: a world that answers each question in one way, a ledger that keeps what was committed, and a schedule
that draws what comes back when. Whatever the schedule, the same calls are asked and the same content is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from random import Random
from typing import TypeVar

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsmith.gates import Gates
from prefsmith.judging.verdicts import Step, next_step
from prefsmith.ledger.ids import reads_hash
from prefsmith.ledger.known import Completion, Known, OpenItem, Tried, Work
from prefsmith.outcomes import Choice, Score
from prefsmith.pairing import Rule
from prefsmith.reasons import Reason
from prefsmith.records import Generated, Item, Prompt
from prefsmith.stages import grid, score
from prefsmith.stages.calls import Asked, Call, Cell, Graded, Leaf, Plan, Sampled
from prefsmith.stages.plan import gates_of, needed, settle

K, V = TypeVar("K"), TypeVar("V")
Needed = Callable[[Plan, Work, Known], list[Call]]
UNREAD = Generated(0, {"role": "assistant", "content": "hm"}, "stop")


def drawn(below: int, *what: object) -> int:
    """What the world has in store for a question: always the same."""
    return int.from_bytes(blake2b(repr(what).encode(), digest_size=4).digest(), "big") % below


@dataclass
class Kept:
    """What a ledger holds of one prompt, by content; `ids` are its own integers for texts, in order of arrival."""

    completions: dict[tuple[int, int], tuple[str, str]] = field(default_factory=dict)
    closed: dict[tuple[int, int], Reason] = field(default_factory=dict)
    verdicts: dict[tuple[int, bytes, tuple[str, ...]], Score | Choice] = field(default_factory=dict)
    tried: dict[tuple[int, bytes, tuple[str, ...]], list[Tried]] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)

    def content(self) -> list[str]:
        return [repr(sorted(d.items(), key=repr)) for d in (self.completions, self.closed, self.verdicts, self.tried)]

    def read(self, luck: Random) -> Known:
        """As the next session reads it: complete, and in no order."""

        def shuffled(of: dict[K, V]) -> list[tuple[K, V]]:
            return luck.sample(list(of.items()), len(of))

        ids = self.ids
        return Known(
            {k: Completion(ids[t], len(t), end, 9, 0, None) for k, (t, end) in shuffled(self.completions)},
            dict(shuffled(self.closed)),
            {(j, r, tuple(ids[t] for t in shown), 0): v for (j, r, shown), v in shuffled(self.verdicts)},
            {(j, r, tuple(ids[t] for t in shown), 0): list(v) for (j, r, shown), v in shuffled(self.tried)},
            {i: orjson.dumps({"content": t, "role": "assistant"}) for t, i in shuffled(ids)},
        )


def answer(call: Call, work: Work, kept: Kept, known: Known, luck: Random) -> Callable[[], None]:
    """The world's answer to a call, as what committing it does; only its length is a matter of luck."""
    if isinstance(call, Sampled):
        return _sampled(call, work.hash, kept, luck)
    texts = {i: str(orjson.loads(body)["content"]) for i, body in known.bodies.items()}
    if isinstance(call, Graded):
        named = [texts[t] for t in call.texts]
        new = {(call.leaf.judge, call.reads, (t,)): _score(call.leaf.judge, call.reads, t) for t in named}
        return lambda: kept.verdicts.update(new)
    return _asked(call, tuple(texts[t] for t in call.shown), kept)


def _sampled(call: Sampled, of: bytes, kept: Kept, luck: Random) -> Callable[[], None]:
    cell = call.cell.sampler
    if drawn(12, of, cell, "too long") == 0:
        return lambda: kept.closed.update({(cell, i): Reason.CONTEXT_TOO_LONG for i in call.idx})
    came = call.idx[: luck.randint(1, len(call.idx))]

    def commit() -> None:
        for i in came:
            if drawn(9, of, cell, i, "filtered") == 0:
                kept.closed[cell, i] = Reason.CONTENT_FILTER
                continue
            text = f"answer {drawn(5, of, cell, i, 'text')}"
            kept.ids.setdefault(text, len(kept.ids) + 1)
            kept.completions[cell, i] = (text, "length" if drawn(9, of, cell, i, "cut") == 0 else "stop")

    return commit


def _score(judge: int, reads: bytes, text: str) -> Score:
    what = drawn(6, judge, reads, text, "score")
    return Score(reason=Reason.GRADER_ERROR) if what == 5 else Score(what / 4)


def _asked(call: Asked, shown: tuple[str, ...], kept: Kept) -> Callable[[], None]:
    judge, key = call.leaf.judge, (call.leaf.judge, call.reads, shown)
    fate = drawn(5, judge, call.reads, shown, call.step)
    result: Score | Choice = _score(judge, call.reads, shown[0])
    if len(shown) > 1:
        result = Choice(drawn(3, judge, call.reads, shown, "wins") - 1)
    if fate == 0:
        final = Choice(reason=Reason.BAD_REQUEST) if len(shown) > 1 else Score(reason=Reason.BAD_REQUEST)
        return lambda: kept.verdicts.update({key: final})
    if fate > 2:
        return lambda: kept.verdicts.update({key: result})
    why = Reason.UNPARSEABLE if fate == 1 else Reason.REPLY_TRUNCATED

    def commit() -> None:
        tried = kept.tried.setdefault(key, [])
        tried.append(Tried(call.step, why, UNREAD))
        if next_step([(Step(t.step), t.reason) for t in tried]) is None:
            kept.verdicts[key] = Choice(reason=why) if len(shown) > 1 else Score(reason=why)

    return commit


def units(call: Call, known: Known) -> Iterator[Hashable]:
    """What a call asks, one by one and without the ledger's integers: how calls are cut is not part of it."""
    if isinstance(call, Sampled):
        yield from ((call.cell.hash, i) for i in call.idx)
        return
    shown = call.texts if isinstance(call, Graded) else call.shown
    texts = [known.bodies[t] for t in shown]
    if isinstance(call, Graded):
        yield from ((call.leaf.judge, call.reads, text) for text in texts)
    else:
        yield (call.leaf.judge, call.reads, *texts, call.step)


def carried_out(
    plan: Plan, works: list[Work], luck: Random, ask: Needed = needed, chunks: int = 4
) -> tuple[set[Hashable], list[list[str]]]:
    """One run, killed now and then, until nothing is needed: all that was asked, and what is kept of each prompt."""
    asked: set[Hashable] = set()
    ledger = [Kept() for _ in works]
    n_kills = luck.randint(0, 4)
    while True:
        # A session: other sizes of requests are allowed in each, they stand in no key.
        session = replace(plan, cells=tuple(replace(c, chunk=luck.randint(1, chunks)) for c in plan.cells))
        killed_after = luck.randint(0, 30) if n_kills else 10**9
        flying: list[tuple[int, set[Hashable], Callable[[], None]]] = []
        while killed_after:
            for n, work in enumerate(works):
                known = ledger[n].read(luck)
                out = {u for m, us, _ in flying if m == n for u in us}
                for call in ask(session, work, known):
                    us = {(n, u) for u in units(call, known)}
                    if not us & out:
                        asked |= us
                        flying.append((n, us, answer(call, work, ledger[n], known, luck)))
            if not flying:
                return asked, [kept.content() for kept in ledger]
            luck.shuffle(flying)
            for _ in range(luck.randint(1, len(flying))):
                flying.pop()[2]()
            killed_after -= 1
        n_kills -= 1


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    cells = tuple(
        Cell(s, bytes([s]) * 16, None, "m", draw(st.integers(1, 5)), "", 8) for s in range(1, draw(st.integers(2, 4)))
    )
    kinds = draw(st.lists(st.sampled_from(["grader", "judge"]), min_size=1, max_size=3))
    columns = st.sampled_from([(), ("reference",), None])
    leaves = tuple(
        Leaf(j, bytes([j]) * 16, f"{kind} {j}", kind, draw(columns), draw(st.sampled_from([(), ("reference",)])))  # type: ignore[arg-type]
        for j, kind in enumerate(kinds, 1)
    )
    confirm = Leaf(9, b"9" * 16, "confirm", "confirm", draw(columns)) if draw(st.booleans()) else None
    strategy, most = draw(st.sampled_from(["best_worst", "correct_incorrect"])), draw(st.integers(1, 2))
    rule = Rule(strategy, draw(st.sampled_from([0.0, 0.5])), max_per_prompt=most)  # type: ignore[arg-type]
    return Plan(cells, leaves, confirm, Gates(), rule, draw(st.integers(0, 3)))


def prompts(n: int) -> list[Work]:
    """Each with one to three items, which differ in what a judge may read."""
    out = []
    for p in range(n):
        prompt = Prompt(({"role": "user", "content": f"q{p}"},))
        items = [Item(prompt, reference) for reference in ("one", "two", None)[: 1 + p % 3]]
        opened = (OpenItem(10 * p + i, bytes([p, i]) * 8, 10 * p + i, None, item) for i, item in enumerate(items))
        out.append(Work(p, bytes([p]) * 16, prompt, tuple(opened)))
    return out


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
    plan = Plan(cells, (leaf,), None, Gates(), Rule(), 0)
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
    plan = Plan((Cell(1, b"s" * 16, None, "m", 3, "", 1),), (leaf,), None, Gates(), Rule(), 0)
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
        plan = Plan((Cell(1, b"s" * 16, None, "m", 2, "", 2),), (leaf,), None, Gates(), Rule(), 0)
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
    plan = Plan((Cell(1, b"s" * 16, None, "m", 2, "", 2),), (plain, second), None, Gates(), Rule(), 0)
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
    plan = Plan((Cell(1, b"s" * 16, None, "m", 3, "", 2),), (leaf,), None, Gates(), Rule(), 0, samples=False)
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
        plan = Plan(cells, (leaf,), confirm, Gates(), Rule(), 0)
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
    plan = Plan((Cell(1, b"s" * 16, None, "m", 4, "", 4),), (leaf,), confirm, Gates(), Rule(max_per_prompt=2), 0)
    known = Known({(1, i): Completion(i, 100, "stop", 1, 0, None) for i in range(4)})
    reads = reads_hash(work.items[0].item, ())
    known.verdicts |= {(1, reads, (i,), 0): Score(float(i)) for i in range(4)}
    assert len(needed(plan, work, known)) == 4
    known.verdicts |= {(9, reads, (3, 0), 0): Choice(0), (9, reads, (0, 3), 0): Choice(1)}
    known.verdicts |= {(9, reads, (2, 1), 0): Choice(0), (9, reads, (1, 2), 0): Choice(0)}
    (settled,) = settle(plan, work, known, gates_of(plan, work, known)).values()
    assert [(p.chosen, p.rejected, p.confirmed) for p in settled.pairs] == [((1, 3), (1, 0), True)]
