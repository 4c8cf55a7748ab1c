"""A run's folder opened to look: its last recipe, its view, its records. Never asks, never writes.

Works while a run writes, without the judges' files, models or keys that the run used.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from prefsmith.errors import UsageError
from prefsmith.export import Naming
from prefsmith.ledger.ingest import Selection
from prefsmith.ledger.ledger import Ledger
from prefsmith.outcomes import Record
from prefsmith.recipe import Pairing, Recipe
from prefsmith.records import Json
from prefsmith.stages.build import restored, rule_of
from prefsmith.stages.view import View, records

ID_SHIFT = 1_000_000
"""Integers of ledgers that are read together are kept apart by this much."""


class Folder:
    """Open with `with Folder(path) as f`. Raises UsageError when the folder holds no run."""

    def __init__(self, path: Path, pair: Pairing | None = None) -> None:
        self.path = path
        self.ledger = Ledger.read(path)
        kept = _last(self.ledger)
        self.recipe = Recipe.model_validate(kept["recipe"])
        plan = restored(kept["plan"], self.recipe, self.ledger)
        if pair is not None:
            plan = replace(plan, rule=rule_of(pair, self.recipe.seed))
        self.view = View(Selection(**_selection(self.ledger, kept["selection"])), plan, bytes.fromhex(kept["view"]))
        self.kept: Json = kept

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.close()

    def records(self, shift: int = 0) -> Iterator[Record]:
        return records(self.ledger.db, self.view, shift)

    def naming(self, shift: int = 0) -> Naming:
        """Descriptions of the view's samplers and names of its judges, for exporters and the summary."""
        db, plan = self.ledger.db, self.view.plan
        samplers = {i: orjson.loads(text) for i, text in db.execute("SELECT id, json FROM sampler")}
        leaves = (*plan.leaves, *((plan.confirm,) if plan.confirm else ()))
        tools = db.execute("SELECT 1 FROM prompt WHERE tools IS NOT NULL LIMIT 1").fetchone()
        return Naming(
            {c.sampler + shift: {**samplers[c.sampler], "model": c.wire_model} for c in plan.cells},
            {x.judge + shift: x.name for x in leaves},
            tools is not None,
        )


def last_recipe(path: Path) -> Recipe:
    """The recipe of the last session in a folder."""
    with Ledger.read(path) as ledger:
        return Recipe.model_validate(_last(ledger)["recipe"])


def _last(ledger: Ledger) -> Any:
    found = ledger.db.execute(
        "SELECT r.json FROM session s JOIN recipe r ON r.id = s.recipe ORDER BY s.id DESC LIMIT 1"
    ).fetchone()
    if found is None:
        raise UsageError(
            f"{ledger.folder} holds a ledger but no run yet; `prefsmith run -o {ledger.folder}` starts one"
        )
    return orjson.loads(found[0])


def _selection(ledger: Ledger, kept: Json) -> dict[str, Any]:
    of = bytes.fromhex(kept["source"])
    source = ledger.db.execute("SELECT id FROM source WHERE hash = ?", (of,)).fetchone()[0]
    return {"source": source, "hash": of, "last_line": kept["last_line"], "n_items": kept["n_items"]}
