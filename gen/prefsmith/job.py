"""The main job: a recipe carried out in a folder, from its source to its files; and the same folder judged again.

Order of events: everything that can be refused is refused before the folder is made; everything is in the ledger
before it is used; files are written at the end and can always be written again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from prefsmith.abilities import Pool, Say, Use, refusal, remembered
from prefsmith.backends import Resolved
from prefsmith.engine import Settings
from prefsmith.errors import BUDGET_REACHED, PrefsmithError, ProviderError, UsageError, at
from prefsmith.folder import Folder
from prefsmith.handoff import export_into, formats_in, n_open
from prefsmith.held import purse_of, settle_held
from prefsmith.intake import begun, check_columns, prompts_of, same_prompts, selected, tell_set_aside
from prefsmith.judging.graders import Grader
from prefsmith.judging.judge import LeafJudge
from prefsmith.judging.parse import READ_VERSION
from prefsmith.ledger.ids import digest
from prefsmith.ledger.imported import import_bodies
from prefsmith.ledger.ingest import Selection, Source, ingest
from prefsmith.ledger.ledger import NAME, Ledger
from prefsmith.ledger.read import spread
from prefsmith.outlook import OFFERED, outlook
from prefsmith.prices import FREE, PriceTable
from prefsmith.purse import Billed
from prefsmith.recipe import Recipe
from prefsmith.records import Json, Prompt
from prefsmith.reread import read_again
from prefsmith.session import OnProgress, session
from prefsmith.stages.build import Resolution, bind, described, resolve
from prefsmith.stages.calls import Cell, Plan
from prefsmith.stages.most import check_sizes
from prefsmith.stages.owed import owed_of
from prefsmith.stages.view import View
from prefsmith.version import VERSION


class Pairs(Source, Protocol):
    """A source of pairs: items that name two answers, and these answers."""

    def answers(self) -> Iterable[tuple[Prompt, tuple[bytes, ...]]]: ...


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
    pools = pools_of(recipe, resolution)
    # Opened before the folder is made: a missing file leaves nothing behind.
    with prompts_of(recipe, folder, pools) as prompts, begun(folder) as ledger:
        same_prompts(ledger, recipe, folder, change, say)
        view = _view(recipe, bind(resolution, ledger), selected(ledger, recipe, prompts))
        tell_set_aside(ledger, view.selection, say)
        settle_held(ledger, recipe, billed, say)
        return _carried_out(ledger, recipe, view, pools, on_progress, say)


def judge_job(
    recipe: Recipe, folder: Path, *, billed: Billed | None = None, on_progress: OnProgress | None = None,
    say: Say = print,
) -> int:  # fmt: skip
    """Judge what a folder holds by other judges or rules; samples nothing and needs no generator's key."""
    resolution = resolve(recipe, sampling=False)
    with Ledger.create(folder) as ledger:
        same_prompts(ledger, recipe, folder, False, say)
        with Folder(folder) as before:
            kept, selection = before.view.plan, before.view.selection
        pools = pools_of(recipe, resolution)
        plan = replace(bind(resolution, ledger), cells=kept.cells, samples=False)
        settle_held(ledger, recipe, billed, say)
        return _carried_out(ledger, recipe, _view(recipe, plan, selection), pools, on_progress, say)


def reread_job(folder: Path, say: Say = print) -> int:
    """Read the stored replies of a folder's judges by today's reader, and export its pairs again. Asks nothing; returns
    how many questions are owed anew."""
    with Ledger.create(folder) as ledger:
        told = read_again(ledger)
        ledger.learn({"reread": {"read_version": READ_VERSION, **told._asdict()}})
        say(str(told))
        with Folder(folder) as before:
            formats = formats_in(ledger, before.recipe.export)
        if told.n_owed:
            say(f"the exported files are left as they were; `prefsmith judge {folder}` asks what is owed")
        for written in () if told.n_owed else export_into(ledger, folder, formats):
            say(f"{written.path}: {written.n_rows:,} rows")
    return told.n_owed


