"""A run's folder opened to look: its last recipe, its view, its records. Never asks, never writes.

Works while a run writes, on one snapshot, without the judges' files, models or keys that the run used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from prefsmith.errors import UsageError
from prefsmith.export import Naming
from prefsmith.ledger.ids import digest
from prefsmith.ledger.ingest import Selection
from prefsmith.ledger.ledger import NAME, Ledger
from prefsmith.outcomes import Record
from prefsmith.recipe import Pairing, Recipe
from prefsmith.records import Json
from prefsmith.sources import CONTROL_TOKENS
from prefsmith.stages.build import restored, rule_of
from prefsmith.stages.calls import Plan
from prefsmith.stages.view import View, records

ID_SHIFT = 1_000_000
"""Integers of ledgers that are read together are kept apart by this much."""


class Folder:
    """Open with `with Folder(path) as f`. Raises UsageError when the folder holds no run."""

    def __init__(self, path: Path, pair: Pairing | None = None) -> None:
        self.path = path
        self.ledger = Ledger.read(path)
        try:
            self.ledger.db.execute("BEGIN")
            kept = _last(self.ledger)
            self.recipe = Recipe.model_validate(kept["recipe"])
            plan = _silenced(restored(kept["plan"], self.recipe, self.ledger), kept.get("silent", ()))
            chosen = Selection(**_selection(self.ledger, kept["selection"]))
        except BaseException:
            self.ledger.close()
            raise
        self.view = View(chosen, plan, bytes.fromhex(kept["view"]))
        if pair is not None:
            self.view = self.under(pair)

    def __enter__(self) -> Folder:
        return self

    def __exit__(self, *_: object) -> None:
        self.ledger.close()

    def shows(self, view: bytes) -> bool:
        """A file of this view is of the last recipe, under its own pairing or another; else of an earlier one."""
        return view == view_of(self.view.hash, pairing_of(self.ledger, view))

    def under(self, pair: Pairing) -> View:
        """The same view, paired by another rule."""
        return replace(self.view, plan=replace(self.view.plan, rule=rule_of(pair, self.recipe.seed)))

    def records(self, shift: int = 0) -> Iterator[Record]:
        return records(self.ledger.db, self.view, shift)

    def samplers(self) -> dict[int, Json]:
        """Descriptions of the view's samplers, by id."""
        kept = {i: orjson.loads(text) for i, text in self.ledger.db.execute("SELECT id, json FROM sampler")}
        return {c.sampler: {**kept[c.sampler], "model": c.wire_model} for c in self.view.plan.cells}

    def judges(self) -> dict[int, str]:
        """Names of the view's judges, by id, in the order in which they decide."""
        return dict(self.view.plan.names)

    def naming(self, shift: int = 0) -> Naming:
        """What exporters need to know beside the records."""
        return Naming(
            {i + shift: described for i, described in self.samplers().items()},
            {i + shift: name for i, name in self.judges().items()},
            self._has_tools(),
            joined=False,
            control_tokens=() if self.recipe.prompts.allow_control_tokens else tuple(sorted(CONTROL_TOKENS)),
        )

    def _has_tools(self) -> bool:
        """Some prompt of the view offers tools; others, that an earlier source brought, change no file."""
        db, chosen = self.ledger.db, self.view.selection
        if db.execute("SELECT 1 FROM prompt WHERE tools IS NOT NULL LIMIT 1").fetchone() is None:
            return False
        sql = (
            "SELECT 1 FROM row r JOIN item i ON i.id = r.item JOIN prompt p ON p.id = i.prompt "
            "WHERE r.source = ? AND r.line <= ? AND p.tools IS NOT NULL LIMIT 1"
        )
        return db.execute(sql, (chosen.source, chosen.last_line)).fetchone() is not None


def last_recipe(path: Path) -> Recipe:
    """The recipe of the last session in a folder. Raises UsageError for a folder of no run, or of a benchmark."""
    with Ledger.read(path) as ledger:
        recipe = Recipe.model_validate(_last(ledger)["recipe"])
    refuse_benchmark(path, recipe)
    return recipe


