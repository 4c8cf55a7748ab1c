"""The benches run, at a size where their figures mean nothing: each prints its table, and every row has a figure."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


def table_of(*command: str) -> dict[str, float]:
    """What a bench printed: the raw figure of each row, by its words."""
    done = subprocess.run([sys.executable, *command], cwd=BENCH, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for said in ("Python 3", "prefsmith ", "openai "):
        assert said in done.stdout
    rows = re.findall(r"^\| ([^|]+) \| (-?[\d.,e+-]+|inf) \|", done.stdout, re.M)
    return {what: float(raw.replace(",", "")) for what, raw in rows}


def test_the_engine_bench_takes_reading_and_writing_off_the_whole_job() -> None:
    rows = table_of("engine.py", "--cases", "a", "--prompts", "20", "--script", "5", "--repeat", "1")
    assert rows["(a) start-up, taken off"] > 0.05
    engine, alone, whole, read, wrote, fake = (
        next(raw for what, raw in rows.items() if words in what)
        for words in (
            "(a) the engine:",
            "the fake's answers apart",
            "the whole job",
            "reading the source",
            "writing the file",
            "main thread the fake's answers",
        )
    )
    assert engine == pytest.approx(whole - read - wrote, rel=0.02, abs=20)
    assert alone == pytest.approx(engine - fake, rel=0.02, abs=20) and fake > 0


def test_the_backends_bench_sets_the_scripts_beside_the_job() -> None:
    rows = table_of("backends.py", "--tiny", "--repeat", "1", "--only", "cpu")
    for who in ("the usual script", "the script with aiohttp", "bare aiohttp", "bare sockets"):
        assert f"64 at a time: {who}" in rows
    assert "64 at a time: prefsmith / the script with aiohttp" in rows


@pytest.mark.slow
def test_the_plan_bench_sets_what_was_foretold_beside_the_run() -> None:
    rows = table_of("plan.py", "--tiny", "--only", "stub", "rate")
    for n in (80, 60):
        assert rows[f"{n} prompts: finished by trials"] >= 12
        for what in ("requests", "tokens", "USD", "seconds"):
            assert rows[f"{n} prompts: {what}, foretold"] > 0 and rows[f"{n} prompts: {what}, of the run"] > 0
        assert rows[f"{n} prompts: requests, off by"] < 30


def test_the_agreement_bench_measures_recorded_verdicts() -> None:
    rows = table_of("agreement.py", "--verdicts", "2000", "--judges", "2", "--repeat", "1")
    n = "2,000 verdicts of 2 judges on 500 pairs"
    assert rows[f"{n}: the whole process"] > rows[f"{n}: and the three files written"]
    assert rows[f"{n}: and the three files written"] >= rows[f"{n}: all figures, bootstrap included"] > 0


@pytest.mark.slow
def test_the_plan_bench_foretells_the_embedded_model() -> None:
    rows = table_of("plan.py", "--tiny", "--only", "embedded")
    assert rows["demo, 30 items: requests, off by"] == 0 and rows["demo, 30 items: tokens, off by"] < 30


@pytest.mark.slow
def test_the_backends_bench_fills_its_slots_and_looks_at_memory() -> None:
    rows = table_of("backends.py", "--tiny", "--only", "slots")
    assert 1 < rows["64 allowed, prefsmith: mean in flight / allowed"] <= 100
    assert rows["64 at a time, prefsmith: most in flight"] > 32
    assert rows["64 at a time, prefsmith: rows lost of 192"] == 0


def test_the_backends_bench_counts_lost_and_wrong_rows_under_faults() -> None:
    rows = table_of("backends.py", "--tiny", "--only", "faults")
    assert rows["faults, prefsmith: rows lost of 124"] == rows["faults, prefsmith: wrong rows"] == 0
    assert rows["faults, prefsmith: faulty answers"] > 1
    assert rows["faults, the script with aiohttp: rows lost of 20"] > 0  # it has no answer to unusable ones


@pytest.mark.slow
def test_the_backends_bench_sees_the_end_of_a_storm_and_of_an_outage() -> None:
    rows = table_of("backends.py", "--tiny", "--only", "storm")
    for said in ("nothing but 429, retry-after 1 s", "nothing but 429, no word more", "nobody listens"):
        assert rows[f"0.5 s: {said}: rows lost of 480"] == 0
        assert rows[f"0.5 s: {said}: to full speed after its end"] > 0


def test_the_backends_bench_measures_known_and_hidden_limits() -> None:
    rows = table_of("backends.py", "--tiny", "--only", "limits")
    assert rows["6,000 requests a minute, told in headers, prefsmith: used for rows kept"] > 1
    assert 1 < rows["hidden limit of 8 in flight, prefsmith: mean in flight / allowed"] <= 100
    assert rows["6,000,000 tokens a minute: heavy / light"] > 0


@pytest.mark.slow
def test_the_backends_bench_adds_a_killed_run_to_the_same_bill() -> None:
    rows = table_of("backends.py", "--tiny", "--only", "budget")
    for what in ("undisturbed", "killed -9 half-way"):
        assert 1 < rows[f"budget, {what}: spent by the server's account, at most"] <= 100


def test_the_memory_bench_survives_its_own_kill_and_sees_the_second_start(tmp_path: Path) -> None:
    rows = table_of(
        "memory.py", "--prompts", "400", "--small", "50", "--repeat", "1", "--script", "5", "--keep", str(tmp_path)
    )
    assert rows["second start to its first request, 400 prompts"] > 0
    assert all(10 < rows[what] < 1000 for what in rows if what.startswith("most memory"))
    assert (tmp_path / "out/ledger.db").is_file()


def test_the_ledger_bench_counts_the_rows_that_it_made() -> None:
    rows = table_of("ledger.py", "--prompts", "40", "--repeat", "1", "--script", "5")
    assert rows["ledger / its texts, 200 bytes a text, 40 prompts"] > 1
    assert rows["verify: the ledger alone, 1,120 rows"] > 0  # 4 calls, 8 completions, 8 verdicts, 8 texts a prompt


def test_the_script_of_the_first_run_is_whole() -> None:
    script = BENCH / "first_run.sh"
    assert subprocess.run(["bash", "-n", str(script)], capture_output=True).returncode == 0
    assert script.stat().st_mode & 0o100
