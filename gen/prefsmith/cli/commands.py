"""One function a command: read what the flags mean, call the run's verb, print what it returned.

Results go to standard output, everything said on the way to standard error.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefsmith.cli.terminal import columns, emit, emit_json, outline, plain, side_by_side, width
from prefsmith.errors import ThresholdFailed, UsageError, did_you_mean
from prefsmith.text import counted

if TYPE_CHECKING:
    from prefsmith.cli.progress import ProgressLine

_INTERRUPTED = (130, 143)


def run(args: Namespace) -> int:
    from prefsmith.cli.flags import recipe_of

    recipe, folder, origins = recipe_of(args)
    # What a run needs is imported only now: a mistake in the flags is told at once.
    from prefsmith.cli.progress import ProgressLine
    from prefsmith.job import run_job

    with ProgressLine(sys.stderr) as line, origins.named():
        code = run_job(recipe, folder, change=args.change, **_carried(args, line))
    return _finish(args, folder, code)


def plan(args: Namespace) -> int:
    from prefsmith.cli.flags import recipe_of

    recipe, folder, origins = recipe_of(args)
    from prefsmith.cli.outlook import render
    from prefsmith.cli.progress import ProgressLine
    from prefsmith.job import plan_job

    with ProgressLine(sys.stderr) as line, origins.named():
        planned = plan_job(
            recipe,
            folder,
            n_tried=args.n_tried,
            change=args.change,
            on_progress=None if args.quiet else line.update,
            say=line.say,
        )
    if args.json:
        emit_json(planned)
    elif planned["exit"] not in _INTERRUPTED:
        emit(plain(render(planned)))
    return int(planned["exit"])


def doctor(args: Namespace) -> int:
    from prefsmith.cli.flags import recipe_of

    recipe, folder, origins = recipe_of(args)
    from prefsmith.doctor import examine, exit_code_of

    findings = examine(recipe, folder, origins.told, asks=args.asks)
    if args.json:
        emit_json([finding.as_json() for finding in findings])
    else:
        emit("\n".join(plain(str(finding)) for finding in findings))
    return exit_code_of(findings)


def judge(args: Namespace) -> int:
    folder = _run_folder(args.run)
    if args.reread:
        return _reread(args, folder)
    from prefsmith.cli.flags import rejudged
    from prefsmith.cli.progress import ProgressLine
    from prefsmith.folder import last_recipe, refuse_evaluation
    from prefsmith.job import judge_job

    last = last_recipe(folder)
    refuse_evaluation(folder, last)
    recipe, origins, notes = rejudged(args, last)
    with ProgressLine(sys.stderr) as line, origins.named():
        for note in notes:
            line.say(note)
        code = judge_job(recipe, folder, **_carried(args, line))
    return _finish(args, folder, code)


def _reread(args: Namespace, folder: Path) -> int:
    """What is told of a folder's verdicts is told anew, by whoever told it before."""
    from prefsmith.cli.flags import only_reread
    from prefsmith.cli.progress import ProgressLine
    from prefsmith.folder import Folder
    from prefsmith.job import reread_job

    only_reread(args)
    with ProgressLine(sys.stderr) as line:
        n_owed = reread_job(folder, say=line.say)
        with Folder(folder) as run:
            recipe = run.recipe
        if recipe.contests is not None:
            again = f"prefsmith bench judge {recipe.prompts.path} … -o {folder}"
            line.say(f"the report is as it was; `{again}`, with the judges that it names, writes it anew")
            return 0
        if recipe.pair.strategy == "arms" and not n_owed:
            from prefsmith.evaluation.job import write_report

            write_report(folder)
    return _finish(args, folder, 0)


def eval(args: Namespace) -> int:
    from prefsmith.cli.flags import evaluation_of

    recipe, folder, origins = evaluation_of(args)
    from prefsmith.cli.progress import ProgressLine
    from prefsmith.evaluation.job import evaluation_job

    with ProgressLine(sys.stderr) as line, origins.named():
        code = evaluation_job(recipe, folder, change=args.change, **_carried(args, line))
    return _finish(args, folder, code)


def _print_evaluation(args: Namespace, folder: Path) -> None:
    from prefsmith.evaluation.page import render
    from prefsmith.evaluation.report import report_of
    from prefsmith.evaluation.samples import beside, samples_of, shown
    from prefsmith.folder import Folder

    report = report_of(folder)
    if args.json:
        emit_json(report)
        return
    emit(plain(render(report)))
    with Folder(folder) as run:
        for row in shown(samples_of(run), args.show):
            emit("\n".join(["", *columns(*beside(row), width())]))


