"""`explain`: every name of a prompt, why each call ran, and rows found by index."""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from prefsmith.errors import UsageError
from prefsmith.explain import explain, life
from prefsmith.folder import Folder
from prefsmith.job import run_job
from prefsmith.recipe import Recipe


def recipe(folder: Path, rows: list[dict[str, Any]], **more: Any) -> Recipe:
    prompts = folder / "p.jsonl"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {
        "prompts": {"path": str(prompts)},
        "endpoints": {"fake": {"script": {"chars": 120}}},
        "sample": {"model": "fake:m", "temperature": 0.5, "n": 2},
        "judge": ["contains"],
    }
    return Recipe.model_validate({**given, **more})


def run(given: Recipe, folder: Path) -> None:
    assert run_job(given, folder, say=lambda _: None) == 0


def content(found: Any) -> str:
    return str(found["prompt"]["messages"][0]["content"])


ROWS = [
    {"prompt": "one", "reference": "quality=1", "id": "same"},
    {"prompt": "two", "reference": "quality=2", "id": "same"},
    {"prompt": "three", "reference": "quality=3", "id": "2024"},
    {"prompt": "three", "reference": "quality=9", "id": "third again"},
]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done")
    run(recipe(folder, ROWS), folder / "run")
    return folder / "run"


def test_a_prompt_is_found_by_each_of_its_names(done: Path) -> None:
    with Folder(done) as folder:
        ids = [(r.id, r.prompt_id) for r in folder.records()]
    for name in (ids[1][0], ids[1][1], ids[1][0][:6], ids[1][1][:6], "line:2"):
        assert content(explain(done, name)) == "two", name
    for name in ("2024", "third again", "line:3", "line:4", ids[2][0], ids[3][0], ids[2][1][:4]):
        assert content(explain(done, name)) == "three", name


