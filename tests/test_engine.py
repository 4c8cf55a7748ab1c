"""The engine over the scripted backend and over backends that misbehave: retries, stops, windows, thresholds."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from prefsmith.errors import ThresholdFailed
from prefsmith.folder import Folder
from prefsmith.job import run_job
from prefsmith.ledger.ledger import Ledger
from prefsmith.ledger.verify import verify
from prefsmith.progress import Progress
from prefsmith.reasons import Reason
from prefsmith.recipe import Recipe

MARK = {"use": "contains", "text": "quality=7"}
RUBRIC = {"use": "rubric-help", "model": "jury:fake"}
CONFIRM = {"confirm": "pairwise-help", "model": "jury:fake"}


def recipe(folder: Path, n: int = 20, judge: Any = MARK, **more: Any) -> Recipe:
    """`n` prompts, two temperatures, n = 2. `farm` and `jury`: their scripts; other words are the recipe's."""
    path = folder / "prompts.jsonl"
    if not path.exists():
        path.write_bytes(b"".join(orjson.dumps({"question": f"Say {i}."}) + b"\n" for i in range(n)))
    shape = {"limits": {"concurrency": more.pop("concurrency", 8)}, "n_per_request": more.pop("n_per_request", 2)}
    log = {"log": str(folder / "log")}
    endpoints = {name: {"script": {**log, **more.pop(name, {})}, **shape} for name in ("farm", "jury")}
    sample = {"model": "farm:fake", "temperature": [0.4, 1.0], "n": 2, **more.pop("sample", {})}
    whole = {"prompts": {"path": str(path)}, "endpoints": endpoints, "sample": sample, "judge": judge, **more}
    return Recipe.model_validate(whole)


def logged(folder: Path) -> list[dict[str, Any]]:
    log = folder / "log"
    return [orjson.loads(line) for line in log.read_bytes().splitlines()] if log.exists() else []


def rows(folder: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "out" / "ledger.db")) as db:
        return db.execute(sql).fetchall()


def count(folder: Path, sql: str) -> int:
    return int(rows(folder, f"SELECT count(*) FROM {sql}")[0][0])


