"""A changed reader over stored replies: the verdicts that a run with it would have kept, without a call."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest
from runs import count, logged, recipe, rows

from prefsmith.cli import main
from prefsmith.job import judge_job, reread_job, run_job
from prefsmith.judging.parse import READ_VERSION
from prefsmith.ledger.ids import text_hash
from prefsmith.recheck import verify_folder

QUIET: dict[str, Any] = {"farm": {"chars": 80}, "max_no_verdict": 1}
RUBRIC = {"use": "rubric-help", "model": "jury:a"}
CONTENT = (
    "SELECT prompt, judge, shown, repeat, kind, value, p, choice, ranking, parts, reason, call FROM verdict "
    "ORDER BY 1, 2, 3, 4"
)


def changed(folder: Path, sql: str, *values: Any) -> None:
    with closing(sqlite3.connect(folder / "out" / "ledger.db")) as db, db:
        db.execute(sql, values)


def reply_of(text: str, finish: str = "stop") -> tuple[str, bytes]:
    kept = orjson.dumps(
        {"finish_reason": finish, "message": {"content": text, "role": "assistant"}}, option=orjson.OPT_SORT_KEYS
    )
    return kept.decode(), text_hash(kept)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    judge = [RUBRIC, {"confirm": "pairwise-help", "model": "jury:a"}]
    assert run_job(recipe(tmp_path, 8, judge, jury={"unparseable": 0.3}, **QUIET), tmp_path / "out") == 0
    return tmp_path


def test_the_same_reader_changes_nothing(run: Path) -> None:
    before, n_asked, said = rows(run, CONTENT), len(logged(run)), list[str]()
    assert reread_job(run / "out", said.append) == 0
    assert rows(run, CONTENT) == before and len(logged(run)) == n_asked
    assert "0 verdicts changed" in said[0]


def test_verdicts_of_an_older_reader_become_those_of_today(run: Path) -> None:
    before = rows(run, CONTENT)
    # An old reader that took nothing for a verdict, and one that read every score too low.
    changed(run, "UPDATE verdict SET read_version = 0, value = value / 2, parts = NULL WHERE kind = 'score'")
    changed(run, "UPDATE call SET reason = 'unparseable' WHERE judge IS NOT NULL")
    assert main(["judge", str(run / "out"), "--reread", "--quiet"]) == 0
    assert rows(run, CONTENT) == before
    assert rows(run, "SELECT DISTINCT read_version FROM verdict") == [(READ_VERSION,)]
    assert verify_folder(run / "out", 10).damages == ()


def test_the_first_reply_that_can_be_read_is_the_verdict(run: Path) -> None:
    """As in a folder that had this reader from the start; the later replies stay, paid and unused."""
    repaired = "judge IS NOT NULL AND stage = 'judge' AND unit ->> '$.step' = 'repair'"
    ((prompt, shown),) = rows(run, f"SELECT prompt, unit ->> '$.shown[0]' FROM call WHERE {repaired} LIMIT 1")
    asked = f"FROM call WHERE prompt = {prompt} AND stage = 'judge' AND unit ->> '$.shown[0]' = {shown}"
    ((first, n_asked),) = rows(run, f"SELECT min(id), count(*) {asked}")
    assert n_asked > 1
    changed(run, "UPDATE call SET reply = ?, reply_hash = ? WHERE id = ?", *reply_of("VERDICT: 9"), first)
    assert reread_job(run / "out", lambda _: None) == 0
    found = f"SELECT value, call FROM verdict WHERE prompt = {prompt} AND shown = '{shown}' AND kind = 'score'"
    assert rows(run, found) == [(1.0, first)]
    assert verify_folder(run / "out", 10).damages == ()


def test_a_question_that_no_reply_answers_any_more_is_owed_and_asked_by_the_next_run(run: Path) -> None:
    ((call, n),) = rows(run, "SELECT min(id), count(*) FROM call WHERE stage = 'judge' AND reason IS NULL")
    assert n > 1
    changed(run, "UPDATE call SET reply = ?, reply_hash = ? WHERE id = ?", *reply_of("seven"), call)
    n_asked, n_verdicts, said = len(logged(run)), count(run, "verdict"), list[str]()
    owed = reread_job(run / "out", said.append)
    assert len(logged(run)) == n_asked
    assert owed == n_verdicts - count(run, "verdict")
    if owed:  # else that was the last step's
        assert "1 questions are owed again" in said[0] and "left as they were" in said[1]
    judge = [RUBRIC, {"confirm": "pairwise-help", "model": "jury:a"}]
    assert judge_job(recipe(run, 8, judge, jury={"unparseable": 0.3}, **QUIET), run / "out", say=said.append) == 0
    assert len(logged(run)) > n_asked or not owed
    assert count(run, "verdict") >= n_verdicts
    assert verify_folder(run / "out", 10).damages == ()


def test_lists_and_what_hangs_on_them_are_read_again(tmp_path: Path) -> None:
    judge = {"use": "checklist-help", "model": "jury:a"}
    assert run_job(recipe(tmp_path, 4, judge, **QUIET), tmp_path / "out") == 0
    before = rows(tmp_path, "SELECT item, made_by, body, call FROM artifact ORDER BY item")
    assert reread_job(tmp_path / "out", lambda _: None) == 0
    assert rows(tmp_path, "SELECT item, made_by, body, call FROM artifact ORDER BY item") == before
    call = before[0][3]
    changed(tmp_path, "UPDATE call SET reply = ?, reply_hash = ? WHERE id = ?", *reply_of("- Is it new?"), call)
    assert reread_job(tmp_path / "out", lambda _: None) == 0
    assert rows(tmp_path, f"SELECT body FROM artifact WHERE call = {call}") == [('["Is it new?"]',)]
    changed(tmp_path, "UPDATE call SET reply = ?, reply_hash = ? WHERE id = ?", *reply_of("no list"), call)
    assert reread_job(tmp_path / "out", lambda _: None) == 1
    assert count(tmp_path, "artifact") == 3
    assert judge_job(recipe(tmp_path, 4, judge, **QUIET), tmp_path / "out", say=lambda _: None) == 0
    assert count(tmp_path, "artifact") == 4
    assert verify_folder(tmp_path / "out", 10).damages == ()


def test_a_flag_that_reread_would_ignore_is_an_error(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", str(run / "out"), "--reread", "--judge", "number"]) == 2
    assert "--judge means nothing to it" in capsys.readouterr().err
