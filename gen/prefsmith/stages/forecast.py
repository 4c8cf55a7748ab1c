"""What a view still asks, counted by the function that will ask it, and what that will take, by what was taken.

Sampling is counted exactly. How many texts pass the gates, which items find no pair under an earlier judge, which
replies need a second step, how long answers are and how long they take is known of finished prompts alone, of a trial
or of a run that was stopped: they stand for the rest. Without any there are only counts and bounds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final, NamedTuple

import orjson

from prefsmith.judging.leaf import SHOWN
from prefsmith.ledger.ids import reads_hash
from prefsmith.ledger.ingest import Selection
from prefsmith.ledger.known import Known, Work
from prefsmith.ledger.read import knowns, prompts_of, works
from prefsmith.prices import FREE, NANO, most_nanousd
from prefsmith.records import Json
from prefsmith.stages import grid
from prefsmith.stages.calls import Leaf, Plan, Sampled
from prefsmith.stages.expected import Expected, Left, error, judging, sampling
from prefsmith.stages.pace import Load, Terms, whole
from prefsmith.stages.plan import needed
from prefsmith.stages.took import Sample, Stage, sample_of, stages_of
from prefsmith.stages.view import View

MOST_SAMPLED: Final = 1_000
"""Finished prompts that are looked at: more say hardly more."""
_BODY_BYTES: Final = 1024
"""A request's body beside its messages and tools."""


class Size(NamedTuple):
    """Of a prompt in the view: bytes of its messages and tools, items, bytes of an item's columns at most."""

    n_bytes: int
    n_items: int
    n_column_bytes: int


@dataclass(slots=True)
class Counted:
    n_prompts: int = 0
    n_open: int = 0
    finished: list[int] = field(default_factory=list)
    n_bytes: dict[int, int] = field(default_factory=dict)
    """Of each finished prompt."""
    left: dict[Stage, Left] = field(default_factory=dict)
    offered_nanousd: int = 0
    """The most that a trial can cost."""


def forecast(
    db: sqlite3.Connection, view: View, terms: Mapping[str, Terms], window: int, *,
    offered: frozenset[int] = frozenset(), start_s: float = 0.0, in_turn: bool = False,
) -> Json:  # fmt: skip
    """`terms`: by lane; `offered`: prompts that a trial would take; `start_s`: until models are loaded;
    `in_turn`: they work one after the other."""
    counted = _counted(db, view, terms, offered)
    finished = counted.finished[:: max(1, ceil(len(counted.finished) / MOST_SAMPLED))]
    sample = sample_of(db, view, finished, {lane: t.price for lane, t in terms.items()})
    expected = {s: _expected(s, counted, sample, terms[s.lane]) for s in stages_of(view.plan)}
    n_items, per_item = view.selection.n_items, sample.n_pairs / sample.n_items if sample.n_items else None
    at_most = [(terms[s.lane], left.nanousd) for s, left in counted.left.items()]
    return {
        "items": n_items,
        "prompts": counted.n_prompts,
        "completions_per_prompt": len(view.plan.keys),
        "completions_to_sample": sum(left.n_answers for s, left in counted.left.items() if s.kind == "sample"),
        "prompts_finished": len(counted.finished),
        "prompts_sampled": len(sample.prompts),
        "stages": [_row(s, one, counted.left[s], terms[s.lane]) for s, one in expected.items()],
        "total": _total(expected, counted) | _time(expected, counted, terms, window, start_s, in_turn),
        "usd_at_most": _usd([None if t.price is None else most for t, most in at_most]),
        "trial_usd_at_most": None if any(t.price is None for t, _ in at_most) else counted.offered_nanousd / NANO,
        "pairs": None if per_item is None else round(per_item * n_items),
        "pairs_per_item": per_item,
        "graders": [x.name for x in view.plan.leaves if x.role == "grader"],
        "graders_untimed": [x.name for x in view.plan.leaves if x.grader is not None and not x.grader.inline],
        "never_reached": [s.name for s, of in sample.took.items() if of and not any(t.n_requests for t in of)],
    }


# -- counting


