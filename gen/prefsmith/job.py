"""The main job: a recipe carried out in a folder, from its source to its files; and the same folder judged again.

Order of events: everything that can be refused is refused before the folder is made; everything is in the ledger
before it is used; files are written at the end and can always be written again.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import orjson

from prefsmith.engine import Settings
from prefsmith.errors import BUDGET_REACHED, PrefsmithError, ProviderError, UsageError
from prefsmith.folder import Folder
from prefsmith.handoff import export_into
from prefsmith.ledger.ids import digest
from prefsmith.ledger.ingest import Selection, ingest, stored_stream
from prefsmith.ledger.ledger import NAME, Ledger
from prefsmith.prices import FREE, PriceTable, nanousd_of
from prefsmith.purse import Billed, Purse, settle
from prefsmith.recipe import Recipe
from prefsmith.records import Json
from prefsmith.session import OnProgress, Pool, Say, session
from prefsmith.sources import CONTROL_TOKENS, Source, open_source
from prefsmith.stages.build import Resolution, bind, described, resolve
from prefsmith.stages.calls import Plan
from prefsmith.stages.forecast import forecast
from prefsmith.stages.view import View
from prefsmith.version import VERSION


def run_job(
    recipe: Recipe, folder: Path, *, change: bool = False, billed: Billed | None = None,
    on_progress: OnProgress | None = None, say: Say = print,
) -> int:  # fmt: skip
    """Carry a recipe out in a folder, or go on with it. Returns the exit code; raises PrefsmithError.

    `billed`: the user's word on what the folder holds as maybe billed.
    """
    resolution = resolve(recipe)
    for note in resolution.notes:
        say(note)
    pools = _pools(recipe, resolution)
    # Opened before the folder is made: a missing file leaves nothing behind.
    with _prompts(recipe, folder, pools) as prompts, Ledger.create(folder) as ledger:
        _same_prompts(ledger, recipe, folder, change, say)
        view = _view(recipe, bind(resolution, ledger), _selected(ledger, recipe, prompts))
        _tell_set_aside(ledger, view.selection, say)
        _settle(ledger, recipe, billed, say)
        return _carried_out(ledger, recipe, view, pools, on_progress, say)


def judge_job(
    recipe: Recipe, folder: Path, *, billed: Billed | None = None, on_progress: OnProgress | None = None,
    say: Say = print,
) -> int:  # fmt: skip
    """Judge what a folder holds by other judges or rules; samples nothing and needs no generator's key."""
    resolution = resolve(recipe, sampling=False)
    with Ledger.create(folder) as ledger:
        _same_prompts(ledger, recipe, folder, False, say)
        with Folder(folder) as before:
            kept, selection = before.view.plan, before.view.selection
        pools = _pools(recipe, resolution)
        plan = replace(bind(resolution, ledger), cells=kept.cells, samples=False)
        _settle(ledger, recipe, billed, say)
        return _carried_out(ledger, recipe, _view(recipe, plan, selection), pools, on_progress, say)


def plan_job(recipe: Recipe, folder: Path) -> Json:
    """What a run would ask, counted by `needed` over every prompt; asks nothing and writes no run."""
    resolution = resolve(recipe)
    pools = _pools(recipe, resolution)
    with ExitStack() as stack:
        prompts = stack.enter_context(_prompts(recipe, folder, pools))
        if not (folder / NAME).exists():
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="prefsmith-")))
        ledger = stack.enter_context(Ledger.create(folder))
        view = _view(recipe, bind(resolution, ledger), _selected(ledger, recipe, prompts))
        _check_columns(ledger, view, lambda _: None)
        return {"notes": list(resolution.notes), "items": view.selection.n_items, **forecast(ledger.db, view)}


def _carried_out(
    ledger: Ledger, recipe: Recipe, view: View, pools: Mapping[str, Pool], on_progress: OnProgress | None, say: Say,
) -> int:  # fmt: skip
    _check_columns(ledger, view, say)
    ledger.begin_session(_remember(ledger, recipe, view), VERSION)
    settings = Settings(
        recipe.window, recipe.attempts, recipe.grace_s, recipe.max_no_verdict, recipe.patience_s, recipe.staged
    )
    try:
        code = asyncio.run(session(ledger, view, pools, settings, on_progress, say, _purse(recipe, ledger)))
        for written in export_into(ledger, ledger.folder, recipe.export) if _to_export(ledger, code, say) else ():
            if skipped := ", ".join(f"{n} {why}" for why, n in written.skipped.items()):
                say(f"{written.path}: left out {skipped}")
    except Exception as e:
        ledger.end_session(e.exit_code if isinstance(e, PrefsmithError) else PrefsmithError.exit_code)
        raise
    ledger.end_session(code)
    return code