def plan_job(
    recipe: Recipe, folder: Path, *, n_tried: int = 0, change: bool = False, on_progress: OnProgress | None = None,
    say: Say = print,
) -> Json:  # fmt: skip
    """What a run would ask, counted by `needed` over every prompt, and what it would take. Asks nothing and writes no
    run, unless `n_tried` says with how many prompts to try it: these are carried out as a session of the run's own
    folder, which the run goes on from, and `exit` is how that ended."""
    resolution = resolve(recipe, keyless=not n_tried)
    pools = pools_of(recipe, resolution)
    with ExitStack() as stack:
        prompts = stack.enter_context(prompts_of(recipe, folder, pools))
        if not n_tried and not (folder / NAME).exists():
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="prefsmith-")))
        ledger = stack.enter_context(begun(folder))
        if n_tried:
            same_prompts(ledger, recipe, folder, change, say)
        view = _view(recipe, bind(resolution, ledger), selected(ledger, recipe, prompts))
        check_columns(ledger, view, lambda _: None)
        view, known = remembered(ledger, view, pools)
        trial = spread(ledger.db, view.selection, n_tried or OFFERED)
        code = _carried_out(ledger, recipe, view, pools, on_progress, say, trial) if n_tried else 0
        told = {"known_of_models": known} if known else {}
        return {
            "notes": list(resolution.notes),
            **told,
            **outlook(ledger, recipe, resolution, view, pools, trial, purse_of(recipe, ledger)),
            "tried": n_tried,
            "exit": code,
        }


def bench_job(
    recipe: Recipe, folder: Path, pairs: Pairs, *, change: bool = False, billed: Billed | None = None,
    on_progress: OnProgress | None = None, say: Say = print,
) -> int:  # fmt: skip
    """Ask the judges about every pair of a benchmark, or go on with it; samples nothing and writes no pairs."""
    resolution = resolve(recipe, sampling=False)
    for note in resolution.notes:
        say(note)
    pools = pools_of(recipe, resolution)
    with Ledger.create(folder) as ledger:
        same_prompts(ledger, recipe, folder, change, say)
        view = _contested(ledger, recipe, resolution, pairs)
        settle_held(ledger, recipe, billed, say)
        return _carried_out(ledger, recipe, view, pools, on_progress, say)


def estimate_job(recipe: Recipe, folder: Path, pairs: Pairs) -> Json:
    """What `bench_job` would still ask, counted by the function that will ask it."""
    resolution = resolve(recipe, sampling=False, keyless=True)
    pools = pools_of(recipe, resolution)
    with ExitStack() as stack:
        if not (folder / NAME).exists():
            folder = Path(stack.enter_context(TemporaryDirectory(prefix="prefsmith-")))
        ledger = stack.enter_context(Ledger.create(folder))
        view = _contested(ledger, recipe, resolution, pairs)
        return owed_of(ledger.db, view, {key: pool.price for key, pool in pools.items()})


def _contested(ledger: Ledger, recipe: Recipe, resolution: Resolution, pairs: Pairs) -> View:
    selection = ingest(ledger, pairs, "pairs", None)
    sampler, of, n = import_bodies(ledger, pairs.answers())
    cell = Cell(sampler, of, None, "imported", n, "", 1, imported=True)
    return _view(recipe, replace(bind(resolution, ledger), cells=(cell,), samples=False), selection)


