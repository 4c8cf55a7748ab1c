"""A benchmark told from recorded verdicts: read, measured, held to thresholds, written. No model is asked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import orjson

from prefsmith.agreement.compare import compared
from prefsmith.agreement.votes import Votes
from prefsmith.benchmark.formats import contests_of, recognised
from prefsmith.benchmark.gold import benchmark
from prefsmith.benchmark.rows import rows_of
from prefsmith.benchmark.verdicts import votes_of
from prefsmith.errors import UsageError
from prefsmith.export.files import replace_file
from prefsmith.records import Json
from prefsmith.report.page import page


def told(path: Path, name: str, verdicts: Sequence[Path], seed: int = 0) -> Json:
    """The report of a benchmark file and of everyone whose verdicts are given. Raises UsageError."""
    bench = benchmark(contests_of(path, name, seed))
    judges: dict[str, tuple[Path, Votes]] = {}
    for file in verdicts:
        for votes in votes_of(file, bench.ids):
            before, _ = judges.setdefault(votes.judge, (file, votes))
            if before != file:
                raise UsageError(f"{file}: judge {votes.judge!r} is in {before} too; rename one of the two")
    report = compared(bench.gold, [votes for _, votes in judges.values()], seed)
    return {"file": path.name, "format": recognised(path) if name == "auto" else name, **report}


def missed(report: Json, min_accuracy: float | None, min_consistency: float | None) -> Iterator[str]:
    """One line for each threshold that a judge does not reach. A judge of single answers is shown no order, so its
    consistency is not asked for; of one that was asked in one order only it is not known, and so not enough."""
    for judge in report["judges"]:
        shares = judge["shares"]
        for what, least in (("accuracy", min_accuracy), ("consistency", min_consistency)):
            if least is None or (what == "consistency" and judge["kind"] == "pointwise"):
                continue
            found = shares.get(what)
            if found is None:
                yield f"{judge['judge']}: {what} is not known, for one order only was asked; {least:.1%} is wanted"
            elif found["value"] is None or found["value"] < least:
                shown = "not known" if found["value"] is None else f"{found['value']:.1%}"
                by = f" ({judge['main_rule']})" if what == "accuracy" else ""
                yield f"{judge['judge']}: {what}{by} is {shown}, below {least:.1%}"


def write(folder: Path, report: Json, verdicts: Sequence[Path]) -> list[Path]:
    """report.json, report.html and verdicts.jsonl, each whole or not there. Raises MachineError."""
    files = {
        "report.json": [orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY)],
        "report.html": [page(report).encode("utf-8", "replace")],
    }
    written = [replace_file(folder / name, content) for name, content in files.items()]
    kept = folder / "verdicts.jsonl"
    if [file.resolve() for file in verdicts] != [kept.resolve()]:
        written.append(replace_file(kept, _lines(verdicts)))
    return written


def _lines(files: Iterable[Path]) -> Iterator[bytes]:
    """Their rows as JSONL; lines are kept as they are."""
    for file in files:
        if file.suffix in (".json", ".parquet"):
            yield from (orjson.dumps(row) + b"\n" for _, row in rows_of(file))
            continue
        with file.open("rb") as stream:
            for line in stream:
                yield line if line.endswith(b"\n") else line + b"\n"
