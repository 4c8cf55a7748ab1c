"""What the summary tells of judges: counts of verdicts that close, and what a temperature did to their scores."""

import json
from pathlib import Path
from typing import Any

import pytest

from prefsmith.folder import Folder
from prefsmith.job import run_job
from prefsmith.page import render
from prefsmith.recipe import Recipe
from prefsmith.summary import summary_of

RUBRIC = {"use": "rubric-help", "model": "fake:j"}


def recipe(folder: Path, rows: list[Any], script: dict[str, Any] | None = None, **more: Any) -> Recipe:
    prompts = folder / "p.jsonl"
    prompts.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    given = {
        "prompts": {"path": str(prompts)},
        "endpoints": {"fake": {"script": {"chars": 120, **(script or {})}}},
        "sample": {"model": "fake:m", "temperature": [0.5, 1.0], "n": 3},
        "judge": ["contains"],
        "max_no_verdict": 1,
    }
    return Recipe.model_validate({**given, **more})


def run(given: Recipe, folder: Path) -> None:
    assert run_job(given, folder, say=lambda _: None) == 0


def rows(n: int) -> list[Any]:
    return [{"prompt": f"Say {i}.", "reference": f"quality={i % 9}", "id": str(i)} for i in range(n)]


def closed(counted: Any, name: str) -> int:
    """All that is told of a judge's verdicts."""
    tallies = [counted["verdicts"][name].values(), counted["not_asked"].get(name, {}).values()]
    return sum(map(sum, tallies)) + int(counted["verdicts_owed"].get(name, 0))


def test_every_answer_that_passed_has_a_verdict_or_is_owed_one_or_was_not_asked(tmp_path: Path) -> None:
    script = {"truncated": 0.6, "unparseable": 0.3}
    given = recipe(tmp_path, rows(30), script, judge=[RUBRIC], budget={"tokens": 30_000}, window=8)
    assert run_job(given, tmp_path / "run", say=lambda _: None) == 3
    counted = summary_of(tmp_path / "run")
    n_passed = counted["asked"]["completions"] - sum(counted["gates"].values())
    assert closed(counted, "rubric-help") == n_passed
    assert counted["verdicts_owed"]["rubric-help"]
    run(recipe(tmp_path, rows(30), script, judge=[RUBRIC]), tmp_path / "run")
    counted = summary_of(tmp_path / "run")
    n_passed = counted["asked"]["completions"] - sum(counted["gates"].values())
    assert closed(counted, "rubric-help") == n_passed and counted["verdicts_owed"] == {}
    assert counted["not_asked"]["rubric-help"]["too_few"]


def test_what_a_rule_decides_has_no_row_of_verdicts(tmp_path: Path) -> None:
    judge = [{"panel": ["contains", RUBRIC]}]
    run(recipe(tmp_path, rows(4), judge=judge), tmp_path / "run")
    assert list(summary_of(tmp_path / "run")["verdicts"]) == ["contains", "rubric-help"]


def test_a_judge_that_nothing_came_to_is_told_as_such(tmp_path: Path) -> None:
    judge = [{"use": "contains", "text": "quality="}, {"confirm": "pairwise-help", "model": "fake:j"}]
    run(recipe(tmp_path, rows(4), judge=judge), tmp_path / "run")
    assert "0   by pairwise-help; none was asked for" in render(summary_of(tmp_path / "run"))


def test_scores_that_say_neither_right_nor_wrong_are_told_as_their_mean(tmp_path: Path) -> None:
    run(recipe(tmp_path, rows(8), judge=[RUBRIC]), tmp_path / "run")
    counted = summary_of(tmp_path / "run")
    page = render(counted)
    assert "mean score" in page and "pass rate" not in page and "over 48 of 48 answers)" in page
    with Folder(tmp_path / "run") as folder:
        found = [
            (folder.samplers()[s.key[0]]["temperature"], v)
            for r in folder.records()
            for s in r.samples
            for v in s.scores.values()
        ]
    for line in counted["by_temperature"]:
        values = [float(v) for t, v in found if t == line["temperature"]]
        assert line["mean_score"] == pytest.approx(sum(values) / len(values))
    run(recipe(tmp_path, rows(8), judge=[RUBRIC], pair={"correct": 4}), tmp_path / "run")
    assert "pass rate: a score of at least 4 by" in render(summary_of(tmp_path / "run"))


def test_a_judge_whose_verdicts_all_failed_is_warned_of(tmp_path: Path) -> None:
    run(recipe(tmp_path, rows(2), {"unparseable": 1.0}, judge=[RUBRIC]), tmp_path / "run")
    page = render(summary_of(tmp_path / "run"))
    assert "warning: no verdict by rubric-help has a result (12 unparseable); `prefsmith explain" in page


@pytest.mark.parametrize("tokens", [20_000, 26_000, 32_000])
def test_a_stop_says_the_same_number_of_items_as_the_summary_after_it(tokens: int, tmp_path: Path) -> None:
    """Two items of a prompt are judged apart, and one of them may be done when the other is not."""
    twins = [{"prompt": f"Say {i // 2}.", "reference": f"quality={i}"} for i in range(40)]
    said, judge = list[str](), [{"use": "rubric-reference", "model": "fake:j"}]
    given = recipe(tmp_path, twins, judge=judge, budget={"tokens": tokens}, window=16)
    for _ in range(2):
        assert run_job(given, tmp_path / "run", say=said.append) == 3
        items = summary_of(tmp_path / "run")["items"]
        n_done = items["n"] - items["without"]["incomplete"]
        assert any(f" with {n_done} of 40 items done: " in line for line in said), said
        said.clear()
        given = Recipe.model_validate({**given.model_dump(mode="json"), "budget": {"tokens": tokens + 4000}})


@pytest.mark.parametrize("judge", [RUBRIC, {"use": "pairwise-help", "model": "fake:j", "tournament": "minmax"}])
def test_the_cost_of_a_recipe_does_not_depend_on_what_else_was_tried_in_its_folder(judge: Any, tmp_path: Path) -> None:
    small = recipe(tmp_path, rows(10), judge=[judge], sample={"model": "fake:m", "temperature": 0.5, "n": 2})
    run(small, tmp_path / "run")
    before = summary_of(tmp_path / "run")
    other = {"model": "fake:m", "temperature": [0.5, 1.0], "n": 4}
    run(recipe(tmp_path, rows(16), judge=[judge], sample=other), tmp_path / "run")
    assert summary_of(tmp_path / "run")["cost"]["n_calls"] > 2 * before["cost"]["n_calls"] > 0
    back = {**small.model_dump(mode="json")}
    back["prompts"]["limit"] = 10
    assert run_job(Recipe.model_validate(back), tmp_path / "run", change=True, say=lambda _: None) == 0
    after = summary_of(tmp_path / "run")
    assert (after["cost"], after["endpoints"]) == (before["cost"], before["endpoints"])
