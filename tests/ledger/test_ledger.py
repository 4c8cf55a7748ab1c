"""Opening and keeping a ledger on the machines that there are: full, read-only, in use, newer, killed."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from prefsmith.errors import MachineError, UsageError
from prefsmith.job import run_job
from prefsmith.ledger.ledger import NAME, SCHEMA_VERSION, Ledger
from prefsmith.ledger.verify import verify
from prefsmith.recipe import Recipe

HOLD = (
    "import sys; from pathlib import Path; from prefsmith.ledger.ledger import Ledger\n"
    "ledger = Ledger.create(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
)
RUN = (
    "import sys; from pathlib import Path; from prefsmith.recipe import Recipe; from prefsmith.job import run_job\n"
    "from prefsmith.errors import PrefsmithError\n"
    "try:\n    code = run_job(Recipe.model_validate_json(sys.argv[1]), Path(sys.argv[2]), say=lambda _: None)\n"
    "except PrefsmithError as e:\n    print(e)\n    code = e.exit_code\n"
    "sys.exit(code)"
)


def recipe(prompts: Path, log: Path, n: int = 2, chars: int = 200) -> Recipe:
    return Recipe.model_validate(
        {
            "prompts": {"path": str(prompts)},
            "endpoints": {"fake": {"script": {"log": str(log), "chars": chars}}},
            "sample": {"model": "fake:m", "n": n, "temperature": [0.5, 1.0]},
            "judge": [{"use": "contains", "text": "quality=9"}],
        }
    )


def prompts(path: Path, n: int) -> Path:
    path.write_text("".join(json.dumps({"prompt": f"Say something about {i}."}) + "\n" for i in range(n)))
    return path


def run_in(folder: Path, given: Recipe) -> int:
    return run_job(given, folder, say=lambda _: None)


def as_child(given: Recipe, folder: Path, before: str = "") -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-c", before + RUN, given.model_dump_json(), str(folder)]
    return subprocess.run(words, capture_output=True, text=True, timeout=120)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Path, "subprocess.Popen[str]"]]:
    """A folder that another process has open."""
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield folder, child
        child.kill()


def test_a_folder_in_use_is_refused_and_its_owner_named(held: tuple[Path, "subprocess.Popen[str]"]) -> None:
    folder, child = held
    with pytest.raises(MachineError, match=f"in use by process {child.pid} on ") as told:
        Ledger.create(folder)
    assert told.value.exit_code == 6
    with Ledger.read(folder) as ledger:
        assert ledger.db.execute("SELECT count(*) FROM call").fetchone() == (0,)


def test_a_killed_owner_frees_the_folder(held: tuple[Path, "subprocess.Popen[str]"]) -> None:
    folder, child = held
    child.send_signal(signal.SIGKILL)
    child.wait()
    with Ledger.create(folder) as ledger:
        assert list(verify(ledger)) == []


def test_one_process_cannot_open_a_folder_twice_to_write(tmp_path: Path) -> None:
    with Ledger.create(tmp_path), pytest.raises(MachineError, match=f"process {os.getpid()} on "):
        Ledger.create(tmp_path)
    Ledger.create(tmp_path).close()


def test_a_newer_schema_is_refused_and_nothing_changed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert run_in(run, recipe(prompts(tmp_path / "p.jsonl", 2), tmp_path / "log")) == 0
    with sqlite3.connect(run / NAME) as db:
        db.execute("UPDATE meta SET value = ? WHERE name = 'schema'", (str(SCHEMA_VERSION + 1),))
    db.close()
    before = (run / NAME).read_bytes()
    for attempt in (Ledger.create, Ledger.read):
        with pytest.raises(UsageError, match=f"schema {SCHEMA_VERSION + 1}.*upgrade prefsmith") as told:
            attempt(run)
        assert told.value.exit_code == 2
    assert (run / NAME).read_bytes() == before


def test_what_is_no_ledger_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no run \(no ledger.db\)"):
        Ledger.read(tmp_path)
    (tmp_path / NAME).write_bytes(b"not a database, but long enough to look like one" * 100)
    for attempt in (Ledger.create, Ledger.read):
        with pytest.raises(UsageError, match="damaged or no ledger"):
            attempt(tmp_path)
    (tmp_path / NAME).unlink()
    with sqlite3.connect(tmp_path / NAME) as db:
        db.execute("CREATE TABLE x(y)")
    db.close()
    with pytest.raises(UsageError, match="is no ledger of prefsmith"):
        Ledger.create(tmp_path)


def test_a_name_with_odd_characters_is_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "50% of #1? 'x' ü"
    assert run_in(folder, recipe(prompts(tmp_path / "p.jsonl", 2), tmp_path / "log")) == 0
    with Ledger.read(folder) as ledger:
        assert list(verify(ledger)) == []


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that other users can reach, unlike pytest's own."""
    folder = Path(mkdtemp(prefix="prefsmith-test-"))
    folder.chmod(0o755)
    yield folder
    for place in (folder, *folder.rglob("*")):
        place.chmod(0o755)
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def test_a_folder_that_this_user_may_not_write_is_an_error_of_the_machine(shared: Path) -> None:
    (shared / "out").mkdir()
    (shared / "out").chmod(0o555)
    # Root may write anywhere, so it becomes somebody else once everything is imported.
    as_somebody = "import os, prefsmith.job\nos.setuid(65534) if os.getuid() == 0 else None\n"
    given = recipe(prompts(shared / "p.jsonl", 2), Path("/dev/null"))
    for folder in (shared / "out", shared / "out" / "run"):
        done = as_child(given, folder, as_somebody)
        assert done.returncode == 6, done.stderr
        assert "Permission denied" in done.stdout and "-o" in done.stdout


