"""The forecast of a folder's next run: what it has to ask, under its models' prices and limits, declared and learnt."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from math import ceil
from typing import Final

import orjson

from prefsmith.ledger.ingest import Selection
from prefsmith.ledger.ledger import Ledger
from prefsmith.prices import PriceTable
from prefsmith.purse import Purse
from prefsmith.recipe import Recipe
from prefsmith.records import Json
from prefsmith.session import Pool, limits_fact, phases_of
from prefsmith.stages.build import Resolution
from prefsmith.stages.forecast import forecast
from prefsmith.stages.pace import Terms
from prefsmith.stages.view import View
from prefsmith.summary import ENOUGH_PAIRS

OFFERED: Final = 16
"""Prompts of a probe when nobody says how many: enough to see what an answer takes, at a hundredth of a small run."""
SURE: Final = 0.15
"""A forecast that may be further off than this share of the run is worth a larger probe."""


def outlook(
    ledger: Ledger, recipe: Recipe, resolution: Resolution, view: View, pools: Mapping[str, Pool], probe: Selection,
    purse: Purse | None,
) -> Json:  # fmt: skip
    """`probe`: the prompts that one takes, or has taken."""
    db, table = ledger.db, PriceTable.load(recipe.prices)
    n_phases = len(phases_of(view.plan, pools)) if recipe.staged else 1
    found = forecast(
        db, view, {key: _terms(db, key, of) for key, of in pools.items()}, recipe.window,
        offered=probe.prompts or frozenset(), start_s=started_s(db, n_phases), in_turn=n_phases > 1,
    )  # fmt: skip
    unknown = [by for key, by in resolution.lanes.items() if pools[key].price is None]
    per_item = found["pairs_per_item"]
    return {
        **found,
        "budget": _budget(purse),
        "unknown_prices": [table.unknown(by.endpoint_name, by.wire_model) for by in unknown],
        "probe_prompts": len(probe.prompts or ()),
        "probe_advised": _advised(found),
        "enough_pairs": ENOUGH_PAIRS,
        "prompts_for_enough": -(-ENOUGH_PAIRS // per_item) if per_item else None,
    }


def _advised(found: Json) -> int | None:
    """How many prompts to probe for a forecast that is sure enough; None when it is, or when nobody can say.

    An error shrinks with the square root of what is looked at.
    """
    total, n = found["total"], found["prompts_sampled"]
    off = max(total[name] or 0.0 for name in ("requests_off", "tokens_off", "usd_off"))
    if off <= SURE or n >= found["prompts"]:
        return None
    return min(found["prompts"], ceil(n * (off / SURE) ** 2))


def _budget(purse: Purse | None) -> Json:
    return None if purse is None else {"unit": purse.unit, "cap": purse.budget.cap, "counted": purse.budget.counted}


def _terms(db: sqlite3.Connection, key: str, pool: Pool) -> Terms:
    """A limit that was learnt counts beside a declared one, and the smaller wins."""
    row = db.execute("SELECT json FROM fact WHERE name = ? ORDER BY t DESC LIMIT 1", (limits_fact(key),)).fetchone()
    learnt = {} if row is None else orjson.loads(row[0])
    can = [backend.capabilities() for backend, _ in pool.members]
    rpm, tpm = (_all_of([getattr(c, name) for c in can]) for name in ("rpm", "tpm"))
    return Terms(
        _short(key),
        pool.price,
        min(sum(c.concurrency for c in can), learnt.get("concurrency") or 65536),
        _smaller(rpm, learnt.get("rpm")),
        _smaller(tpm, learnt.get("tpm")),
    )


def _all_of(parts: list[float | None]) -> float | None:
    return None if None in parts else sum(part or 0.0 for part in parts)


def _smaller(a: float | None, b: float | None) -> float | None:
    return min((x for x in (a, b) if x is not None), default=None)


def _short(key: str) -> str:
    """A model as people name it: of a file only its name."""
    target, _, model = key.partition(":")
    return f"{target}:{model.rpartition('/')[2]}" if model.startswith("/") else key


def started_s(db: sqlite3.Connection, n_phases: int = 1) -> float:
    """How long the last session that asked something took to its first request, and to load each model after it."""
    row = db.execute(
        "SELECT s.id, s.t_start FROM session s JOIN call c ON c.session = s.id ORDER BY c.id DESC"
    ).fetchone()
    if row is None:
        return 0.0
    at, gaps = row[1], list[float]()
    for t_sent, wall_s in db.execute("SELECT t_sent, wall_s FROM call WHERE session = ? ORDER BY t_sent", row[:1]):
        gaps.append(max(0.0, t_sent - at))
        at = max(at, t_sent + wall_s)
    return gaps[0] + sum(sorted(gaps[1:])[len(gaps) - n_phases :])
