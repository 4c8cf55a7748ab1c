"""What a user is told before and after: bad rows with their line, runs that can make no pair, graders that do not load,
and in `explain` the cause of what failed."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from prefsmith.errors import UsageError
from prefsmith.explain import explain
from prefsmith.job import run_job
from prefsmith.page import render
from prefsmith.recipe import Recipe
from prefsmith.summary import summary_of


def recipe(folder: Path, lines: list[str], **more: Any) -> Recipe:
    path = folder / "prompts.jsonl"
    path.write_text("".join(line + "\n" for line in lines))
    base: dict[str, Any] = {
        "prompts": {"path": str(path)},
        "sample": {"model": "scripted:m", "temperature": [0.5, 1.0], "n": 2},
        "judge": {"use": "contains", "text": "quality=9"},
    }
    return Recipe.model_validate({**base, **more})


def row(i: int, **more: Any) -> str:
    return json.dumps({"prompt": f"Say {i}.", **more})


def test_bad_rows_are_told_with_line_and_reason_and_so_by_explain(tmp_path: Path) -> None:
    said: list[str] = []
    what = recipe(tmp_path, [row(0), "{oops", row(1), '{"prompt": " "}'])
    assert run_job(what, tmp_path / "run", say=said.append) == 0
    assert [s.split(":")[:2] for s in said if s.startswith("set aside")] == [
        ["set aside line 2", " bad_json"],
        ["set aside line 4", " empty_prompt"],
    ]
    with pytest.raises(UsageError, match="line 2 of the source was set aside as bad_json"):
        explain(tmp_path / "run", "line:2")


def test_a_row_that_is_json_and_no_prompt_is_not_called_bad_json_alone(tmp_path: Path) -> None:
    what = recipe(tmp_path, ['{"question": 123}'])
    with pytest.raises(UsageError) as error:
        run_job(what, tmp_path / "run", say=lambda _: None)
    told = "1 bad_json (first at line 1: a prompt must be a string or a list of messages: {"
    assert told in str(error.value)
    table = tmp_path / "p.csv"
    table.write_text("prompt,n\none,1\ntwo,2,3\n")
    said: list[str] = []
    given = {**recipe(tmp_path, []).model_dump(), "prompts": {"path": str(table)}}
    assert run_job(Recipe.model_validate(given), tmp_path / "csv", say=said.append) == 0
    assert "set aside line 3: bad_json: 3 cells under 2 columns: two,2,3" in said
    assert "1 bad_json (unreadable or misshapen)" in render(summary_of(tmp_path / "csv"))


@pytest.mark.parametrize("sample", [{"temperature": [0.7]}, {"temperature": [0.0], "n": 8}])
def test_a_plan_that_can_make_no_pair_is_told_before_it_runs(tmp_path: Path, sample: dict[str, Any]) -> None:
    said: list[str] = []
    what = recipe(tmp_path, [row(0)], sample={"model": "scripted:m", **sample})
    run_job(what, tmp_path / "run", say=said.append)
    assert any("can make no pair" in remark for remark in said)


def test_a_grader_that_does_not_load_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("import nosuchmodule\n\ndef grade(text, item):\n    return 1.0\n")
    log = tmp_path / "log"
    what = recipe(
        tmp_path,
        [row(0)],
        endpoints={"fake": {"script": {"log": str(log)}}},
        sample={"model": "fake:m", "n": 2},
        judge={"use": f"{tmp_path / 'own.py'}:grade"},
    )
    with pytest.raises(UsageError, match="nosuchmodule"):
        run_job(what, tmp_path / "run", say=lambda _: None)
    assert not log.exists() or log.read_bytes() == b""


def test_explain_shows_what_a_grader_said_and_takes_a_pairs_id(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def grade(text, item):\n    if 'quality=1' in text:\n        raise ValueError('boom')\n"
        "    return 'quality=2' in text or 'quality=3' in text\n"
    )
    judge = {"use": f"{tmp_path / 'own.py'}:grade"}
    run_job(recipe(tmp_path, [row(i) for i in range(30)], judge=judge), tmp_path / "run", say=lambda _: None)
    pairs = [json.loads(line) for line in (tmp_path / "run/export/trl/train.jsonl").read_text().splitlines()]
    assert pairs
    assert explain(tmp_path / "run", pairs[0]["id"])["items"][0]["id"] == pairs[0]["id"].partition("-")[0]
    lives = [explain(tmp_path / "run", f"line:{i}") for i in range(1, 31)]
    told = [v for life in lives for c in life["completions"] for v in c["verdicts"].values()]
    assert "grader_error: ValueError: boom" in told


def test_tokens_that_a_server_counts_for_all_choices_together_are_in_the_mean(tmp_path: Path) -> None:
    run_job(recipe(tmp_path, [row(i) for i in range(5)]), tmp_path / "run", say=lambda _: None)
    apart = [t["mean_tokens"] for t in summary_of(tmp_path / "run")["by_temperature"]]
    with sqlite3.connect(tmp_path / "run" / "ledger.db") as db:
        db.execute("UPDATE completion SET n_tokens = NULL")
    counted = summary_of(tmp_path / "run")
    assert [t["mean_tokens"] for t in counted["by_temperature"]] == pytest.approx(apart)
    assert all(mean > 10 for mean in apart)
    assert f"from {counted['items']['with_pair']} of 5 items" in render(counted)


def test_few_verdicts_without_a_result_are_told_too(tmp_path: Path) -> None:
    said: list[str] = []
    what = recipe(
        tmp_path,
        [row(i) for i in range(5)],
        endpoints={"fake": {"script": {"unparseable": 1.0}}},
        judge={"use": "rubric-help", "model": "fake:j"},
    )
    assert run_job(what, tmp_path / "run", say=said.append) == 0
    assert any(remark.startswith("warning: 20 of 20 verdicts have no result") for remark in said)


def test_a_failed_resume_leaves_good_files_as_they_were(tmp_path: Path) -> None:
    endpoints = {"gone": {"urls": "http://127.0.0.1:9/v1", "identity": "same"}, "same": {"script": {}}}
    lines = [row(i) for i in range(20)]
    assert (
        run_job(recipe(tmp_path, lines, endpoints=endpoints, sample={"model": "same:m", "n": 3}), tmp_path / "run") == 0
    )
    file = tmp_path / "run/export/trl/train.jsonl"
    whole = file.read_bytes()
    said: list[str] = []
    more = recipe(tmp_path, lines, endpoints=endpoints, sample={"model": "gone:m", "n": 5}, attempts=1)
    assert run_job(more, tmp_path / "run", say=said.append) == 5
    assert whole and file.read_bytes() == whole
    assert any("left as they were" in remark for remark in said)
