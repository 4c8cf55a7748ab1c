"""What finished prompts took: requests, tokens, money and time of each stage, prompt by prompt, out of the ledger.

Read from call rows, so that it holds for a trial as for a run that was stopped. It does not extrapolate.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple

import orjson

from prefsmith.ledger.read import BLOCK, knowns, works
from prefsmith.pairing import quantile_cut
from prefsmith.prices import Price, cost_nanousd
from prefsmith.reasons import Reason
from prefsmith.records import Usage
from prefsmith.stages.calls import Plan
from prefsmith.stages.view import View, look


class Stage(NamedTuple):
    """A row of the forecast: all sampling by one model, one judge, or the judge that confirms."""

    kind: str
    name: str
    lane: str
    judge: int | None = None


def stages_of(plan: Plan) -> list[Stage]:
    """Those that ask a model, in their order."""
    lanes = dict.fromkeys(c.lane for c in plan.cells)
    leaves = (*plan.leaves, *((plan.confirm,) if plan.confirm else ()))
    asking = (Stage(x.role, x.name, x.lane, x.judge) for x in leaves if x.role != "grader")
    return [*(Stage("sample", lane, lane) for lane in lanes), *asking]


@dataclass(slots=True)
class Took:
    """Of one stage of one prompt. `n_told`: replies that said how many tokens they counted, and only theirs are here,
    as is the money. Of a model whose price is not known that is 0 and means nothing."""

    n_requests: int = 0
    n_ok: int = 0
    n_told: int = 0
    n_told_answers: int = 0
    n_prompt_tokens: int = 0
    n_answer_tokens: int = 0
    nanousd: int = 0
    wall_s: float = 0.0

    def __iadd__(self, other: Took) -> Took:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))
        return self


@dataclass(slots=True)
class Sample:
    """Prompts that nothing more is asked about; `took` by stage, then in the order of `prompts`."""

    prompts: Sequence[int]
    n_items: int = 0
    n_pairs: int = 0
    took: dict[Stage, list[Took]] = field(default_factory=dict)


def sample_of(db: sqlite3.Connection, view: View, prompts: Sequence[int], prices: Mapping[str, Price | None]) -> Sample:
    """`prices`: by lane, today's: what an earlier session paid under another table is worked out anew."""
    out = Sample(prompts)
    stages = stages_of(view.plan)
    by_lane = {s.lane: s for s in stages if s.judge is None}
    of_sampler = {c.sampler: by_lane[c.lane] for c in view.plan.cells}
    of_judge: dict[int | None, Stage] = {s.judge: s for s in stages if s.judge is not None}
    margins: list[float] = []
    for first in range(0, len(prompts), BLOCK):
        block = prompts[first : first + BLOCK]
        rows = {s: {p: Took() for p in block} for s in stages}
        for prompt, sampler, judge, one in _calls(db, block, view.plan):
            stage = of_sampler.get(sampler) if sampler is not None else of_judge.get(judge)
            if stage is not None:
                rows[stage][prompt] += _took(one, prices[stage.lane])
        for stage, by_prompt in rows.items():
            out.took.setdefault(stage, []).extend(by_prompt[p] for p in block)
        held = knowns(db, block, view.plan.samplers, view.plan.judges, bodies=False)
        for work in works(db, view.selection, block):
            out.n_items += len(work.items)
            settled = look(view, work, held[work.id]).settled
            margins += [pair.margin for one in settled.values() for pair in one.pairs]
    cut = None if view.plan.rule.quantile is None else quantile_cut(margins, view.plan.rule.quantile)
    out.n_pairs = sum(cut is None or margin >= cut for margin in margins)
    return out


class _Call(NamedTuple):
    n_answers: int
    ok: bool
    usage: Usage
    wall_s: float


def _calls(
    db: sqlite3.Connection, prompts: Sequence[int], plan: Plan
) -> list[tuple[int, int | None, int | None, _Call]]:
    """Requests that were sent for the view. A row that only names the indices that a filter closed is none."""
    sql = (
        "SELECT prompt, sampler, judge, unit, status, n_prompt_tokens, n_cached_tokens, n_completion_tokens, wall_s "
        "FROM call WHERE prompt IN (SELECT value FROM json_each(?)) AND NOT (status = 'failed' AND reason = ? "
        "AND http_status IS NULL)"
    )
    out = []
    wanted = orjson.dumps(list(prompts)).decode()
    for prompt, sampler, judge, unit, status, n_in, n_cached, n_out, wall_s in db.execute(
        sql, (wanted, Reason.CONTENT_FILTER.value)
    ):
        idx = orjson.loads(unit).get("idx", ()) if sampler is not None else (0,)
        if sampler is not None and idx and idx[0] >= plan.samplers.get(sampler, 0):
            continue
        usage = Usage(n_in, n_cached, n_out)
        out.append((prompt, sampler, judge, _Call(len(idx), status == "ok", usage, wall_s or 0.0)))
    return out


def _took(one: _Call, price: Price | None) -> Took:
    n_in, n_out = one.usage.n_prompt_tokens, one.usage.n_completion_tokens
    out = Took(1, int(one.ok), wall_s=one.wall_s)
    if one.ok and n_in is not None and n_out is not None:
        out.n_told, out.n_told_answers, out.n_prompt_tokens, out.n_answer_tokens = 1, one.n_answers, n_in, n_out
        out.nanousd = 0 if price is None else cost_nanousd(price, one.usage) or 0
    return out
