"""A budget over a kill: what was out is held against it, until the user says what the bill says."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from runs import count, recipe, rows, started

from prefsmith.errors import UsageError
from prefsmith.job import judge_job, run_job
from prefsmith.purse import Billed
from prefsmith.recipe import Recipe

SPENT = "SELECT sum(n_prompt_tokens + n_completion_tokens) FROM call"
HELD = "SELECT value FROM counter WHERE name = 'held.tokens'"


def killed(folder: Path) -> Recipe:
    """A run that was killed with calls out; its budget is enough for the whole, but not beside what is held."""
    (folder / "whole").mkdir()
    assert run_job(recipe(folder / "whole", 400), folder / "whole" / "out", say=lambda _: None) == 0
    budget = {"tokens": rows(folder / "whole", SPENT)[0][0] + 10_000}
    child = started(folder, 400, farm={"latency_s": 0.02}, budget=budget)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=20)
    return recipe(folder, 400, budget=budget)


def test_what_was_out_at_a_kill_is_held_until_the_user_says_what_the_bill_says(tmp_path: Path) -> None:
    what, said = killed(tmp_path), list[str]()
    ((held,),) = rows(tmp_path, HELD)
    assert held > 0
    # Without a word it counts as spent: the budget is reached early.
    assert run_job(what, tmp_path / "out", say=said.append) == 3
    assert any(line.startswith(f"{held:,} tokens of the budget are held") for line in said)
    n_completions = count(tmp_path, "completion")
    assert n_completions < 1600 and rows(tmp_path, HELD)[0][0] > 0
    ((held,),) = rows(tmp_path, HELD)
    assert run_job(what, tmp_path / "out", billed=Billed("tokens", 0), say=said.append) == 0
    assert f"held as maybe billed: {held:,} tokens; 0 tokens from now on, as you say" in said
    assert count(tmp_path, "completion") == 1600 and rows(tmp_path, HELD) == [(0,)]
    assert what.budget is not None and rows(tmp_path, SPENT)[0][0] <= (what.budget.tokens or 0)


def test_a_bill_that_says_more_than_was_held_counts_too(tmp_path: Path) -> None:
    what = recipe(tmp_path, 20, budget={"tokens": 50_000})
    all_of_it = Billed("tokens", 50_000)
    said: list[str] = []
    assert run_job(what, tmp_path / "out", billed=all_of_it, say=said.append) == 3
    told = "nothing is held as maybe billed in this folder; 50,000 tokens from now on, as you say"
    assert f"{told} (--maybe-billed 0tok takes that back)" in said
    assert count(tmp_path, "call") == 0 and rows(tmp_path, HELD) == [(50_000,)]
    assert run_job(what, tmp_path / "out", say=lambda _: None) == 3
    assert judge_job(what, tmp_path / "out", billed=Billed("tokens", 0), say=lambda _: None) == 0
    assert rows(tmp_path, HELD) == [(0,)]
    assert run_job(what, tmp_path / "out", say=lambda _: None) == 0


def test_a_word_in_another_unit_than_the_budget_is_refused(tmp_path: Path) -> None:
    what = recipe(tmp_path, 2, budget={"tokens": 50_000})
    with pytest.raises(UsageError, match=r"got \$0\.00, but the budget is in tokens"):
        run_job(what, tmp_path / "out", billed=Billed("nanousd", 0), say=lambda _: None)