def _pools(recipe: Recipe, resolution: Resolution) -> dict[str, Pool]:
    """Each model's endpoints and price. Raises UsageError for a budget in money and a model whose price is unknown."""
    table = PriceTable.load(recipe.prices)
    out = {}
    for key, by in resolution.lanes.items():
        endpoint = recipe.endpoints.get(by.endpoint_name)
        price = table.price_of(by.endpoint_name, by.wire_model)
        if price is None and endpoint is not None and endpoint.script is not None:
            price = FREE
        if price is None and recipe.budget is not None and recipe.budget.usd is not None:
            raise UsageError(f"budget: {table.unknown(by.endpoint_name, by.wire_model)}; or give a budget in tokens")
        out[key] = Pool(tuple(by.make()), price)
    return out


def _purse(recipe: Recipe, ledger: Ledger) -> Purse | None:
    budget = recipe.budget
    if budget is None:
        return None
    if budget.usd is not None:
        return Purse.of(ledger.db, "nanousd", nanousd_of(budget.usd))
    return Purse.of(ledger.db, "tokens", budget.tokens or 0)


def _settle(ledger: Ledger, recipe: Recipe, billed: Billed | None, say: Say) -> None:
    if billed is None:
        return
    if recipe.budget is not None and (billed.unit == "nanousd") != (recipe.budget.usd is not None):
        unit = "tokens" if recipe.budget.usd is None else "USD"
        raise UsageError(f"--maybe-billed: got {billed}, but the budget is in {unit}; say it in {unit} too")
    say(f"held as maybe billed: {settle(ledger, billed)}; {billed} from now on, as you say")


def _to_export(ledger: Ledger, code: int, say: Say) -> bool:
    """Files of a finished run, and of one with calls owed when there are none yet: fewer rows replace no good file."""
    if code not in (ProviderError.exit_code, BUDGET_REACHED):
        return code == 0
    kept = ledger.db.execute("SELECT count(*) FROM export").fetchone()[0]
    if kept:
        say(f"the exported files are left as they were; `prefsmith export {ledger.folder}` writes what there is now")
    return not kept


def _same_prompts(ledger: Ledger, recipe: Recipe, folder: Path, change: bool, say: Say) -> None:
    """The same prompts go on, and what differs is told; others need another folder or a word."""
    if ledger.db.execute("SELECT count(*) FROM session").fetchone()[0] == 0:
        return
    with Folder(folder) as before:
        old = before.recipe
    if old.prompts.path != recipe.prompts.path and not change:
        raise UsageError(
            f"{folder} was run on {old.prompts.path!r}, not {recipe.prompts.path!r}: choose another folder with -o, "
            "or --change to use other prompts here"
        )
    differing = _differences(old.model_dump(mode="json"), recipe.model_dump(mode="json"))
    say(f"going on in {folder}" + (": " + "; ".join(differing) if differing else ""))


def _differences(old: Json, new: Json, place: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(k for k in new if k not in old)]
        return [d for k in keys for d in _differences(old.get(k), new.get(k), f"{place}.{k}" if place else k)]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [d for i, (a, b) in enumerate(zip(old, new, strict=True)) for d in _differences(a, b, f"{place}.{i}")]
    return [] if old == new else [f"{place} {_brief(old)} -> {_brief(new)}"]


def _brief(value: Json) -> str:
    text = orjson.dumps(value).decode()
    return text if len(text) <= 60 else text[:57] + "…"


class _Prompts(NamedTuple):
    """The opened source, None for a standard input that this folder has read before and nobody types again.

    `mapping`: digest of what turns its lines into items.
    """

    source: Source | None
    mapping: str