def test_a_source_id_that_looks_like_the_start_of_a_hash_is_the_source_id(tmp_path: Path) -> None:
    run(recipe(tmp_path, ROWS), tmp_path / "run")
    with Folder(tmp_path / "run") as folder:
        start = next(iter(folder.records())).id[:4]
    run(recipe(tmp_path, [*ROWS, {"prompt": "named so", "reference": "a", "id": start}]), tmp_path / "run")
    assert content(explain(tmp_path / "run", start)) == "named so"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("same", "'same' stands for 2 prompts"),
        ("nobody", "has no item 'nobody'"),
        ("line:99", "has no item 'line:99'"),
        ("line:x", "has no item 'line:x'"),
        ("f" * 32, "has no item"),
        ("f" * 33, "has no item"),
        ("abc", "has no item 'abc'"),
        ("", "has no item ''"),
    ],
)
def test_what_names_no_prompt_or_several_is_told(done: Path, name: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        explain(done, name)


def test_the_start_of_two_prompts_hashes_is_ambiguous(tmp_path: Path) -> None:
    run(recipe(tmp_path, [{"prompt": f"p{i}", "reference": "a"} for i in range(900)]), tmp_path / "run")
    with Folder(tmp_path / "run") as folder:
        starts = [r.id[:4] for r in folder.records()]
    twice = next(s for s in starts if starts.count(s) > 1)
    with pytest.raises(UsageError, match=f"'{twice}' stands for 2 prompts .*more of the id"):
        explain(tmp_path / "run", twice)


def test_a_duplicate_says_whose_line_is_told(tmp_path: Path) -> None:
    run(recipe(tmp_path, [ROWS[0], ROWS[2], ROWS[0]]), tmp_path / "run")
    found = explain(tmp_path / "run", "line:3")
    assert found["note"] == "line 3 of the source is a duplicate of line 1, which is told here"
    assert next(iter(found)) == "note" and [item["line"] for item in found["items"]] == [1]
    assert "note" not in explain(tmp_path / "run", "line:1")


def test_items_of_one_prompt_show_each_their_own_verdict(done: Path) -> None:
    found = explain(done, "line:3")
    assert [item["line"] for item in found["items"]] == [3, 4]
    for completion in found["completions"]:
        expected = {
            f"contains, line {line}": float(f"quality={digit}" in completion["text"])
            for line, digit in ((3, 3), (4, 9))
        }
        assert completion["verdicts"] == expected
    alone = explain(done, "line:1")["completions"]
    assert [c["verdicts"] for c in alone] == [{"contains": float("quality=1" in c["text"])} for c in alone]


def test_every_call_says_which_session_and_recipe_asked_it_and_what_was_new(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(recipe(tmp_path, ROWS), folder)
    more = {"model": "fake:m", "temperature": [0.5, 0.9], "n": 3, "system": "Be brief."}
    second = [{"model": "fake:m", "temperature": 0.5, "n": 3}, more]
    run(recipe(tmp_path, ROWS, sample=second), folder)
    rubric = {"use": "rubric-help", "model": "fake:j"}
    run(recipe(tmp_path, ROWS, sample=second, judge=[rubric]), folder)
    run(recipe(tmp_path, ROWS, sample=second, judge=[{**rubric, "model": "fake:other"}]), folder)
    calls = explain(folder, "line:1")["calls"]
    told = [(c["session"], c["recipe"], c["stage"], c["why"]) for c in calls]
    assert told[0] == (1, 1, "sample", "the first sampler of this prompt")
    assert (2, 2, "sample", "more of this sampler") in told
    assert (2, 2, "sample", "a new sampler: against fake:m, temperature 0.5, system None -> Be brief.") in told
    brief = "fake:m, system Be brief., temperature 0.5"
    assert (2, 2, "sample", f"a new sampler: against {brief}, temperature 0.5 -> 0.9") in told
    judged = [why for session, _, stage, why in told if stage == "judge" and session == 3]
    assert judged[0] == "the first judge of this prompt" and set(judged[1:]) == {"more of this judge"}
    assert (4, 4, "judge", "a new judge: against rubric (fake:j), model j -> other") in told
    assert [c["about"] for c in calls if c["stage"] == "sample"][:2] == [["#0", "#1"], ["#2"]]
    assert calls[-1]["by"] == "rubric-help (fake:other)" and calls[-1]["about"][0].startswith("fake:m, ")
    assert all("VERDICT" in c["reply"]["message"]["content"] for c in calls if c["stage"] == "judge")


def test_what_the_recipe_does_not_select_is_counted_and_left_out(tmp_path: Path) -> None:
    run(recipe(tmp_path, ROWS, sample={"model": "fake:m", "n": 5}), tmp_path / "run")
    run(recipe(tmp_path, ROWS, sample={"model": "fake:m", "n": 2}), tmp_path / "run")
    found = explain(tmp_path / "run", "line:1")
    assert len(found["completions"]) == 2
    assert found["outside_view"]["completions"] == 3


def test_a_life_reads_rows_by_index_and_scans_no_table_that_grows(done: Path) -> None:
    """A scan of `json_each(?)` is one of the few ids asked for; samplers and judges are a handful."""
    said: list[str] = []
    with Folder(done) as folder:
        folder.ledger.db.set_trace_callback(said.append)
        life(folder, 3)
        folder.ledger.db.set_trace_callback(None)
        plans = [
            step
            for statement in set(said)
            for *_, step in folder.ledger.db.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
        ]
    assert any("call_prompt" in step for step in plans)
    scans = {step.split()[1] for step in plans if step.startswith("SCAN")}
    assert scans <= {"json_each", "sampler", "judge"}, plans


def test_times_are_utc_and_samplers_judges_and_completions_have_names(tmp_path: Path) -> None:
    rubric = {"use": "rubric-help", "model": "fake:j"}
    sample = {"model": "fake:m", "temperature": [0.5, 1.0], "n": 2}
    run(recipe(tmp_path, ROWS, judge=[rubric], sample=sample), tmp_path / "run")
    found = explain(tmp_path / "run", "line:1")
    names = [c["completion"] for c in found["completions"]]
    assert names == [f"fake:m, temperature {t} #{i}" for t in (0.5, 1.0) for i in (0, 1)]
    (pair,) = found["items"][0]["pairs"]
    assert {pair["chosen"], pair["rejected"]} <= set(names) and pair["judge"] == "rubric-help (fake:j)"
    for call in found["calls"]:
        began = datetime.fromisoformat(call["session_began"])
        assert call["session_began"].endswith("Z") and began <= datetime.fromisoformat(call["sent"])
        assert abs((datetime.now(UTC) - began).total_seconds()) < 600
    judged = [call["about"] for call in found["calls"] if call["stage"] == "judge"]
    assert sorted(judged) == [[name] for name in sorted(names)]


def test_a_model_that_is_a_file_is_called_as_the_recipe_calls_it(tmp_path: Path) -> None:
    sample = {"model": "embedded:tiny", "temperature": 0.5, "n": 2, "max_tokens": 8}
    run(recipe(tmp_path, ROWS[:1], sample=sample), tmp_path / "run")
    found = explain(tmp_path / "run", "line:1")
    for name in (found["completions"][0]["completion"], found["calls"][0]["by"]):
        assert re.match(r"embedded:tiny \[gguf-[0-9a-f]{16}\], temperature 0\.5", name), name


def test_samplers_that_share_a_name_are_told_apart(tmp_path: Path) -> None:
    for cap in (50, 60):
        run(recipe(tmp_path, ROWS, sample={"model": "fake:m", "n": 2, "max_tokens": cap}), tmp_path / "run")
    calls = explain(tmp_path / "run", "line:1")["calls"]
    assert [c["by"] for c in calls] == [f"fake:m, temperature 1.0 [sampler {i}]" for i in (1, 2)]
    assert calls[1]["why"].endswith("max_tokens 50 -> 60")
