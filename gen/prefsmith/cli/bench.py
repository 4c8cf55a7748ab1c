"""`prefsmith bench judge`: what its flags mean, and how its report and its thresholds are told."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from prefsmith.cli.terminal import emit, emit_json, plain
from prefsmith.errors import ThresholdFailed, UsageError
from prefsmith.records import Json


def bench_judge(args: Namespace) -> int:
    for flag in ("min_accuracy", "min_consistency"):
        least = getattr(args, flag)
        if least is not None and not 0 <= least <= 1:
            raise UsageError(f"--{flag.replace('_', '-')}: got {least:g}, expected a share from 0 to 1, such as 0.8")
    verdicts = [Path(name) for name in args.verdicts or ()]
    if args.judge:
        return _live(args, verdicts)
    if not verdicts:
        raise UsageError("say whom to measure: --judge NAME --judge-model TARGET:MODEL, or --verdicts FILE")
    if args.estimate or args.judge_model:
        raise UsageError("--estimate and --judge-model are for judges that are asked; name them with --judge")
    from prefsmith.benchmark.recorded import told, write
    from prefsmith.folder import refuse_other_run

    if args.out:
        refuse_other_run(Path(args.out), Path(args.file))
    report = told(Path(args.file), args.format, verdicts, args.seed)
    written = write(Path(args.out), report, verdicts) if args.out else []
    return _finish(args, report, written)


def _live(args: Namespace, verdicts: list[Path]) -> int:
    from prefsmith.cli.flags import bench_of, billed_of

    recipe, folder = bench_of(args)
    from prefsmith.benchmark.live import benched, estimated
    from prefsmith.cli.progress import ProgressLine

    if args.estimate:
        found = estimated(recipe, folder)
        emit_json(found) if args.json else emit("\n".join(map(plain, _estimate(found))))
        return 0
    with ProgressLine(sys.stderr) as line:
        code, report, written = benched(
            recipe,
            folder,
            verdicts,
            change=args.change,
            billed=billed_of(args),
            on_progress=None if args.quiet else line.update,
            say=line.say,
        )
    return code if report is None else _finish(args, report, written)


def _finish(args: Namespace, report: Json, written: list[Path]) -> int:
    from prefsmith.benchmark.recorded import missed
    from prefsmith.report.table import table

    if args.json:
        emit_json(report)
    else:
        emit(plain(table(report)))
        emit("\n".join(map(str, written)))
    failed = list(missed(report, args.min_accuracy, args.min_consistency))
    for one in failed:
        print(f"threshold: {plain(one)}", file=sys.stderr)
    return ThresholdFailed.exit_code if failed else 0


def _estimate(found: Json) -> Iterator[str]:
    yield f"{found['items']:,} pairs"
    for one in found["judges"]:
        most = one["usd_at_most"]
        usd = "at a price that is not known (--prices)" if most is None else f"${most:,.4f} at most"
        yield (
            f"{one['judge']} by {one['model']}: {one['requests']:,} requests, {one['held']:,} verdicts are here; about "
            f"{one['prompt_bytes'] // 4:,} prompt tokens, {usd}"
        )
    for name in found["graders"]:
        yield f"{name}: a program, free"
    if found["judges"]:
        yield "an unreadable reply is asked for again, up to twice, on top of that"
