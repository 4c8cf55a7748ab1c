"""Sessions that end before their time: bugs, refusals, signals, and servers that answer nothing useful."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from runs import count, logged, recipe, rows, started

from prefsmith.cli import main
from prefsmith.job import run_job
from prefsmith.summary import summary_of


@pytest.mark.parametrize(("caught", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_waits_for_replies_on_their_way_and_keeps_them(caught: int, code: int, tmp_path: Path) -> None:
    child = started(tmp_path, 24, farm={"latency_s": 0.2})
    os.kill(child.pid, caught)
    begun = time.monotonic()
    _, told = child.communicate(timeout=20)
    assert child.returncode == code and "waiting for replies" in told
    items = summary_of(tmp_path / "out")["items"]
    n_done = items["n"] - items["without"].get("incomplete", 0)
    assert f"stopped with {n_done} of 400 items done" in told
    # Grace of 5 s and the slowest reply are the most; with all replies in, nothing is waited for.
    assert time.monotonic() - begun < 4
    assert count(tmp_path, "call WHERE status = 'ok'") == len(logged(tmp_path)) < 800
    assert rows(tmp_path, "SELECT exit FROM session") == [(code,)]
    assert not (tmp_path / "out" / "export").exists()


def test_replies_slower_than_the_grace_are_given_up(tmp_path: Path) -> None:
    child = started(tmp_path, 8, farm={"latency_s": 600}, grace_s=0.2)
    os.kill(child.pid, signal.SIGINT)
    begun = time.monotonic()
    child.communicate(timeout=20)
    assert (child.returncode, count(tmp_path, "call")) == (130, 0)
    assert 0.1 < time.monotonic() - begun < 4


def test_a_second_signal_waits_for_nothing(tmp_path: Path) -> None:
    child = started(tmp_path, 8, farm={"latency_s": 600}, grace_s=600)
    os.kill(child.pid, signal.SIGTERM)
    time.sleep(0.3)
    assert child.poll() is None
    os.kill(child.pid, signal.SIGINT)
    begun = time.monotonic()
    _, told = child.communicate(timeout=20)
    assert told.count("once more to stop at once") == 1 and "stopping at once" in told
    # The first signal is why it stopped.
    assert child.returncode == 143 and time.monotonic() - begun < 4


def test_a_signal_is_heard_while_a_long_finished_source_is_walked(tmp_path: Path) -> None:
    """Opening prompts that need nothing must not keep the loop from everything else."""
    done = recipe(tmp_path, 3000, farm={"chars": 40})
    assert run_job(done, tmp_path / "out", say=lambda _: None) == 0
    again = recipe(tmp_path, 3000, pair={"min_margin": 0.5})
    begun, n_ticks = time.monotonic(), 0

    def tick(_: object) -> None:
        nonlocal n_ticks
        n_ticks += 1
        if n_ticks == 1:
            signal.setitimer(signal.ITIMER_REAL, 0.02)

    before = signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        code = run_job(again, tmp_path / "out", say=lambda _: None, on_progress=tick)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert code == 130 and time.monotonic() - begun < 5
    n_lines = rows(tmp_path, "SELECT sum(last - first + 1) FROM done GROUP BY view")
    assert sorted(n_lines)[0][0] < 3000


def test_a_judge_that_does_not_fit_its_model_is_named_with_what_would_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.txt").write_text("Say it.\n")
    sampling = ("--gen", "scripted:a", "--n", "2", "--max-tokens", "64", "--quiet")
    judging = ("--judge", "regex", "--set", "judge.0.pattern=quality", "--confirm", "pairwise-help")
    assert main(["run", "p.txt", *sampling, *judging, "--judge-model", "embedded:tiny"]) == 2
    told = capsys.readouterr().err
    assert "judge 'pairwise-help' is too long for embedded:tiny, which holds 512 tokens" in told
    assert "(such as pairwise-short) or a model with a longer context" in told and "longest prompts" not in told
