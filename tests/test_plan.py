"""`plan`: what it foretells beside the run that follows, and that a trial is a part of that run and nothing else."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from runs import MARK, RUBRIC, count, logged, recipe, rows

from prefsmith.cli.outlook import render
from prefsmith.errors import UsageError
from prefsmith.folder import Folder
from prefsmith.job import plan_job, run_job
from prefsmith.recheck import verify_folder
from prefsmith.recipe import Recipe
from prefsmith.summary import summary_of

CONFIRM = {"confirm": "pairwise-help", "model": "jury:fake"}
PRICES = "[farm.models]\nfake = {input = 1.0, output = 4.0}\n[jury.models]\nfake = {input = 2.0, output = 8.0}\n"
RAN = (
    "SELECT count(*), sum(n_prompt_tokens), sum(n_completion_tokens), sum(cost_nanousd) / 1e9 FROM call "
    "WHERE session = (SELECT max(id) FROM session)"
)


def cascade(folder: Path, n: int = 200, **more: Any) -> Recipe:
    """A grader, a judge for what it does not decide, and a confirmation; prices for both models."""
    (folder / "prices.toml").write_text(PRICES)
    more = {"judge": [MARK, RUBRIC, CONFIRM], "prices": str(folder / "prices.toml"), **more}
    return recipe(folder, n, **more)


def ran(folder: Path, what: Recipe) -> None:
    assert run_job(what, folder / "out", say=lambda _: None) == 0


def tried(folder: Path, what: Recipe, n: int, code: int = 0) -> Any:
    planned = plan_job(what, folder / "out", n_tried=n, say=lambda _: None)
    assert planned["exit"] == code
    return planned


def test_a_forecast_from_a_trial_is_within_15_percent_of_the_run_that_follows(tmp_path: Path) -> None:
    planned = tried(tmp_path, cascade(tmp_path), 48)
    ran(tmp_path, cascade(tmp_path))
    n, n_in, n_out, usd = rows(tmp_path, RAN)[0]
    total = planned["total"]
    assert total["requests"] == pytest.approx(n, rel=0.15)
    assert total["prompt_tokens"] == pytest.approx(n_in, rel=0.15)
    assert total["answer_tokens"] == pytest.approx(n_out, rel=0.15)
    assert total["usd"] == pytest.approx(usd, rel=0.15)
    assert abs(total["requests"] / n - 1) < total["requests_off"] < 0.3
    assert planned["pairs"] == pytest.approx(summary_of(tmp_path / "out")["n_pairs"], rel=0.15)
    for stage, row in zip(("sample", "judge", "confirm"), planned["stages"], strict=True):
        assert (stage, row["requests"]) == (
            row["stage"],
            pytest.approx(count(tmp_path, f"call WHERE session = 2 AND stage = '{stage}'"), rel=0.25),
        )


def test_a_forecast_of_time_is_within_15_percent_of_the_run_that_follows(tmp_path: Path) -> None:
    what = cascade(tmp_path, farm={"latency_s": 0.1}, jury={"latency_s": 0.05})
    total = tried(tmp_path, what, 96)["total"]
    ran(tmp_path, what)
    ((took_s,),) = rows(tmp_path, "SELECT t_end - t_start FROM session WHERE id = 2")
    assert total["seconds"] == pytest.approx(took_s, rel=0.15)
    assert total["bound_by"] in ("farm:fake: 8 at a time", "jury:fake: 8 at a time")


def test_a_trial_is_a_part_of_the_run_and_leaves_no_trace_in_its_files(tmp_path: Path) -> None:
    (tmp_path / "fresh").mkdir()
    ran(tmp_path / "fresh", cascade(tmp_path / "fresh"))
    what = cascade(tmp_path)
    tried(tmp_path, what, 16)
    n_trial = len(logged(tmp_path))
    assert 0 < n_trial < 0.2 * len(logged(tmp_path / "fresh")) and not (tmp_path / "out" / "export").exists()
    assert verify_folder(tmp_path / "out", 1000).damages == ()
    with Folder(tmp_path / "out") as folder:
        assert folder.view.selection.n_items == 200, "what is read of the folder is the run, of which much is owed"
    ran(tmp_path, what)
    assert rows(tmp_path, "SELECT exit FROM session") == [(0,), (0,)] and count(tmp_path, "recipe") == 1
    asked = [sorted(map(orjson.dumps, logged(folder))) for folder in (tmp_path, tmp_path / "fresh")]
    assert asked[0] == asked[1], "every request of a fresh run, each once"
    files = [(f / "out" / "export" / "trl" / "train.jsonl").read_bytes() for f in (tmp_path, tmp_path / "fresh")]
    assert files[0] == files[1]
    assert verify_folder(tmp_path / "out", 1000).damages == ()


def test_the_same_trial_again_asks_nothing_and_a_plan_without_one_uses_it(tmp_path: Path) -> None:
    first = tried(tmp_path, cascade(tmp_path), 16)
    n = len(logged(tmp_path))
    again = tried(tmp_path, cascade(tmp_path), 16)
    later = plan_job(cascade(tmp_path), tmp_path / "out")
    assert len(logged(tmp_path)) == n
    assert first["total"]["requests"] == again["total"]["requests"] == later["total"]["requests"]
    assert first["total"]["usd"] == later["total"]["usd"] and later["prompts_finished"] == 16


def test_a_stopped_run_foretells_its_own_rest(tmp_path: Path) -> None:
    ran(tmp_path, cascade(tmp_path, 100))
    whole = recipe(tmp_path, 200).prompts
    what = cascade(tmp_path, 200)
    assert what.prompts == whole
    total = plan_job(what, tmp_path / "out")["total"]
    ran(tmp_path, what)
    n, n_in, _, usd = rows(tmp_path, RAN)[0]
    assert total["requests"] == pytest.approx(n, rel=0.15) and total["prompt_tokens"] == pytest.approx(n_in, rel=0.15)
    assert total["usd"] == pytest.approx(usd, rel=0.15)


def test_more_samples_of_what_was_run_are_foretold_as_the_difference(tmp_path: Path) -> None:
    ran(tmp_path, cascade(tmp_path, 100))
    more = cascade(tmp_path, 100, sample={"model": "farm:fake", "temperature": [0.4, 1.0], "n": 4})
    planned = tried(tmp_path, more, 32)
    ran(tmp_path, more)
    n, n_in, n_out, _ = rows(tmp_path, RAN)[0]
    total = planned["total"]
    assert planned["stages"][0]["requests"] == 68 * 2 == count(tmp_path, "call WHERE session = 3 AND stage = 'sample'")
    assert total["requests"] == pytest.approx(n, rel=0.15)
    assert total["prompt_tokens"] + total["answer_tokens"] == pytest.approx(n_in + n_out, rel=0.15)


def test_without_a_trial_there_are_counts_and_a_bound_and_a_trial_is_offered(tmp_path: Path) -> None:
    planned = plan_job(cascade(tmp_path), tmp_path / "out")
    assert planned["total"] == dict.fromkeys(planned["total"])
    ran(tmp_path, cascade(tmp_path))
    assert 0 < rows(tmp_path, RAN)[0][3] < planned["usd_at_most"]
    page = render(planned)
    assert "nothing was asked yet" in page and "at most $" in page and "time: not known" in page
    assert "next: --try 16 asks the models about 16 prompts (for at most $" in page
    trial_usd = rows(tmp_path, "SELECT sum(cost_nanousd) / 1e9 FROM call WHERE prompt <= 16")[0][0]
    assert trial_usd < planned["trial_usd_at_most"] < 0.2 * planned["usd_at_most"]


def test_a_price_that_is_not_known_is_told_and_never_0(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text("[farm.models]\nfake = {input = 1.0, output = 4.0}\n")
    shape = {"urls": ["http://127.0.0.1:9/v1"]}
    what = cascade(tmp_path)
    what = what.model_copy(update={"endpoints": {**what.endpoints, "jury": type(what.endpoints["jury"])(**shape)}})
    (tmp_path / "prices.toml").write_text("[farm.models]\nfake = {input = 1.0, output = 4.0}\n")
    planned = plan_job(what, tmp_path / "out")
    assert planned["usd_at_most"] is None and planned["trial_usd_at_most"] is None
    assert planned["stages"][0]["usd_at_most"] > 0 and planned["stages"][1]["usd_at_most"] is None
    page = render(planned)
    assert "price unknown" in page and "the price of jury:fake is unknown" in page and "(at a price that is not" in page


def test_a_trial_keeps_to_the_budget_and_its_end_is_told(tmp_path: Path) -> None:
    planned = tried(tmp_path, cascade(tmp_path, budget={"usd": 0.01}), 16, code=3)
    ((spent,),) = rows(tmp_path, "SELECT sum(cost_nanousd) / 1e9 FROM call")
    assert (spent or 0) <= 0.01 and "of $0.0100 spent or held" in render(planned)
    enough = tried(tmp_path, cascade(tmp_path, budget={"usd": 5}), 16)
    assert "what is left is enough" in render(enough)
    few = plan_job(cascade(tmp_path, budget={"tokens": 100_000}), tmp_path / "out")
    assert "100,000 tokens spent or held; what is left is enough for about" in render(few)


def test_a_judge_that_no_tried_prompt_came_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "grade.py").write_text("def grade(text, item):\n    return sum(map(ord, text)) % 997 / 997\n")
    what = cascade(tmp_path, judge=[{"use": f"{tmp_path / 'grade.py'}:grade"}, RUBRIC])
    page = render(tried(tmp_path, what, 12))
    assert "rubric-help was asked about none of 12 prompts; up to 25% may come to it" in page
    assert "grade.py:grade takes is not counted" in page


def test_pairs_are_told_with_the_prompts_that_500_of_them_take(tmp_path: Path) -> None:
    planned = tried(tmp_path, cascade(tmp_path), 20)
    with Folder(tmp_path / "out") as folder:
        n_pairs = sum(len(record.pairs) for record in folder.records())
    assert planned["pairs"] == n_pairs * 10 and planned["prompts_for_enough"] == pytest.approx(
        500 / (n_pairs / 20), 0.01
    )
    assert f"pairs: about {n_pairs * 10} from 200 items; 500 take about" in render(planned)


def test_a_trial_of_standard_input_needs_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    what = cascade(tmp_path, 40)
    lines = Path(what.prompts.path).read_bytes()
    piped = what.model_copy(update={"prompts": what.prompts.model_copy(update={"path": "-", "format": "jsonl"})})
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert tried(tmp_path, piped, 8)["prompts_finished"] == 8


def test_a_trial_in_a_folder_of_other_prompts_needs_a_word(tmp_path: Path) -> None:
    ran(tmp_path, cascade(tmp_path, 10))
    other = tmp_path / "other.txt"
    other.write_text("What else?\nAnd then?\n")
    what = cascade(tmp_path, 10, prompts={"path": str(other)})
    with pytest.raises(UsageError, match="--change"):
        plan_job(what, tmp_path / "out", n_tried=2)


def test_the_embedded_model_is_foretold_within_15_percent(tmp_path: Path) -> None:
    sample = {"model": "embedded:tiny", "temperature": [0.3, 1.0], "n": 2, "max_tokens": 44}
    what = Recipe.model_validate(
        {"prompts": {"path": "demo:tiny", "limit": 96}, "sample": sample, "judge": "demo", "export": []}
    )
    total = tried(tmp_path, what, 32)["total"]
    ran(tmp_path, what)
    n, n_in, n_out, _ = rows(tmp_path, RAN)[0]
    assert (total["requests"], total["usd"]) == (n, 0)
    assert total["prompt_tokens"] == pytest.approx(n_in, rel=0.15)
    assert total["answer_tokens"] == pytest.approx(n_out, rel=0.15)
    ((took_s,),) = rows(tmp_path, "SELECT t_end - t_start FROM session WHERE id = 2")
    # A second of work on a machine that does other things too: bench/plan.py measures time.
    assert took_s / 3 < total["seconds"] < took_s * 3 and total["bound_by"] == "embedded:tiny.gguf: 20 at a time"


def test_verdicts_in_the_ledger_are_counted_when_the_view_has_a_use_for_them_and_only_then(tmp_path: Path) -> None:
    """A bound that takes verdicts on other texts for paid is none."""
    rubric, sample = [RUBRIC], {"model": "farm:fake", "temperature": 1.0, "n": 4}
    ran(tmp_path, cascade(tmp_path, 10, judge=rubric, sample=sample))

    def judging(**more: Any) -> tuple[int, int, int]:
        what = cascade(tmp_path, 10, **{"judge": rubric, "sample": sample, **more})
        (stage,) = [s for s in plan_job(what, tmp_path / "out")["stages"] if s["stage"] == "judge"]
        return stage["requests_at_most"], stage["paid"], stage["of"]

    assert judging() == (0, 40, 40)
    assert judging(sample={**sample, "temperature": 0.5}) == (40, 0, 40)
    assert judging(sample={**sample, "temperature": [0.5, 1.0]}) == (40, 40, 80)
    assert judging(sample={**sample, "n": 6}) == (20, 40, 60)
    assert judging(sample={**sample, "n": 2}) == (0, 20, 20)
    confirmed = [*rubric, {"confirm": "pairwise-help", "model": "jury:fake"}]
    assert judging(judge=confirmed) == (0, 40, 40)
    page = render(plan_job(cascade(tmp_path, 10, judge=rubric, sample={**sample, "n": 6}), tmp_path / "out"))
    assert "no prompt is finished yet" in page and "40 of 60 completions, 40 of at most 60 verdicts" in page