def export(args: Namespace) -> int:
    folders = [_run_folder(name) for name in args.runs]
    from prefsmith.cli.flags import formats_of, pairing_of
    from prefsmith.folder import last_recipe, refuse_pairless
    from prefsmith.handoff import export_job, n_open

    recipes = [last_recipe(folder) for folder in folders]
    for folder, recipe in zip(folders, recipes, strict=True):
        refuse_pairless(folder, recipe)
    last = recipes[0]
    written = export_job(folders, formats_of(args, last), pairing_of(args, last), Path(args.out) if args.out else None)
    if args.json:
        emit_json([{**asdict(one), "path": str(one.path)} for one in written])
    for one in () if args.json else written:
        skipped = "".join(f", {n:,} left out as {reason}" for reason, n in sorted(one.skipped.items()))
        emit(f"{one.path}: {counted(one.n_rows, 'row')} ({one.format}{skipped})")
    for folder in folders:
        if n := n_open(folder):
            print(f"{folder} is not finished: {counted(n, 'item')} to go", file=sys.stderr)
    return 0


def verify(args: Namespace) -> int:
    folder = _run_folder(args.run)
    from prefsmith.evaluation.job import verify_report
    from prefsmith.recheck import verify_folder

    report = verify_report(folder, verify_folder(folder, args.sample))
    if args.json:
        emit_json({"damages": list(report.damages), "lines": list(report.lines), "cures": list(report.cures)})
    else:
        told = [*(f"damaged: {damage}" for damage in report.damages), *(f"what to do: {cure}" for cure in report.cures)]
        emit("\n".join([*report.lines, *map(plain, told)]))
    return ThresholdFailed.exit_code if report.damages else 0


def explain(args: Namespace) -> int:
    folder = _run_folder(args.run)
    from prefsmith.explain import explain as explained

    life = explained(folder, args.id)
    emit_json(life) if args.json else emit("\n".join(outline(life)))
    return 0


def summary(args: Namespace) -> int:
    folder = _run_folder(args.run)
    if args.set_aside:
        _print_set_aside(args, folder)
    else:
        _print_summary(args, folder)
    return 0


def _print_set_aside(args: Namespace, folder: Path) -> None:
    from prefsmith.summary import set_aside

    rows = set_aside(folder)
    if args.json:
        emit_json(rows)
    else:
        told = (": ".join(filter(None, (f"line {r['line']}", r["reason"], r["excerpt"]))) for r in rows)
        emit("\n".join(plain(one).replace("\n", "\\n") for one in told) or "none")


def bench(args: Namespace) -> int:
    from prefsmith.cli.bench import bench_judge

    return bench_judge(args)


def _carried(args: Namespace, line: ProgressLine) -> dict[str, Any]:
    """What each command that asks models is told beside its recipe and its folder."""
    from prefsmith.cli.flags import billed_of

    return {"billed": billed_of(args), "on_progress": None if args.quiet else line.update, "say": line.say}


def _finish(args: Namespace, folder: Path, code: int) -> int:
    """An interrupted run says only how to go on; every other end is worth its summary."""
    if args.json or not (args.quiet or code in _INTERRUPTED):
        _print_summary(args, folder)
    return code


def _print_summary(args: Namespace, folder: Path) -> None:
    from prefsmith.folder import last_recipe

    if last_recipe(folder).pair.strategy == "arms":
        _print_evaluation(args, folder)
        return
    from prefsmith.page import render
    from prefsmith.summary import summary_of

    counted = summary_of(folder)
    if args.json:
        emit_json(counted)
        return
    emit(render(counted))
    _print_pairs(folder, args.show)


def _print_pairs(folder: Path, n: int) -> None:
    from prefsmith.folder import Folder

    if not n:
        return
    with Folder(folder) as run:
        judges = run.judges()
        pairs = ((record, pair) for record in run.records() for pair in record.pairs)
        for record, pair in islice(pairs, n):
            emit("\n".join(["", *side_by_side(record, pair, width(), judges[pair.judge])]))


def _run_folder(name: str) -> Path:
    folder = Path(name)
    if not (folder / "ledger.db").is_file():
        known = [path.parent.as_posix() for at in (".", "runs") for path in Path(at).glob("*/ledger.db")]
        raise UsageError(f"no run in {name!r}: it holds no ledger.db; {did_you_mean(name, known)}")
    return folder
