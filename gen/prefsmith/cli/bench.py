"""`prefsmith bench judge`: what its flags mean, and how its report and its thresholds are told."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path

from prefsmith.cli.terminal import emit, emit_json, plain
from prefsmith.errors import ThresholdFailed, UsageError


def bench_judge(args: Namespace) -> int:
    for flag in ("min_accuracy", "min_consistency"):
        least = getattr(args, flag)
        if least is not None and not 0 <= least <= 1:
            raise UsageError(f"--{flag.replace('_', '-')}: got {least:g}, expected a share from 0 to 1, such as 0.8")
    if not args.verdicts:
        raise UsageError("name the recorded verdicts to measure with --verdicts FILE")
    from prefsmith.benchmark.recorded import told

    verdicts = [Path(name) for name in args.verdicts]
    return _finish(args, told(Path(args.file), args.format, verdicts, args.seed), verdicts)


def _finish(args: Namespace, report: object, verdicts: list[Path]) -> int:
    from prefsmith.benchmark.recorded import missed, write
    from prefsmith.report.table import table

    written = write(Path(args.out), report, verdicts) if args.out else []
    if args.json:
        emit_json(report)
    else:
        emit(plain(table(report)))
        for path in written:
            emit(str(path))
    failed = list(missed(report, args.min_accuracy, args.min_consistency))
    for line in failed:
        print(f"threshold: {plain(line)}", file=sys.stderr)
    return ThresholdFailed.exit_code if failed else 0
