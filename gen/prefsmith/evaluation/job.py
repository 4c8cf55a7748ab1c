"""An evaluation carried out: checked, run as any recipe is, and told in three files below the run's folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson

from prefsmith.abilities import Say
from prefsmith.errors import UsageError
from prefsmith.evaluation.arms import check_arms
from prefsmith.evaluation.page import render
from prefsmith.evaluation.report import report_of
from prefsmith.evaluation.samples import samples_of
from prefsmith.export.files import replace_file
from prefsmith.folder import Folder
from prefsmith.job import run_job
from prefsmith.judging.graders import Grader
from prefsmith.judging.load import kind_of, pairwise_names
from prefsmith.purse import Billed
from prefsmith.recheck import Report
from prefsmith.recipe import Recipe
from prefsmith.records import Json
from prefsmith.session import OnProgress
from prefsmith.stages.build import Resolution, resolve
from prefsmith.text import counted

REPORT, TABLE, SAMPLES = "eval/report.json", "eval/table.md", "eval/samples.jsonl"


def evaluation_job(
    recipe: Recipe, folder: Path, *, change: bool = False, billed: Billed | None = None,
    on_progress: OnProgress | None = None, say: Say = print,
) -> int:  # fmt: skip
    """Carry an evaluation out, or go on with it. Returns the exit code of the run; raises PrefsmithError.

    The files are written when nothing is owed any more; `report_of` tells a folder at any time.
    """
    _check_comparing(recipe)
    resolution = resolve(recipe)
    check_arms(recipe, resolution)
    _check_judges(resolution)
    if len(recipe.sample) == 1:
        say("one arm alone is marked, and compared with nothing; --arm once more adds another")
    code = run_job(recipe, folder, change=change, billed=billed, on_progress=on_progress, say=say)
    if code == 0:
        write_report(folder)
    return code


def write_report(path: Path) -> Json:
    """Write the report, its table and the answers side by side; returns the report."""
    report = report_of(path)
    with Folder(path) as folder:
        for name, content in _files(report, folder):
            replace_file(path / name, content)
    return report


def verify_report(path: Path, found: Report) -> Report:
    """What `verify` finds, and of an evaluation whose ledger is whole, whether its report is what that gives now."""
    if found.damages:
        return found
    with Folder(path) as folder:
        if folder.recipe.pair.strategy != "arms":
            return found
        last = folder.ledger.db.execute("SELECT exit FROM session ORDER BY id DESC LIMIT 1").fetchone()
        if last[0] != 0:
            return replace(found, lines=(*found.lines, "eval/: not compared, for the evaluation is not finished"))
        # The name under which the folder was reached stands in its report.
        kept = _read_json(path / REPORT)
        report = report_of(path) | {"folder": kept.get("folder")}
        files = [(name, b"".join(content)) for name, content in _files(report, folder)]
    damages = [
        f"{name}: is missing" if not (path / name).is_file() else f"{name}: does not tell what the ledger holds"
        for name, content in files
        if not (path / name).is_file() or (path / name).read_bytes() != content
    ]
    cure = f"`prefsmith judge {path} --reread` writes the report anew from the ledger, which is whole, and asks nothing"
    told = f"eval/: {counted(len(files), 'file')} compared with the ledger"
    return replace(found, damages=tuple(damages), lines=(*found.lines, told), cures=(cure,) if damages else ())


def _files(report: Json, folder: Folder) -> Iterator[tuple[str, Iterable[bytes]]]:
    yield REPORT, [orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)]
    yield TABLE, [render(report, categories=True).encode(), b"\n"]
    yield SAMPLES, _lines(samples_of(folder))


def _read_json(path: Path) -> Json:
    try:
        kept = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _check_comparing(recipe: Recipe) -> None:
    """Looked at before a model is asked for: no model makes a rubric a comparison."""
    for i, entry in enumerate(recipe.judge):
        kind = kind_of(entry.confirm) if entry.confirm else None
        if kind not in (None, "pairwise"):
            raise UsageError(
                f"eval compares by a pairwise judge; {entry.confirm!r} is a {kind}; known pairwise judges: "
                f"{', '.join(pairwise_names())}",
                ("judge", i),
            )


def _check_judges(resolution: Resolution) -> None:
    graders = [one.spec for one in resolution.judges if isinstance(one.judge, Grader)]
    others = [one.spec.use for one in resolution.judges if not isinstance(one.judge, Grader) and one.spec.use]
    if len(graders) > 1 or others:
        given = ", ".join(one.spec.use or one.spec.confirm or "" for one in resolution.judges)
        raise UsageError(
            f"eval: answers are marked by one grader, compared by one pairwise judge, or both; got {given}: name them "
            "with --judge, such as --judge number or --judge pairwise-help --judge-model TARGET:MODEL"
        )


def _lines(rows: Iterable[Json]) -> Iterator[bytes]:
    return (orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE) for row in rows)
