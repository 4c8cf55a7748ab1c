"""A live benchmark: a run whose judges are asked about a file's pairs, then told like any recorded one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from prefsmith.abilities import Say
from prefsmith.benchmark.harvest import harvested
from prefsmith.benchmark.recorded import told, write
from prefsmith.benchmark.source import Pairs
from prefsmith.export.files import replace_file
from prefsmith.folder import Folder, refuse_other_run
from prefsmith.job import bench_job, estimate_job
from prefsmith.purse import Billed
from prefsmith.recipe import Recipe
from prefsmith.records import Json
from prefsmith.session import OnProgress

VERDICTS = "verdicts.jsonl"


def benched(
    recipe: Recipe, folder: Path, others: Sequence[Path] = (), *, change: bool = False, billed: Billed | None = None,
    on_progress: OnProgress | None = None, say: Say = print,
) -> tuple[int, Json, list[Path]]:  # fmt: skip
    """Ask what is missing, then write the verdicts and the report; the exit code, the report, which is None while calls
    are owed, and the files. `others`: recorded verdicts that stand in the same table. Raises PrefsmithError."""
    refuse_other_run(folder)
    pairs = pairs_of(recipe)
    for _ in pairs.contests():
        pass  # what is wrong with the file is told before anything is made or spent
    code = bench_job(recipe, folder, pairs, change=change, billed=billed, on_progress=on_progress, say=say)
    if code:
        return code, None, []
    with Folder(folder) as run:
        replace_file(folder / VERDICTS, harvested(run, pairs))
    verdicts = [folder / VERDICTS, *others]
    report = told(Path(recipe.prompts.path), recipe.contests or "auto", verdicts, recipe.seed)
    written = write(folder, report, verdicts)
    return 0, report, written if others else [*written, folder / VERDICTS]


def estimated(recipe: Recipe, folder: Path) -> Json:
    """What `benched` would still ask and what that takes at most. Asks nothing and makes no folder."""
    refuse_other_run(folder)
    return estimate_job(recipe, folder, pairs_of(recipe))


def pairs_of(recipe: Recipe) -> Pairs:
    return Pairs(Path(recipe.prompts.path), recipe.contests or "auto", recipe.seed)