def kind_of(recipe: Recipe) -> str:
    """What a folder of this recipe holds, in words."""
    if recipe.contests is not None:
        return "a benchmark of judges"
    return "an evaluation" if recipe.pair.strategy == "arms" else "a run that makes pairs"


def refuse_benchmark(path: Path, recipe: Recipe) -> None:
    """A benchmark of judges has no pairs to summarise, export or judge anew."""
    if recipe.contests is not None:
        raise UsageError(
            f"{path} holds a benchmark of judges; `prefsmith bench judge {recipe.prompts.path} … -o {path}` tells it "
            "again, with the judges that it names"
        )


def refuse_evaluation(path: Path, recipe: Recipe) -> None:
    """`judge` reads no arms, and would leave the evaluation's files as they were."""
    if recipe.pair.strategy == "arms":
        raise UsageError(
            f"{path} is an evaluation's folder; `prefsmith eval {recipe.prompts.path} … --judge NAME -o {path}`, with "
            "the arms that it had, has its answers judged by others"
        )


def refuse_pairless(path: Path, recipe: Recipe) -> None:
    """An evaluation's pairs are of arms, and for no trainer."""
    if recipe.pair.strategy == "arms":
        raise UsageError(f"{path} holds an evaluation, which makes no pairs; export the run that its prompts train on")


def refuse_other_run(path: Path, benchmark: Path | None = None) -> None:
    """A benchmark goes into no folder of a run that makes pairs; the report of recorded verdicts on `benchmark` only
    into one that holds no run, or that benchmark's."""
    if not (path / NAME).is_file():
        return
    with Ledger.read(path) as ledger:
        if ledger.db.execute("SELECT 1 FROM session LIMIT 1").fetchone() is None:
            return
        recipe = Recipe.model_validate(_last(ledger)["recipe"])
    of = recipe.prompts.path
    if recipe.contests is None:
        raise UsageError(f"{path} holds a run over {of}, and no benchmark of judges; choose another folder with -o")
    if benchmark is not None and Path(of).resolve() != benchmark.resolve():
        raise UsageError(f"{path} holds a benchmark of {of}, not of {benchmark}; choose another folder with -o")


def view_of(run: bytes, pair: Pairing | None) -> bytes:
    """The view of a file: the run's, or the run's under another pairing rule."""
    return run if pair is None else digest("view", [run.hex(), pair.model_dump(mode="json")])


def pairing_of(ledger: Ledger, view: bytes) -> Pairing | None:
    """The pairing rule under which a file of this view was exported; None for the run's own."""
    row = ledger.db.execute("SELECT json FROM fact WHERE name = ?", (pairing_fact(view),)).fetchone()
    return None if row is None else Pairing.model_validate(orjson.loads(row[0]))


def pairing_fact(view: bytes) -> str:
    """The name under which the ledger keeps that rule."""
    return f"export.pair.{view.hex()}"


def _last(ledger: Ledger) -> Any:
    found = ledger.db.execute(
        "SELECT r.json FROM session s JOIN recipe r ON r.id = s.recipe ORDER BY s.id DESC LIMIT 1"
    ).fetchone()
    if found is None:
        raise UsageError(
            f"{ledger.folder} holds a ledger but no run yet; `prefsmith run -o {ledger.folder}` starts one"
        )
    return orjson.loads(found[0])


def _silenced(plan: Plan, silent: Collection[str]) -> Plan:
    cells = (replace(c, keeps_reasoning=c.hash.hex() not in silent) for c in plan.cells)
    return replace(plan, cells=tuple(cells))


def _selection(ledger: Ledger, kept: Json) -> dict[str, Any]:
    of = bytes.fromhex(kept["source"])
    source = ledger.db.execute("SELECT id FROM source WHERE hash = ?", (of,)).fetchone()[0]
    return {"source": source, "hash": of, "last_line": kept["last_line"], "n_items": kept["n_items"]}
