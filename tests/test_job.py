"""The main job around the engine: what is refused, what is told, what a session leaves behind."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from prefsmith.errors import MachineError, UsageError
from prefsmith.folder import Folder
from prefsmith.job import judge_job, plan_job, run_job
from prefsmith.ledger.ledger import Ledger
from prefsmith.recipe import Recipe

RUBRIC = {"use": "rubric-help", "model": "jury:fake"}


def recipe(folder: Path, lines: list[dict[str, Any]] | None = None, **more: Any) -> Recipe:
    path = folder / "prompts.jsonl"
    if lines is not None or not path.exists():
        made = [{"question": f"Say {i}.", "answer": "quality=7"} for i in range(8)] if lines is None else lines
        path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in made))
    farms = {n: {"script": {"log": str(folder / "log")}, "n_per_request": 2} for n in ("farm", "jury")}
    sample = {"model": "farm:fake", "temperature": [0.4, 1.0], "n": 3}
    whole = {"prompts": {"path": str(path)}, "endpoints": farms, "sample": sample, "judge": [RUBRIC], **more}
    return Recipe.model_validate(whole)


def n_logged(folder: Path) -> int:
    return len((folder / "log").read_bytes().splitlines()) if (folder / "log").exists() else 0


def rows(folder: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "out" / "ledger.db")) as db:
        return db.execute(sql).fetchall()


def ran(folder: Path, what: Recipe, **more: Any) -> list[str]:
    """What a run said."""
    said: list[str] = []
    assert run_job(what, folder / "out", say=said.append, **more) == 0
    return said


def test_a_file_that_is_not_there_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.jsonl"):
        run_job(recipe(tmp_path, prompts={"path": str(tmp_path / "nowhere.jsonl")}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_judge_that_is_not_there_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="rubric-help"):
        run_job(recipe(tmp_path, judge="rubric-halp"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_source_without_a_usable_prompt_says_what_is_wrong_with_its_lines(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no usable prompt: 2 no_prompt_field \(first at line 1: columns are "):
        run_job(recipe(tmp_path, [{"text": "x"}, {"text": "y"}]), tmp_path / "out")


def test_a_column_that_no_item_has_is_refused_and_one_that_some_lack_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'contains' needs the column 'reference', which no item has"):
        run_job(recipe(tmp_path, [{"question": "a"}], judge="contains"), tmp_path / "out")
    lines = [{"question": "a", "answer": "b"}, {"question": "c"}, {"question": "d"}]
    said = ran(tmp_path, recipe(tmp_path, lines, judge="contains"))
    assert any(line.startswith("2 of 3 items lack 'reference', which 'contains' needs") for line in said)


def test_other_prompts_in_the_same_folder_need_a_word(tmp_path: Path) -> None:
    ran(tmp_path, recipe(tmp_path))
    other = tmp_path / "other.jsonl"
    other.write_text('{"question": "Else?", "answer": "no"}\n')
    with pytest.raises(UsageError, match="--change"):
        run_job(recipe(tmp_path, prompts={"path": str(other)}), tmp_path / "out")
    ran(tmp_path, recipe(tmp_path, prompts={"path": str(other)}), change=True)
    with Folder(tmp_path / "out") as folder:
        assert len(list(folder.records())) == 1


def test_going_on_says_what_differs_and_nothing_when_nothing_does(tmp_path: Path) -> None:
    assert ran(tmp_path, recipe(tmp_path)) == []
    same = [f"going on in {tmp_path / 'out'}", "nothing was asked: everything was here"]
    assert ran(tmp_path, recipe(tmp_path)) == same
    said, _ = ran(tmp_path, recipe(tmp_path, pair={"min_margin": 0.5}, seed=0, window=9))
    assert "pair.min_margin 0.0 -> 0.5" in said and "window 512 -> 9" in said and "seed" not in said


def test_a_finished_folder_is_run_again_without_a_request(tmp_path: Path) -> None:
    ran(tmp_path, recipe(tmp_path))
    n, made = n_logged(tmp_path), sorted((tmp_path / "out" / "export").rglob("*"))
    bodies = [p.read_bytes() for p in made if p.is_file()]
    ran(tmp_path, recipe(tmp_path))
    assert n_logged(tmp_path) == n and [p.read_bytes() for p in made if p.is_file()] == bodies
    assert rows(tmp_path, "SELECT exit FROM session") == [(0,), (0,)]
    assert rows(tmp_path, "SELECT count(*) FROM recipe") == [(1,)]
    assert rows(tmp_path, "SELECT first, last FROM done") == [(1, 8)]


def test_plan_counts_what_the_run_then_asks_and_asks_nothing_itself(tmp_path: Path) -> None:
    what = recipe(tmp_path)
    planned = plan_job(what, tmp_path / "out")
    assert n_logged(tmp_path) == 0 and not (tmp_path / "out").exists()
    assert (planned["items"], planned["prompts"], planned["completions_to_sample"]) == (8, 8, 48)
    ran(tmp_path, what)
    n_sampled, n_judged = rows(tmp_path, "SELECT count(sampler), count(judge) FROM call")[0]
    sample, judge = planned["stages"]
    assert (sample["model"], sample["requests"]) == ("farm:fake", n_sampled)
    assert judge["requests"] is None and n_judged <= judge["requests_at_most"] == 48
    four = recipe(tmp_path, sample={"model": "farm:fake", "temperature": [0.4, 1.0], "n": 4})
    more = plan_job(four, tmp_path / "out")
    assert (more["completions_to_sample"], more["stages"][0]["requests"]) == (16, 16)
    again = plan_job(what, tmp_path / "out")
    assert again["completions_to_sample"] == again["total"]["requests"] == 0


def test_a_run_that_owes_something_still_writes_what_it_has(tmp_path: Path) -> None:
    faulty = {n: {"script": {"faults": 0.2}, "n_per_request": 2} for n in ("farm", "jury")}
    assert run_job(recipe(tmp_path, endpoints=faulty, attempts=1), tmp_path / "out", say=lambda _: None) == 5
    with Folder(tmp_path / "out") as folder:
        n_pairs = sum(bool(record.pairs) for record in folder.records())
    (written,) = rows(tmp_path, "SELECT n_rows FROM export WHERE format = 'trl'")
    assert written == (n_pairs,) and n_pairs < 8


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    with Ledger.create(tmp_path / "out"), pytest.raises(MachineError, match="is in use by process"):
        run_job(recipe(tmp_path), tmp_path / "out")


def test_judging_again_needs_a_run_and_is_a_session_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        judge_job(recipe(tmp_path), tmp_path / "out", say=lambda _: None)
    ran(tmp_path, recipe(tmp_path))
    other = recipe(tmp_path, judge=[{"use": "contains", "text": "quality=1"}])
    assert judge_job(other, tmp_path / "out", say=lambda _: None) == 0
    assert rows(tmp_path, "SELECT exit FROM session") == [(0,), (0,)]
    with Folder(tmp_path / "out") as folder:
        assert [leaf.name for leaf in folder.view.plan.leaves] == ["contains"]
        assert {v for r in folder.records() for s in r.samples for v in s.scores.values()} <= {0.0, 1.0}


def test_a_prompt_that_appears_under_two_mappings_is_read_as_each_says(tmp_path: Path) -> None:
    lines = [{"question": f"q{i}", "answer": "a", "alt": f"other {i}"} for i in range(4)]
    ran(tmp_path, recipe(tmp_path, lines))
    path = str(tmp_path / "prompts.jsonl")
    ran(tmp_path, recipe(tmp_path, prompts={"path": path, "prompt": "alt"}))
    with Folder(tmp_path / "out") as folder:
        assert [r.item.prompt.messages[-1]["content"] for r in folder.records()] == [f"other {i}" for i in range(4)]


@pytest.mark.parametrize("more", [{"judge": ["number"]}, {"prompts": {"path": "empty.jsonl"}}])
def test_a_refused_run_leaves_no_folder_that_it_made(
    more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.jsonl").write_text("{broken\n")
    what = recipe(tmp_path, **({"prompts": {"path": str(tmp_path / "bare.jsonl")}} | more))
    Path("bare.jsonl").write_text('{"question": "Say it."}\n')
    with pytest.raises(UsageError):
        run_job(what, Path("runs/a"), say=lambda _: None)
    assert not Path("runs").exists()
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("kept")
    with pytest.raises(UsageError):
        run_job(what, Path("mine"), say=lambda _: None)
    assert [path.name for path in Path("mine").iterdir()] == ["notes.txt"]


def test_a_refused_run_leaves_the_folder_of_an_earlier_one(tmp_path: Path) -> None:
    ran(tmp_path, recipe(tmp_path))
    n = rows(tmp_path, "SELECT count(*) FROM completion")
    with pytest.raises(UsageError):
        run_job(recipe(tmp_path, judge=["constraints"]), tmp_path / "out", say=lambda _: None)
    assert rows(tmp_path, "SELECT count(*) FROM completion") == n != [(0,)]