def _counted(db: sqlite3.Connection, view: View, terms: Mapping[str, Terms], offered: frozenset[int]) -> Counted:
    plan = view.plan
    out = Counted(left={s: Left() for s in stages_of(plan)})
    sampling = {s.lane: left for s, left in out.left.items() if s.judge is None}
    of_sampler = {c.sampler: sampling[c.lane] for c in plan.cells}
    judging = [(leaf, out.left[s]) for s in out.left for leaf in _asking(plan) if leaf.judge == s.judge]
    for block in prompts_of(db, view.selection):
        held = knowns(db, block, plan.samplers, plan.judges, bodies=False)
        sizes = _sizes(db, view.selection, block)
        begun = [p for p in block if held[p].verdicts or not grid.is_open(plan, held[p])]
        at = {w.id: w for w in works(db, view.selection, begun)} if begun else {}
        done = {p for p, w in at.items() if not grid.is_open(plan, held[p]) and not needed(plan, w, held[p])}
        for prompt in block:
            known, size, most = held[prompt], sizes[prompt], 0
            out.n_prompts += 1
            for cell in plan.cells:
                sampling[cell.lane].n_all += cell.n
            for sampler, _ in (*known.completions, *known.closed):
                of_sampler[sampler].n_paid += 1
            if prompt in done:
                out.finished.append(prompt)
                out.n_bytes[prompt] = size.n_bytes
            for call in grid.missing(plan, known):
                most += _add_call(sampling[call.lane], call, size, terms[call.lane])
            for leaf, left in judging:
                n_held = _n_held(leaf, known, at[prompt]) if prompt in at else 0
                most += _add_leaf(left, leaf, plan, n_held, size, terms[leaf.lane], finished=prompt in done)
                # What a finished prompt took holds its older verdicts too.
                left.n_begun += 0 if prompt in done else sum(1 for key in known.verdicts if key[0] == leaf.judge)
            out.n_open += prompt not in done
            out.offered_nanousd += most if prompt in offered else 0
    return out


def _add_call(left: Left, call: Sampled, size: Size, terms: Terms) -> int:
    """The most that the call can cost, which is in `left` too."""
    value = call.cell.value
    assert value is not None
    n_bytes = size.n_bytes + len((value.system or "").encode()) + _BODY_BYTES
    most = most_nanousd(terms.price, n_bytes, len(call.idx), value.sampling.max_tokens) if terms.price else 0
    left.n_requests += 1
    left.n_answers += len(call.idx)
    left.n_bytes += size.n_bytes
    left.nanousd += most
    return most


def _add_leaf(
    left: Left, leaf: Leaf, plan: Plan, n_held: int, size: Size, terms: Terms, *, finished: bool
) -> int:  # fmt: skip
    """As if every text were judged and every item had its pairs to confirm, each with one question."""
    assert leaf.asks is not None
    left.n_paid += n_held
    if finished:
        left.n_all += n_held
        return 0
    if leaf.role == "confirm":
        # Of a prompt that is still judged: its pair may become another, of which nothing is confirmed.
        n = n_asked = size.n_items * 2 * plan.rule.max_per_prompt
    else:
        n = size.n_items * len(plan.keys)
        n_asked = max(0, n - n_held)
    left.n_all += max(n, n_held)
    longest = max(c.value.sampling.max_tokens for c in plan.cells if c.value is not None)
    n_bytes = len(leaf.asks.prompt.encode()) + size.n_bytes + size.n_column_bytes + _BODY_BYTES
    n_shown = len(SHOWN[leaf.asks.kind]) * longest
    most = most_nanousd(terms.price, n_bytes + n_shown, 1, leaf.asks.sampling.max_tokens) if terms.price else 0
    left.n_requests += n_asked
    left.n_answers += n_asked
    left.nanousd += n_asked * most
    return n_asked * most


def _n_held(leaf: Leaf, known: Known, work: Work) -> int:
    """Verdicts that the view has a use for: on texts that it takes, and on its items' columns as they are now."""
    texts = {c.text for c in known.completions.values()}
    reads = {reads_hash(item.item, leaf.reads) for item in work.items}
    return sum(
        1 for judge, of, shown, _ in known.verdicts if judge == leaf.judge and of in reads and texts.issuperset(shown)
    )


def _asking(plan: Plan) -> Iterator[Leaf]:
    yield from (x for x in (*plan.leaves, *((plan.confirm,) if plan.confirm else ())) if x.role != "grader")