def test_a_finished_run_of_somebody_else_can_be_read(shared: Path) -> None:
    assert run_in(shared / "run", recipe(prompts(shared / "p.jsonl", 3), shared / "log")) == 0
    for place in (shared / "run").rglob("*"):
        place.chmod(0o555 if place.is_dir() else 0o444)
    (shared / "run").chmod(0o555)
    look = (
        "import os, prefsmith.recheck, prefsmith.summary, prefsmith.explain; from pathlib import Path\n"
        "os.setuid(65534) if os.getuid() == 0 else None\n"
        f"run = Path({str(shared / 'run')!r})\n"
        "assert prefsmith.recheck.verify_folder(run, 100).damages == ()\n"
        "assert prefsmith.summary.summary_of(run)['items']['n'] == 3\n"
        "assert len(prefsmith.explain.explain(run, 'line:2')['completions']) == 4\n"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (shared / "run").iterdir()) == ["export", NAME, "run.lock"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MB; where this user may not mount one, the test says so instead of passing."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", str(place)], capture_output=True)
    if done.returncode != 0:
        pytest.skip("mounting a small disk needs root; the limit on a file's size is tested beside it")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def kept(folder: Path) -> dict[str, int]:
    with Ledger.read(folder) as ledger:
        assert list(verify(ledger)) == []
        sql = "SELECT count(*) FROM completion"
        return {"completions": ledger.db.execute(sql).fetchone()[0], "ok": ledger.counters().get("calls.ok", 0)}


def test_a_full_disk_stops_the_run_keeps_what_was_acknowledged_and_asks_none_of_it_twice(
    small_disk: Path, tmp_path: Path
) -> None:
    given = recipe(prompts(tmp_path / "p.jsonl", 1500), tmp_path / "log", n=4, chars=600)
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(800_000))
    with pytest.raises(MachineError, match=r"disk.* full") as told:
        run_in(small_disk / "run", given)
    assert told.value.exit_code == 6
    ballast.unlink()
    first = kept(small_disk / "run")
    assert 0 < first["completions"] < 12_000
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    n_asked = len((tmp_path / "log").read_text().splitlines())
    assert run_in(small_disk / "run", given) == 0
    assert kept(small_disk / "run")["completions"] == 12_000
    requests = (tmp_path / "log").read_text().splitlines()
    assert len(requests) - n_asked == 3_000 - first["ok"], "only what was never acknowledged is asked again"


