"""Readers beside a writer: `verify`, `explain` and `summary` on a run in another process, live or killed."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefsmith.explain import explain
from prefsmith.folder import Folder
from prefsmith.job import run_job
from prefsmith.page import render
from prefsmith.recheck import Report, verify_folder
from prefsmith.recipe import Recipe
from prefsmith.summary import summary_of

RUN = (
    "import sys; from pathlib import Path; from prefsmith.recipe import Recipe; from prefsmith.job import run_job\n"
    "sys.exit(run_job(Recipe.model_validate_json(sys.argv[1]), Path(sys.argv[2]), say=lambda _: None))"
)


def recipe(folder: Path, n: int) -> Recipe:
    rows = ({"prompt": f"Say {i}.", "reference": f"quality={i % 9}"} for i in range(n))
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    script = {"latency_s": 0.03, "unparseable": 0.2, "duplicates": 0.1, "chars": 120, "log": str(folder / "asked")}
    judge = {"model": "fake:j"}
    return Recipe.model_validate(
        {
            "prompts": {"path": str(folder / "p.jsonl")},
            "endpoints": {"fake": {"script": script, "n_per_request": 2}},
            "sample": {"model": "fake:m", "temperature": [0.5, 1.0], "n": 3},
            "judge": ["contains", {"use": "rubric-help", **judge}, {"confirm": "pairwise-help", **judge}],
            "max_no_verdict": 1,
            "export": ["trl", "openai", "trl-parquet", "parquet"],
            "window": 40,
        }
    )


def checked(folder: Path) -> Report:
    return verify_folder(folder, 1000)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[Path, "subprocess.Popen[str]"]]:
    """A run in another process, in the middle of its work."""
    log, given = tmp_path / "asked", recipe(tmp_path, 80)
    words = [sys.executable, "-c", RUN, given.model_dump_json(), str(tmp_path / "run")]
    with subprocess.Popen(words, text=True) as child:
        until = time.monotonic() + 30
        while not log.exists() or log.stat().st_size < 30_000:
            assert time.monotonic() < until and child.poll() is None
            time.sleep(0.01)
        yield tmp_path / "run", child
        child.kill()


def test_a_live_run_is_whole_can_be_explained_and_summed_up(
    slow: tuple[Path, "subprocess.Popen[str]"],
) -> None:
    folder, child = slow
    n_looked, before = 0, 0
    while child.poll() is None:
        assert checked(folder).damages == ()
        counted = summary_of(folder)
        asked = counted["asked"]
        assert asked["units"] == 480 == asked["completions"] + asked["owed"] + sum(asked["final"].values())
        assert before <= asked["completions"]
        before, n_looked = asked["completions"], n_looked + 1
        assert "pairs" in render(counted)
        time.sleep(0.1)
        assert explain(folder, "line:1")["prompt"]["messages"][0]["content"] == "Say 0."
    assert n_looked > 1 and child.returncode == 0
    report = checked(folder)
    assert report.damages == () and len(re.findall("rows read back", "\n".join(report.lines))) == 4


def test_a_killed_run_is_whole_and_so_is_what_goes_on_from_it(
    slow: tuple[Path, "subprocess.Popen[str]"],
) -> None:
    folder, child = slow
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert checked(folder).damages == ()
    assert 0 < summary_of(folder)["cost"]["seconds"] < 60
    with Folder(folder) as kept:
        given = kept.recipe
    assert run_job(given, folder, say=lambda _: None) == 0
    assert checked(folder).damages == ()
