"""The forecast of a folder's next run: what it has to ask, under its models' prices and limits, declared and learnt."""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Mapping
from math import sqrt
from typing import Final

import orjson

from prefsmith.abilities import Pool
from prefsmith.ledger.ingest import Selection
from prefsmith.ledger.ledger import Ledger
from prefsmith.prices import PriceTable
from prefsmith.purse import Purse
from prefsmith.recipe import Recipe
from prefsmith.records import Json
from prefsmith.session import limits_fact, phases_of
from prefsmith.stages.build import Resolution
from prefsmith.stages.forecast import forecast
from prefsmith.stages.pace import Terms
from prefsmith.stages.view import View
from prefsmith.summary import ENOUGH_PAIRS

OFFERED: Final = 16
"""Prompts of a trial when nobody says how many: enough to see what an answer takes, at a hundredth of a small run."""
MOST_TRIED: Final = 4
"""One in so many prompts, at most, is advised to be tried."""
SURE: Final = 0.15
"""A forecast that may be further off than this share of the run is worth a larger trial."""


def outlook(
    ledger: Ledger, recipe: Recipe, resolution: Resolution, view: View, pools: Mapping[str, Pool], trial: Selection,
    purse: Purse | None,
) -> Json:  # fmt: skip
    """`trial`: the prompts that one takes, or has taken."""
    db, table = ledger.db, PriceTable.load(recipe.prices)
    n_phases = len(phases_of(view.plan, pools)) if recipe.staged else 1
    found = forecast(
        db, view, {key: _terms(db, key, of) for key, of in pools.items()}, recipe.window,
        offered=trial.prompts or frozenset(), start_s=started_s(db, n_phases), in_turn=n_phases > 1,
    )  # fmt: skip
    unknown = [by for key, by in resolution.lanes.items() if pools[key].price is None]
    per_item = found["pairs_per_item"]
    return {
        **found,
        "budget": _budget(purse),
        "unknown_prices": [table.unknown(by.endpoint_name, by.wire_model) for by in unknown],
        "trial_prompts": len(trial.prompts or ()),
        "trial_advised": _advised(found),
        "enough_pairs": ENOUGH_PAIRS,
        "prompts_for_enough": -(-ENOUGH_PAIRS // per_item) if per_item else None,
    }


def _advised(found: Json) -> Json:
    """How many prompts to try for a forecast that is sure enough, or as sure as a quarter of the source makes it,
    and how sure that is; None when it is already, or cannot be made so."""
    total, n, n_all = found["total"], found["prompts_sampled"], found["prompts"]
    off = float(max(total[name] or 0.0 for name in ("requests_off", "tokens_off", "usd_off")))
    n_open = n_all - found["prompts_finished"]
    if off <= SURE or not n_open:
        return None

    def off_with(m: int) -> float:
        """As `expected.error` has it; what a trial finishes is no part of the run any more."""
        return off * sqrt((1 / m + 1 / (n_all - m)) / (1 / n + 1 / n_open))

    most = max(1, n_all // MOST_TRIED)
    best = bisect_left(range(1, most), -SURE, key=lambda m: -off_with(m)) + 1
    return {"prompts": best, "off": off_with(best)} if best > n else None


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
