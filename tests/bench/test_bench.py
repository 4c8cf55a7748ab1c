"""The benches run, at a size where their figures mean nothing: each prints its table, and every row has a figure."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parents[2] / "bench"


def table_of(*command: str) -> dict[str, float]:
    """What a bench printed: the raw figure of each row, by its words."""
    done = subprocess.run([sys.executable, *command], cwd=BENCH, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for said in ("yardstick", "Python 3", "prefsmith "):
        assert said in done.stdout
    figure = r"(-?[\d.,e+-]+)"
    rows = re.findall(rf"^\| ([^|]+) \| {figure} \| {figure} \|", done.stdout, re.M)
    return {what: float(raw.replace(",", "")) for what, raw, _ in rows}


def test_the_engine_bench_measures_the_job_and_the_usual_script_beside_it() -> None:
    rows = table_of("engine.py", "--cases", "a", "--prompts", "20", "--http", "5", "--repeat", "1")
    assert rows["(a) start-up, taken off"] > 0.05
    assert {"(a) usual script over HTTP", "(a) prefsmith over HTTP", "(a) of it the ledger's writer"} < set(rows)


def test_the_memory_bench_survives_its_own_kill_and_sees_the_second_start(tmp_path: Path) -> None:
    rows = table_of("memory.py", "--prompts", "400", "--small", "50", "--repeat", "1", "--keep", str(tmp_path))
    assert rows["second start to its first request, 400 prompts"] > 0
    assert all(10 < rows[what] < 1000 for what in rows if what.startswith("most memory"))
    assert (tmp_path / "out/ledger.db").is_file()


def test_the_ledger_bench_counts_the_rows_that_it_made() -> None:
    rows = table_of("ledger.py", "--prompts", "40", "--repeat", "1")
    assert rows["ledger / its texts, 200 bytes a text, 40 prompts"] > 1
    assert rows["verify: the ledger alone, 1,120 rows"] > 0  # 4 calls, 8 completions, 8 verdicts, 8 texts a prompt


def test_the_script_of_the_first_run_is_whole() -> None:
    script = BENCH / "first_run.sh"
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0
    assert script.stat().st_mode & 0o100
