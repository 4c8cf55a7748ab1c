"""`prefsmith run` over the in-process engine, from prompts to a file that TRL reads; interrupted in the middle, too."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.vllm.conftest import ARGS, ENV, TINY

from prefsmith.backends.vllm.local import local
from prefsmith.endpoints import Endpoint, Vllm

MAIN = [sys.executable, "-m", "prefsmith"]


def recipe(folder: Path, **more: Any) -> Path:
    wanted = {
        "prompts": {"path": "demo:tiny", "limit": 40},
        "endpoints": {"local": {"vllm": {"args": ARGS | {"max_num_seqs": 8}, "env": ENV}}},
        "sample": [{"model": f"local:{TINY}", "temperature": [0.5, 1.2], "n": 3, "max_tokens": 48}],
        "judge": ["demo"],
        "export": ["trl"],
        **more,
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(wanted, default=str))
    return path


def completions(folder: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(folder / "ledger.db") as db:
        return db.execute(
            "SELECT p.hash, c.idx, s.hash, t.body, c.finish_reason, c.n_tokens FROM completion c "
            "JOIN prompt p ON p.id = c.prompt JOIN sampler s ON s.id = c.sampler JOIN text t ON t.id = c.text "
            "ORDER BY 1, 3, 2"
        ).fetchall()


def begun(folder: Path) -> bool:
    """Some completions are in the ledger."""
    try:
        with sqlite3.connect(f"file:{folder / 'ledger.db'}?mode=ro", uri=True) as db:
            return bool(db.execute("SELECT count(*) FROM completion").fetchone()[0])
    except sqlite3.OperationalError:
        return False  # not made yet


def started(folder: Path, path: Path) -> subprocess.Popen[bytes]:
    words = [*MAIN, "run", str(path), "-o", str(folder)]
    return subprocess.Popen(words, start_new_session=True, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run = started(folder / "run", recipe(folder))
    _, told = run.communicate(timeout=200)
    assert run.returncode == 0, told.decode()
    return folder / "run"


def test_a_whole_run_ends_in_a_file_of_pairs_that_verify_accepts(whole: Path) -> None:
    (file,) = whole.rglob("export/trl/*.jsonl")
    pairs = [json.loads(line) for line in file.read_text().splitlines()]
    assert len(pairs) > 5
    assert all(p["chosen"] != p["rejected"] for p in pairs)
    assert len(completions(whole)) == 40 * 6
    done = subprocess.run([*MAIN, "verify", str(whole)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_keys_name_the_checkpoints_content_and_no_path(whole: Path) -> None:
    with sqlite3.connect(whole / "ledger.db") as db:
        samplers = [json.loads(text) for (text,) in db.execute("SELECT json FROM sampler")]
    expected = local("local", str(TINY), Endpoint(vllm=Vllm(args=ARGS)), "local").identity
    assert {s["model"] for s in samplers} == {expected}
    assert expected.startswith("hf-")
    assert str(TINY) not in json.dumps(samplers)


def test_ctrl_c_loses_nothing_and_keeps_no_cut_text(tmp_path: Path, whole: Path) -> None:
    """Ctrl-C in a terminal reaches every process of the group."""
    folder, path = tmp_path / "run", recipe(tmp_path)
    run = started(folder, path)
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline and run.poll() is None and not begun(folder):
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGINT)
    _, told = run.communicate(timeout=60)
    assert run.returncode == 130, told.decode()
    uncut = {row[:3]: row for row in completions(whole)}
    kept = completions(folder)
    assert 0 < len(kept) < len(uncut)
    assert kept == [uncut[row[:3]] for row in kept]
    again = started(folder, path)
    _, told = again.communicate(timeout=200)
    assert again.returncode == 0, told.decode()
    assert completions(folder) == [*uncut.values()]
    (file,), (expected,) = folder.rglob("export/trl/*.jsonl"), whole.rglob("export/trl/*.jsonl")
    assert file.read_bytes() == expected.read_bytes()