class Watched:
    """Keeps what a run said and its last progress."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.progress = Progress()

    def run(self, folder: Path, what: Recipe) -> int:
        return run_job(what, folder / "out", say=self.said.append, on_progress=self._note)

    def _note(self, progress: Progress) -> None:
        self.progress = progress


def test_failed_attempts_are_rows_and_a_429_is_neither_a_row_nor_an_attempt(tmp_path: Path) -> None:
    watched = Watched()
    assert watched.run(tmp_path, recipe(tmp_path, 40, farm={"faults": 0.5}, attempts=3)) == 0
    failed = Counter(r for (r,) in rows(tmp_path, "SELECT reason FROM call WHERE status = 'failed'"))
    assert failed.keys() == {"timeout", "server_error", "connection"}
    n_429 = rows(tmp_path, "SELECT sum(value) FROM counter WHERE name LIKE 'http.429.farm.%'")[0][0]
    assert n_429 > 0
    assert len(logged(tmp_path)) == sum(failed.values()) + n_429 + count(tmp_path, "call WHERE status = 'ok'")
    # Every attempt that was counted left a row, and those that failed while the endpoint was down left one more.
    attempts = rows(tmp_path, "SELECT group_concat(attempt) FROM call GROUP BY prompt, sampler, unit ORDER BY id")
    numbers = {tuple(map(int, text.split(","))) for (text,) in attempts}
    assert all(n[0] == 1 and all(b - a in (0, 1) for a, b in pairwise(n)) for n in numbers)
    assert {(1,), (1, 2)} <= numbers and max(map(max, numbers)) <= 3
    assert {r: watched.progress.n_calls_failed[r] for r in failed} == dict(failed)
    assert count(tmp_path, "call WHERE reason = 'timeout' AND NOT maybe_billed") == 0
    assert count(tmp_path, "completion") == 160


def test_a_call_that_used_its_attempts_is_owed_and_the_next_run_completes(tmp_path: Path) -> None:
    watched = Watched()
    assert watched.run(tmp_path, recipe(tmp_path, farm={"faults": 0.5}, attempts=1)) == 5
    n_owed = watched.progress.n_owed
    assert n_owed > 0 and f"still owed: {n_owed} calls, " in watched.said[-1]
    with Folder(tmp_path / "out") as folder:
        reasons = Counter(record.reason for record in folder.records())
    assert reasons[Reason.INCOMPLETE] > 0
    n_before = len(logged(tmp_path))
    assert watched.run(tmp_path, recipe(tmp_path)) == 0
    assert len(logged(tmp_path)) - n_before == n_owed
    with Folder(tmp_path / "out") as folder:
        assert all(record.reason is not Reason.INCOMPLETE for record in folder.records())


def test_choices_that_a_server_did_not_return_are_asked_for_again(tmp_path: Path) -> None:
    sample = {"n": 3}
    assert run_job(recipe(tmp_path, 5, farm={"n_ignored": True}, n_per_request=3, sample=sample), tmp_path / "out") == 0
    assert count(tmp_path, "completion") == 30
    assert Counter(line["n"] for line in logged(tmp_path)) == {3: 10, 2: 10, 1: 10}
    whole = tmp_path / "whole"
    whole.mkdir()
    assert run_job(recipe(whole, 5, sample=sample, n_per_request=3), whole / "out") == 0
    texts = "SELECT t.body FROM completion c JOIN text t ON t.id = c.text ORDER BY prompt, sampler, idx"
    assert rows(tmp_path, texts) == rows(whole, texts)


def spans(lines: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """First and last place in the log of each prompt, in the order of their first."""
    places: dict[str, list[int]] = {}
    for i, line in enumerate(lines):
        places.setdefault(line["messages"], []).append(i)
    return [(at[0], at[-1]) for at in places.values()]


@pytest.mark.parametrize("window", [1, 2, 5, 16])
def test_no_more_prompts_are_open_than_the_window_has_room_for(window: int, tmp_path: Path) -> None:
    what = recipe(tmp_path, 60, farm={"latency_s": 0.002, "n_ignored": True}, window=window, sample={"n": 3})
    assert run_job(what, tmp_path / "out") == 0
    found = spans(logged(tmp_path))
    open_at = [sum(first <= at <= last for first, last in found) for at, _ in found]
    assert len(found) == 60 and max(open_at) <= window


def test_what_is_begun_is_finished_before_more_is_started(tmp_path: Path) -> None:
    what = recipe(tmp_path, 60, [{**RUBRIC, "model": "farm:fake"}], farm={"latency_s": 0.002}, concurrency=2)
    assert run_job(what, tmp_path / "out") == 0
    kinds = [bool(line["labels"]) for line in logged(tmp_path)]
    assert sum(kinds[: len(kinds) // 2]) > len(kinds) / 6
    assert kinds.index(True) < 60


def judged_to_pieces(folder: Path, n: int, **more: Any) -> Recipe:
    return recipe(folder, n, RUBRIC, jury={"unparseable": 1.0, "latency_s": 0.004}, **more)


def test_from_the_200th_verdict_on_too_many_without_a_result_end_the_run_with_4(tmp_path: Path) -> None:
    with pytest.raises(ThresholdFailed, match=r"100\.0% of 2\d\d verdicts have no result, most often unparseable"):
        run_job(judged_to_pieces(tmp_path, 100), tmp_path / "out")
    assert 200 <= count(tmp_path, "verdict") < 400
    assert rows(tmp_path, "SELECT exit FROM session") == [(4,)]
    # What was on its way was waited for and kept.
    assert count(tmp_path, "call WHERE status = 'ok'") == len(logged(tmp_path))
    with Ledger.read(tmp_path / "out") as ledger:
        assert list(verify(ledger)) == []


def test_a_folder_that_failed_its_threshold_fails_again_for_a_tenth_of_the_price(tmp_path: Path) -> None:
    with pytest.raises(ThresholdFailed):
        run_job(judged_to_pieces(tmp_path, 400, window=4), tmp_path / "out")
    first = count(tmp_path, "verdict")
    assert first >= 200
    with pytest.raises(ThresholdFailed):
        run_job(judged_to_pieces(tmp_path, 400, window=4), tmp_path / "out")
    assert 20 <= count(tmp_path, "verdict") - first < 100
    assert run_job(judged_to_pieces(tmp_path, 400, max_no_verdict=1), tmp_path / "out") == 0
    assert count(tmp_path, "verdict") == 1600


def test_below_200_verdicts_no_share_fails(tmp_path: Path) -> None:
    assert run_job(judged_to_pieces(tmp_path, 49), tmp_path / "out") == 0
    assert count(tmp_path, "verdict WHERE reason IS NOT NULL") == 196


def test_the_last_progress_says_what_is_in_the_ledger(tmp_path: Path) -> None:
    watched = Watched()
    assert (
        watched.run(tmp_path, recipe(tmp_path, 30, [RUBRIC, CONFIRM], jury={"unparseable": 0.6}, max_no_verdict=1)) == 0
    )
    it = watched.progress
    assert (it.n_items, it.n_items_done, it.n_items_settled) == (30, 30, 30)
    assert (it.n_completions, it.n_calls_ok) == (
        count(tmp_path, "completion"),
        count(tmp_path, "call WHERE status = 'ok'"),
    )
    assert it.n_verdicts == count(tmp_path, "verdict")
    assert it.n_no_verdict.total() == count(tmp_path, "verdict WHERE reason IS NOT NULL") > 0
    assert it.n_tokens == rows(tmp_path, "SELECT sum(n_completion_tokens) FROM call")[0][0]
    with Folder(tmp_path / "out") as folder:
        assert it.n_pairs == sum(len(record.pairs) for record in folder.records()) > 0


def test_a_prompt_on_distant_lines_is_asked_once_and_its_items_are_counted_once(tmp_path: Path) -> None:
    lines = [
        {"question": "Say it again.", "answer": f"quality={i}"}
        if i % 9 == 0
        else {"question": f"Say {i}.", "answer": "quality=1"}
        for i in range(64)
    ]
    (tmp_path / "prompts.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    watched = Watched()
    assert watched.run(tmp_path, recipe(tmp_path, judge="contains", window=4, sample={"n": 8}, n_per_request=4)) == 0
    assert Counter(Counter(line["messages"] for line in logged(tmp_path)).values()) == {4: 57}
    assert (watched.progress.n_items, watched.progress.n_items_done) == (64, 64)
    with Folder(tmp_path / "out") as folder:
        assert watched.progress.n_pairs == sum(len(record.pairs) for record in folder.records()) > 0


def test_a_ledger_that_cannot_be_written_ends_the_run_at_once(tmp_path: Path) -> None:
    """The thread that writes is gone; whoever waits for it must not wait for ever."""
    what = recipe(tmp_path, 200, farm={"latency_s": 0.001})
    Ledger.create(tmp_path / "out").close()
    with closing(sqlite3.connect(tmp_path / "out" / "ledger.db")) as db:
        db.execute(
            "CREATE TRIGGER full BEFORE INSERT ON completion WHEN NEW.prompt > 9 BEGIN SELECT RAISE(ABORT, 'x'); END"
        )
    with pytest.raises(sqlite3.IntegrityError):
        run_job(what, tmp_path / "out")
    assert rows(tmp_path, "SELECT exit FROM session") == [(1,)]
    with closing(sqlite3.connect(tmp_path / "out" / "ledger.db")) as db:
        db.execute("DROP TRIGGER full")
    assert run_job(what, tmp_path / "out") == 0
    assert count(tmp_path, "completion") == 800
    with Ledger.read(tmp_path / "out") as ledger:
        assert list(verify(ledger)) == []


def test_graders_alone_need_few_commits_and_no_backend(tmp_path: Path) -> None:
    """What one commit sets off goes into one group: a group for each prompt would wait for the disk each time."""
    what = recipe(tmp_path, 600)
    assert run_job(what, tmp_path / "out") == 0
    with closing(sqlite3.connect(tmp_path / "out" / "ledger.db")) as db:
        db.execute("CREATE TABLE groups(n INTEGER)")
        db.execute(
            "CREATE TRIGGER grouped AFTER UPDATE ON counter WHEN NEW.name IN ('verdicts', 'items.done') "
            "BEGIN INSERT INTO groups VALUES(NEW.value - OLD.value); END"
        )
        db.commit()
    again = recipe(tmp_path, 600, {"use": "contains", "text": "quality=3"})
    assert run_job(again, tmp_path / "out") == 0
    sizes = [n for (n,) in rows(tmp_path, "SELECT n FROM groups")]
    assert sum(sizes) == 2400 + 600 and len(sizes) <= 80