def test_a_limit_on_the_size_of_files_is_an_error_of_the_machine_too(tmp_path: Path) -> None:
    given = recipe(prompts(tmp_path / "p.jsonl", 600), tmp_path / "log", n=4, chars=600)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, 2_500_000))\n"
    done = as_child(given, tmp_path / "run", limit)
    assert done.returncode == 6, done.stderr + done.stdout
    first = kept(tmp_path / "run")
    assert 0 < first["completions"] < 4_800
    n_asked = len((tmp_path / "log").read_text().splitlines())
    assert run_in(tmp_path / "run", given) == 0
    assert kept(tmp_path / "run")["completions"] == 4_800
    assert len((tmp_path / "log").read_text().splitlines()) - n_asked == 1_200 - first["ok"]


def test_a_killed_ledger_on_a_read_only_medium_opens_with_all_that_was_committed(
    small_disk: Path, tmp_path: Path
) -> None:
    run = small_disk / "run"
    commit_and_die = (
        "import os, sys; from pathlib import Path; from prefsmith.ledger.ledger import Ledger\n"
        "ledger = Ledger.create(Path(sys.argv[1]))\n"
        "with ledger.transaction() as db: db.execute(\"INSERT INTO text VALUES(1, x'00', 'kept')\")\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", commit_and_die, str(run)], check=False)
    assert (run / f"{NAME}-wal").stat().st_size > 0
    (run / f"{NAME}-shm").unlink()
    before = (run / NAME).read_bytes()
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with Ledger.read(run) as ledger:
        assert ledger.db.execute("SELECT body FROM text").fetchall() == [("kept",)]
        copy = Path(ledger.db.execute("PRAGMA database_list").fetchone()[2])
        assert not copy.is_relative_to(small_disk)
    assert not copy.exists(), "the copy goes with its reader"
    assert (run / NAME).read_bytes() == before
    with pytest.raises(MachineError) as told:
        Ledger.create(run)
    assert told.value.exit_code == 6


def test_a_reader_that_stays_does_not_hold_up_the_end_of_a_run(tmp_path: Path) -> None:
    ledger = Ledger.create(tmp_path / "run")
    with Ledger.read(tmp_path / "run") as reader:
        reader.db.execute("BEGIN")
        reader.db.execute("SELECT count(*) FROM text").fetchone()
        with ledger.transaction() as db:
            db.execute("INSERT INTO text VALUES(1, x'00', 'new')")
        started = time.monotonic()
        ledger.close()
        assert time.monotonic() - started < 5
        assert reader.db.execute("SELECT count(*) FROM text").fetchone() == (0,)
    with Ledger.read(tmp_path / "run") as later:
        assert later.db.execute("SELECT body FROM text").fetchall() == [("new",)]


def test_a_transaction_is_whole_or_not_there(tmp_path: Path) -> None:
    with Ledger.create(tmp_path) as ledger:
        with pytest.raises(RuntimeError), ledger.transaction() as db:
            db.execute("INSERT INTO text VALUES(1, x'00', 'half')")
            raise RuntimeError
        assert ledger.db.execute("SELECT count(*) FROM text").fetchone() == (0,)
        ledger.learn({"a": 1})


def test_what_is_learnt_twice_is_kept_once_and_a_change_beside_it(tmp_path: Path) -> None:
    with Ledger.create(tmp_path) as ledger:
        for value in ({"x": 1}, {"x": 1}, {"x": 2}):
            ledger.learn({"backend.version": value})
        found: list[Any] = ledger.db.execute("SELECT json FROM fact ORDER BY t").fetchall()
    assert found == [('{"x":1}',), ('{"x":2}',)]


def test_integers_go_on_where_the_last_session_ended(tmp_path: Path) -> None:
    with Ledger.create(tmp_path) as ledger:
        assert [ledger.take_id("text"), ledger.take_id("text"), ledger.take_id("reads")] == [1, 2, 2]
        with ledger.transaction() as db:
            db.execute("INSERT INTO text VALUES(7, x'00', 'a')")
    with Ledger.create(tmp_path) as ledger:
        assert ledger.take_id("text") == 8
