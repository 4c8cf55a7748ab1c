"""`prefsmith run` over the in-process engine, from prompts to a file that TRL reads; interrupted in the middle, too."""

from __future__ import annotations

import json
import os
import re
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


def noise(told: str) -> list[str]:
    """What looks like an error to people, in a run that had none."""
    return [line for line in told.splitlines() if re.search(r"Traceback|Exception|Error|ERROR|Future", line)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run = started(folder / "run", recipe(folder))
    _, told = run.communicate(timeout=200)
    assert run.returncode == 0, told.decode()
    assert not noise(told.decode())
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
    assert not noise(told.decode())
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


JUDGE = """
kind = "rubric"
prompt = "short.txt"
sampling = {max_tokens = 16}
"""


def engines_of(parent: int) -> set[int]:
    """The living engines of a process."""
    out = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes()
            of = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if b"VLLM::EngineCore" in line and of == parent:
            out.add(int(folder.name))
    return out


def test_a_staged_run_has_one_model_at_a_time_and_does_all_its_work(tmp_path: Path, thinker: Path) -> None:
    (tmp_path / "judge.toml").write_text(JUDGE)
    (tmp_path / "short.txt").write_text("{prompt}\n{candidate}\nVERDICT: N, from 1 to 9\n")
    section = {"vllm": {"args": ARGS | {"reasoning_parser": "deepseek_r1"}, "env": ENV}}
    path = recipe(
        tmp_path,
        prompts={"path": "demo:tiny", "limit": 12},
        endpoints={"thinks": section, "local": {"vllm": {"args": ARGS, "env": ENV}}},
        sample=[{"model": f"thinks:{thinker}", "temperature": [0.5, 1.2], "n": 3, "max_tokens": 48}],
        judge=[{"use": "contains", "text": "zz"}, {"use": str(tmp_path / "judge.toml"), "model": f"local:{TINY}"}],
        staged=True,
        max_no_verdict=1.0,
    )
    run = started(tmp_path / "run", path)
    seen: set[frozenset[int]] = set()
    while run.poll() is None:
        seen.add(frozenset(engines_of(run.pid)))
        time.sleep(0.05)
    told = run.communicate()[1].decode()
    assert run.returncode == 0, told
    assert sorted(map(len, seen)) == [0, 1, 1]
    assert [line.partition(":")[0] for line in told.splitlines() if line.startswith("phase")] == [
        "phase 1 of 2", "phase 2 of 2"
    ]  # fmt: skip
    assert not noise(told)
    assert len(completions(tmp_path / "run")) == 12 * 6
    with sqlite3.connect(tmp_path / "run" / "ledger.db") as db:
        kept = db.execute("SELECT c.reasoning, t.body FROM completion c JOIN text t ON t.id = c.text").fetchall()
        stages = db.execute(
            "SELECT target, min(t_sent), max(t_sent), count(*) FROM call WHERE status = 'ok' GROUP BY target"
        ).fetchall()
    assert sum(bool(thought) for thought, _ in kept) > 20
    assert not any("think>" in f"{thought}{body}" for thought, body in kept)
    of = {target: (first, last, n) for target, first, last, n in stages}
    assert of["thinks"][1] < of["local"][0]
    assert of["local"][2] > 20