@contextmanager
def _prompts(recipe: Recipe, folder: Path, pools: Mapping[str, Pool]) -> Iterator[_Prompts]:
    spec = recipe.prompts
    tokens = CONTROL_TOKENS.union(*(b.capabilities().control_tokens for of in pools.values() for b, _ in of.members))
    mapping = digest("mapping", [spec.model_dump(mode="json", exclude={"path", "limit"}), sorted(tokens)]).hex()
    if spec.path == "-" and sys.stdin.isatty() and (folder / NAME).exists():
        yield _Prompts(None, mapping)
        return
    with closing(open_source(spec, frozenset(tokens))) as source:
        yield _Prompts(source, mapping)


def _selected(ledger: Ledger, recipe: Recipe, prompts: _Prompts) -> Selection:
    """Read the source, or what is not yet read of it."""
    spec = recipe.prompts
    if prompts.source is not None:
        selection = ingest(ledger, prompts.source, prompts.mapping, spec.limit)
    elif (kept := stored_stream(ledger, prompts.mapping, spec.limit)) is not None:
        selection = kept
    else:
        raise UsageError(f"{ledger.folder} has read no standard input; pipe the prompts in, or name their file")
    if selection.n_items == 0:
        reasons = ledger.db.execute(
            "SELECT reason, count(*), min(line) FROM row WHERE source = ? GROUP BY reason", (selection.source,)
        ).fetchall()
        told = ", ".join(f"{n} {why} (first at line {line})" for why, n, line in reasons) or "it is empty"
        raise UsageError(
            f"{spec.path!r} holds no usable prompt: {told}; name the column with --prompt if it has another"
        )
    return selection


def _view(recipe: Recipe, plan: Plan, selection: Selection) -> View:
    named = [
        selection.hash.hex(),
        described(plan),
        recipe.gates.model_dump(mode="json"),
        recipe.pair.model_dump(mode="json"),
        recipe.seed,
    ]
    return View(selection, plan, digest("view", named))


def _remember(ledger: Ledger, recipe: Recipe, view: View) -> int:
    chosen = view.selection
    kept = {
        "recipe": recipe.model_dump(mode="json"),
        "plan": described(view.plan),
        "selection": {"source": chosen.hash.hex(), "last_line": chosen.last_line, "n_items": chosen.n_items},
        "view": view.hash.hex(),
    }
    return ledger.identity("recipe", kept)[0]


def _tell_set_aside(ledger: Ledger, selection: Selection, say: Say) -> None:
    """The first bad rows in words; the summary counts them all."""
    where = "FROM row WHERE source = ? AND line <= ? AND item IS NULL"
    chosen = (selection.source, selection.last_line)
    n = ledger.db.execute(f"SELECT count(*) {where}", chosen).fetchone()[0]
    for line, why, excerpt in ledger.db.execute(f"SELECT line, reason, excerpt {where} ORDER BY line LIMIT 5", chosen):
        say(f"set aside line {line}: {why}: {excerpt or ''}"[:160])
    if n > 5:
        say(f"set aside {n - 5} more rows; `SELECT line, reason, excerpt FROM row` in {NAME} names them all")


def _check_columns(ledger: Ledger, view: View, say: Say) -> None:
    """A judge that no item can satisfy is an error of the recipe; one that some cannot is told."""
    where = "FROM row r JOIN item i ON i.id = r.item WHERE r.source = ? AND r.line <= ? AND r.reason IS NULL"
    chosen = (view.selection.source, view.selection.last_line)
    for leaf in view.plan.leaves:
        for name in leaf.needs:
            have = f"i.{name} IS NOT NULL" if name in ("reference", "category") else "instr(i.columns, ?) > 0"
            values = chosen if name in ("reference", "category") else (*chosen, f'"{name}":')
            n = ledger.db.execute(f"SELECT count(*) {where} AND {have}", values).fetchone()[0]
            if n == 0:
                how = f"map it (prompts.{name}: COLUMN)" if name in ("reference", "category") else "name a column so"
                raise UsageError(
                    f"{leaf.role} {leaf.name!r} needs the column {name!r}, which no item has; {how}, "
                    "or take another judge"
                )
            if n < view.selection.n_items:
                say(
                    f"{view.selection.n_items - n} of {view.selection.n_items} items lack {name!r}, which "
                    f"{leaf.name!r} needs: it gives them no verdict"
                )