def _sizes(db: sqlite3.Connection, chosen: Selection, prompts: Sequence[int]) -> dict[int, Size]:
    sql = (
        "SELECT p.id, length(CAST(p.messages AS BLOB)) + coalesce(length(CAST(p.tools AS BLOB)), 0), count(*), "
        "max(coalesce(length(CAST(i.reference AS BLOB)), 0) + coalesce(length(CAST(i.category AS BLOB)), 0) "
        "+ coalesce(length(CAST(i.columns AS BLOB)), 0)) FROM prompt p JOIN item i ON i.prompt = p.id "
        "JOIN row r ON r.item = i.id WHERE p.id IN (SELECT value FROM json_each(?)) AND +r.source = ? "
        "AND r.line <= ? AND r.reason IS NULL GROUP BY p.id"
    )
    wanted = orjson.dumps(list(prompts)).decode()
    return {p: Size(*of) for p, *of in db.execute(sql, (wanted, chosen.source, chosen.last_line))}


# -- what it comes to


def _expected(stage: Stage, counted: Counted, sample: Sample, terms: Terms) -> Expected:
    left, took = counted.left[stage], sample.took.get(stage, [])
    if stage.judge is None:
        return sampling(left, took, [counted.n_bytes[p] for p in sample.prompts], terms.price)
    return judging(left, took, counted.n_open, terms.price)


def _row(stage: Stage, one: Expected, left: Left, terms: Terms) -> Json:
    return {
        "stage": stage.kind,
        "name": stage.name,
        "model": terms.model,
        "requests": _whole(one.n_requests),
        "requests_at_most": left.n_requests,
        "prompt_tokens": _whole(one.n_prompt_tokens),
        "answer_tokens": _whole(one.n_answer_tokens),
        "usd": _usd([one.nanousd]),
        "usd_at_most": _usd([None if terms.price is None else left.nanousd]),
        "price_known": terms.price is not None,
        "free": terms.price == FREE,
        "reply_s": one.reply_s or None,
        "paid": left.n_paid,
        "of": left.n_all,
    }


def _total(expected: Mapping[Stage, Expected], counted: Counted) -> dict[str, Json]:
    """Sums, None where a part is not known; beside each, by how much of it the run may be off."""
    n_requests, n_tokens = (
        _sum([e.n_requests for e in expected.values()]),
        _sum([e.n_tokens for e in expected.values()]),
    )
    nanousd = _sum([e.nanousd for e in expected.values()])
    off = error([e.off for e in expected.values() if e.off], counted.n_open)

    def share(part: float | None, of: float | None) -> float | None:
        return part / of if part is not None and of else None

    return {
        "requests": _whole(n_requests),
        "prompt_tokens": _whole(_sum([e.n_prompt_tokens for e in expected.values()])),
        "answer_tokens": _whole(_sum([e.n_answer_tokens for e in expected.values()])),
        "usd": _usd([nanousd]),
        "requests_off": share(off and off.n_requests, n_requests),
        "tokens_off": share(off and off.n_tokens, n_tokens),
        "usd_off": share(off and off.nanousd, nanousd),
    }


def _time(
    expected: Mapping[Stage, Expected], counted: Counted, terms: Mapping[str, Terms], window: int, start_s: float,
    in_turn: bool,
) -> dict[str, Json]:  # fmt: skip
    if any(e.n_requests is None or e.wall_s is None for e in expected.values()):
        return {"seconds": None, "bound_by": None}
    loads: dict[str, Load] = {}
    for stage, e in expected.items():
        # As many at once as the open prompts want: of a judge that few prompts reach, few.
        at_once = min(window, counted.n_open) * (e.n_requests or 0.0) / max(1, counted.n_open)
        loads[stage.lane] = loads.get(stage.lane, Load(0, 0, 0, 0)).beside(
            Load(e.n_requests or 0.0, e.n_tokens, e.wall_s or 0.0, at_once)
        )
    found = whole(loads, terms, sum(e.reply_s for e in expected.values() if e.n_requests), start_s, in_turn)
    return {"seconds": found.seconds if found else 0.0, "bound_by": found.bound_by if found else None}


def _sum(parts: Sequence[float | None]) -> float | None:
    return None if None in parts else sum(part or 0.0 for part in parts)


def _whole(n: float | None) -> int | None:
    return None if n is None else round(n)


def _usd(nanousd: Sequence[float | None]) -> float | None:
    total = _sum(nanousd)
    return None if total is None else total / NANO
