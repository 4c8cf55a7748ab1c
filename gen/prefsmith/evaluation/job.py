"""An evaluation carried out: checked, run as any recipe is, and told in three files below the run's folder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from prefsmith.recipe import Recipe
from prefsmith.records import Json
from prefsmith.session import OnProgress
from prefsmith.stages.build import Resolution, resolve

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
    code = run_job(recipe, folder, change=change, billed=billed, on_progress=on_progress, say=say)
    if code == 0:
        write_report(folder)
    return code


def write_report(path: Path) -> Json:
    """Write the report, its table and the answers side by side; returns the report."""
    report = report_of(path)
    replace_file(path / REPORT, [orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)])
    replace_file(path / TABLE, [render(report, categories=True).encode(), b"\n"])
    with Folder(path) as folder:
        replace_file(path / SAMPLES, _lines(samples_of(folder)))
    return report


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
