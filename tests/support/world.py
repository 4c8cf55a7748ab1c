"""A model of a run for tests of stages: a world that answers each question in one way, a ledger that keeps what was
committed, and a schedule that draws what comes back when."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from random import Random
from typing import TypeVar

import orjson

from prefsmith.judging.verdicts import Step, next_step
from prefsmith.ledger.known import Completion, Known, OpenItem, Tried, Work
from prefsmith.outcomes import Artifact, Choice, Judged, Ranking, Score
from prefsmith.reasons import Reason
from prefsmith.records import Generated, Item, Prompt
from prefsmith.stages.calls import Asked, Call, Graded, Plan, Sampled
from prefsmith.stages.landing import nothing
from prefsmith.stages.plan import needed

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
    verdicts: dict[tuple[int, bytes, tuple[str, ...], int], Judged] = field(default_factory=dict)
    tried: dict[tuple[int, bytes, tuple[str, ...], int], list[Tried]] = field(default_factory=dict)
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
            {(j, r, tuple(ids[t] for t in shown), i): v for (j, r, shown, i), v in shuffled(self.verdicts)},
            {(j, r, tuple(ids[t] for t in shown), i): list(v) for (j, r, shown, i), v in shuffled(self.tried)},
            {i: orjson.dumps({"content": t, "role": "assistant"}) for t, i in shuffled(ids)},
        )


def answer(call: Call, work: Work, kept: Kept, known: Known, luck: Random) -> Callable[[], None]:
    """The world's answer to a call, as what committing it does; only its length is a matter of luck."""
    if isinstance(call, Sampled):
        return _sampled(call, work.hash, kept, luck)
    texts = {i: str(orjson.loads(body)["content"]) for i, body in known.bodies.items()}
    if isinstance(call, Graded):
        named = [texts[t] for t in call.texts]
        new: dict[tuple[int, bytes, tuple[str, ...], int], Judged] = {
            (call.leaf.judge, call.reads, (t,), 0): _score(call.leaf.judge, call.reads, t) for t in named
        }
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
    leaf, key = call.leaf, (call.leaf.judge, call.reads, shown, call.repeat)
    fate = drawn(5, *key, call.step)
    if fate == 0:
        return lambda: kept.verdicts.update({key: nothing(leaf.gives, Reason.BAD_REQUEST)})
    if fate > 2:
        return lambda: kept.verdicts.update({key: _said(call, shown)})
    why = Reason.UNPARSEABLE if fate == 1 else Reason.REPLY_TRUNCATED

    def commit() -> None:
        tried = kept.tried.setdefault(key, [])
        tried.append(Tried(call.step, why, UNREAD))
        if next_step([(Step(t.step), t.reason) for t in tried]) is None:
            kept.verdicts[key] = nothing(leaf.gives, why)

    return commit


def _said(call: Asked, shown: tuple[str, ...]) -> Judged:
    """What a judge says that can be read: no order, no luck, and often at odds with itself."""
    of = (call.leaf.judge, call.reads, shown)
    match call.leaf.gives:
        case "choice":
            return Choice(drawn(3, *of, "wins") - 1, p=drawn(9, *of, "p") / 8 if drawn(2, *of, "told") else None)
        case "ranking":
            order = sorted(range(len(shown)), key=lambda i: drawn(99, *of, i))
            cut = drawn(len(order) + 1, *of, "cut")
            groups = [tuple(sorted(order[:cut])), *((i,) for i in order[cut:])]
            return Ranking(tuple(group for group in groups if group))
        case "list":
            return Artifact(tuple(f"question {i}?" for i in range(1 + drawn(3, *of))))
    p = drawn(9, *of, call.repeat, "p") / 8 if drawn(2, *of, "told") else None
    return Score(drawn(5, *of, call.repeat, "score") / 4, p=p)


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
        yield (call.leaf.judge, call.reads, *texts, call.repeat, call.step)


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


def prompts(n: int) -> list[Work]:
    """Each with one to three items, which differ in what a judge may read."""
    out = []
    for p in range(n):
        prompt = Prompt(({"role": "user", "content": f"q{p}"},))
        items = [Item(prompt, reference) for reference in ("one", "two", None)[: 1 + p % 3]]
        opened = (OpenItem(10 * p + i, bytes([p, i]) * 8, 10 * p + i, None, item) for i, item in enumerate(items))
        out.append(Work(p, bytes([p]) * 16, prompt, tuple(opened)))
    return out
