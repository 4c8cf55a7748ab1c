"""What a view still asks, counted by the function that will ask it. Of judges it is an estimate: how many texts pass
the gates, which items find no pair under an earlier judge and which replies need a second step is known afterwards."""

from __future__ import annotations

import sqlite3
from collections import Counter

from prefsmith.ledger.read import knowns, prompts_of
from prefsmith.records import Json
from prefsmith.stages import grid
from prefsmith.stages.view import View


def forecast(db: sqlite3.Connection, view: View) -> Json:
    """Prompts, requests and completions that the grid lacks, and the most calls that each judge may make."""
    plan, n_prompts, requests, completions = view.plan, 0, Counter[str](), 0
    for block in prompts_of(db, view.selection):
        held = knowns(db, block, plan.samplers, plan.judges, bodies=False)
        for prompt in block:
            n_prompts += 1
            for call in grid.missing(plan, held[prompt]):
                requests[call.cell.lane] += 1
                completions += len(call.idx)
    per_prompt = sum(c.n for c in plan.cells)
    judges = {x.name: n_prompts * per_prompt for x in plan.leaves if x.role == "judge"}
    if plan.confirm:
        judges[plan.confirm.name] = 2 * view.selection.n_items * plan.rule.max_per_prompt
    return {
        "prompts": n_prompts,
        "completions_per_prompt": per_prompt,
        "completions_to_sample": completions,
        "sampling_requests": dict(requests),
        "judge_calls_about": judges,
        "graders": [x.name for x in plan.leaves if x.role == "grader"],
    }