def _carried_out(
    ledger: Ledger, recipe: Recipe, view: View, pools: Mapping[str, Pool], on_progress: OnProgress | None, say: Say,
    only: Selection | None = None,
) -> int:  # fmt: skip
    """A session of the view, or of a part of it that stands for it, which writes no files."""
    check_columns(ledger, view, say)
    # A part is remembered as a session of the whole: whoever reads the folder then finds what is still owed of it.
    ledger.begin_session(_remember(ledger, recipe, view), VERSION)
    settings = Settings(
        recipe.window,
        recipe.attempts,
        recipe.grace_s,
        recipe.max_no_verdict,
        recipe.patience_s,
        recipe.staged,
        recipe.probe,
    )
    part = view if only is None else _part(ledger, view, only)
    before, graded = ledger.next_id["call"], ledger.counters().get("verdicts", 0)
    try:
        code = asyncio.run(session(ledger, part, pools, settings, on_progress, say, purse_of(recipe, ledger)))
        if code == 0 and ledger.next_id["call"] == before:
            n_graded = ledger.counters().get("verdicts", 0) - graded
            say("nothing was asked: everything was here" + (f"; {n_graded:,} graded anew" if n_graded else ""))
        to_export = only is None and _to_export(ledger, code, say)
        formats = formats_in(ledger, recipe.export)
        for written in export_into(ledger, ledger.folder, formats) if to_export else ():
            if skipped := ", ".join(f"{n} {why}" for why, n in written.skipped.items()):
                say(f"{written.path}: left out {skipped}")
    except Exception as e:
        ledger.end_session(e.exit_code if isinstance(e, PrefsmithError) else PrefsmithError.exit_code)
        raise
    ledger.end_session(code)
    return code


def _part(ledger: Ledger, view: View, only: Selection) -> View:
    """Under a hash of its own: what is finished of it is no finished span of the whole."""
    sql = "SELECT hash FROM prompt WHERE id = ?"
    of = sorted(ledger.db.execute(sql, (p,)).fetchone()[0].hex() for p in only.prompts or ())
    return View(only, view.plan, digest("view", [view.hash.hex(), of]))


def pools_of(recipe: Recipe, resolution: Resolution) -> dict[str, Pool]:
    """Each model's endpoints and price. Raises UsageError for a budget in money and a model whose price is unknown."""
    with at("prices"):
        table = PriceTable.load(recipe.prices)
    out = {}
    for key, by in resolution.lanes.items():
        endpoint = recipe.endpoints.get(by.endpoint_name)
        price = table.price_of(by.endpoint_name, by.wire_model)
        if price is None and endpoint is not None and endpoint.script is not None:
            price = FREE
        if price is None and recipe.budget is not None and recipe.budget.usd is not None:
            unknown = table.unknown(by.endpoint_name, by.wire_model)
            raise UsageError(f"{unknown}; or give a budget in tokens", ("budget",))
        out[key] = Pool(tuple(by.make()), price)
        if told := refusal(key, out[key].members[0][0], _uses(resolution, key)):
            raise UsageError(told)
    return out


def _uses(resolution: Resolution, lane: str) -> list[Use]:
    """What a recipe asks of one model."""
    sampled = [Use("sample", drawn.sampler.sampling) for drawn in resolution.samplers if drawn.by.backend_key == lane]
    asked: list[tuple[LeafJudge, Resolved]] = []
    for one in resolution.judges:
        if not isinstance(one.judge, Grader) and one.by is not None:
            asked.append((one.judge, one.by))
            asked += [(one.judge.lister, one.lists_by)] if one.judge.lister and one.lists_by else []
    judges = [judge for judge, by in asked if by.backend_key == lane and judge.chats]
    return sampled + [Use(f"judge {j.name!r}", j.sampling, j.needs_logprobs) for j in judges]


def _to_export(ledger: Ledger, code: int, say: Say) -> bool:
    """Files of a finished run, and of one with calls owed when there are pairs and no files yet: fewer rows replace no
    good file."""
    if code == 0 and not n_open(ledger.folder):
        return True
    if code not in (0, ProviderError.exit_code, BUDGET_REACHED):
        return False
    # 0 with items open: `judge` over what a run has not finished yet.
    if code and ledger.db.execute("SELECT count(*) FROM export").fetchone()[0]:
        say(f"the exported files are left as they were; `prefsmith export {ledger.folder}` writes what there is now")
        return False
    with Folder(ledger.folder) as folder:
        return any(record.pairs for record in folder.records())


def _view(recipe: Recipe, plan: Plan, selection: Selection) -> View:
    check_sizes(plan)
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
    if silent := [c.hash.hex() for c in view.plan.cells if not c.keeps_reasoning]:
        kept["silent"] = silent
    return ledger.identity("recipe", kept)[0]
