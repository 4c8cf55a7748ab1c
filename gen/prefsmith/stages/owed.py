"""What a benchmark of judges still asks, question by question: all texts are known, so each request is at hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from prefsmith.ledger.read import knowns, prompts_of, works
from prefsmith.prices import NANO, Price, most_nanousd
from prefsmith.records import Json
from prefsmith.stages.asking import request
from prefsmith.stages.calls import Asked
from prefsmith.stages.plan import needed
from prefsmith.stages.view import View

_BODY_BYTES: Final = 1024
"""A request's body beside its messages."""


@dataclass(slots=True)
class _Owed:
    n: int = 0
    n_bytes: int = 0
    most_nanousd: int = 0


def owed_of(db: sqlite3.Connection, view: View, prices: Mapping[str, Price | None]) -> Json:
    """By judge: questions that are owed, held already, bytes of their prompts, the most they cost with one reply each.
    Second steps after an unreadable reply come on top."""
    plan = view.plan
    asking = [leaf for leaf in plan.leaves if leaf.asks is not None]
    found = {leaf.judge: _Owed() for leaf in asking}
    held = dict.fromkeys(found, 0)
    for block in prompts_of(db, view.selection):
        known_of = knowns(db, block, plan.samplers, plan.judges, bodies=True)
        for work in works(db, view.selection, block):
            known = known_of[work.id]
            for judge, *_ in known.verdicts:
                if judge in held:
                    held[judge] += 1
            for call in needed(plan, work, known):
                if isinstance(call, Asked):
                    asked = request(call, work, known, plan.seed)
                    one, price = found[call.leaf.judge], prices[call.lane]
                    n_bytes = sum(len((m.get("content") or "").encode()) for m in asked.messages) + _BODY_BYTES
                    one.n += 1
                    one.n_bytes += n_bytes
                    most = most_nanousd(price, n_bytes, 1, asked.sampling.max_tokens) if price else 0
                    one.most_nanousd += most
    return {
        "items": view.selection.n_items,
        "judges": [
            {
                "judge": leaf.name,
                "model": leaf.lane,
                "held": held[leaf.judge],
                "requests": found[leaf.judge].n,
                "prompt_bytes": found[leaf.judge].n_bytes,
                "usd_at_most": None if prices[leaf.lane] is None else found[leaf.judge].most_nanousd / NANO,
            }
            for leaf in asking
        ],
        "graders": [leaf.name for leaf in plan.leaves if leaf.role == "grader"],
    }
