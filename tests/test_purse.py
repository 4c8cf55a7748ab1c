"""Budgets of whole runs: never passed, resumable, through kills, with the ledger's own account of what was spent."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from runs import RUBRIC, count, described_run, logged, rows

import prefsmith
from prefsmith.errors import BudgetReached, UsageError
from prefsmith.job import run_job
from prefsmith.ledger.ledger import Ledger
from prefsmith.ledger.verify import verify
from prefsmith.recipe import Recipe

PRICES = """
[farm.models]
fake = { input = 1, output = 4 }
[jury.models]
fake = { input = 0.5, output = 2 }
"""
NANO = 10**9


def priced(folder: Path, n: int, budget: dict[str, float], **more: Any) -> dict[str, Any]:
    (folder / "prices.toml").write_text(PRICES)
    whole = described_run(folder, n, RUBRIC, budget=budget, prices=str(folder / "prices.toml"), **more)
    whole["sample"]["max_tokens"] = 100  # the fake's answers have 51
    return whole


def spent(folder: Path) -> int:
    """Nano-dollars of all call rows."""
    return int(rows(folder, "SELECT coalesce(sum(cost_nanousd), 0) FROM call")[0][0])


def held(folder: Path, unit: str = "nanousd") -> int:
    found = rows(folder, f"SELECT value FROM counter WHERE name = 'held.{unit}'")
    return int(found[0][0]) if found else 0


def cost_of(folder: Path, n: int) -> float:
    """Dollars of a run without a budget."""
    whole = priced(folder, n, {})
    del whole["budget"]
    assert run_job(Recipe.model_validate(whole), folder / "out") == 0
    return spent(folder) / NANO


def test_a_budget_is_used_nearly_whole_never_passed_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    (tmp_path / "free").mkdir()
    whole_usd = cost_of(tmp_path / "free", 100)
    n_needed = len(logged(tmp_path / "free"))
    cap, said = 0.6 * whole_usd, list[str]()
    recipe = Recipe.model_validate(priced(tmp_path, 100, {"usd": cap}))
    assert run_job(recipe, tmp_path / "out", say=said.append) == 3
    assert 0.97 * cap * NANO <= spent(tmp_path) <= cap * NANO
    assert held(tmp_path) == 0, "nothing is out after a clean end"
    assert any("the budget is reached" in remark for remark in said)
    assert run_job(recipe, tmp_path / "out") == 3, "and again, for nothing"
    assert spent(tmp_path) <= cap * NANO
    larger = Recipe.model_validate(priced(tmp_path, 100, {"usd": 2 * whole_usd}))
    assert run_job(larger, tmp_path / "out") == 0
    assert len(logged(tmp_path)) == n_needed and spent(tmp_path) / NANO == pytest.approx(whole_usd)
    with Ledger.read(tmp_path / "out") as ledger:
        assert list(verify(ledger)) == []


def test_a_budget_in_tokens_counts_all_models_and_needs_no_price(tmp_path: Path) -> None:
    whole = described_run(tmp_path, 60, RUBRIC, budget={"tokens": 40_000})
    whole["sample"]["max_tokens"] = 100
    assert run_job(Recipe.model_validate(whole), tmp_path / "out") == 3
    used = rows(tmp_path, "SELECT sum(n_prompt_tokens + n_completion_tokens) FROM call")[0][0]
    assert 0.9 * 40_000 <= used <= 40_000
    whole["budget"] = {"tokens": 4_000_000}
    assert run_job(Recipe.model_validate(whole), tmp_path / "out") == 0
    assert count(tmp_path, "verdict") == 240


def test_a_reached_budget_is_an_error_of_its_own_in_python(tmp_path: Path) -> None:
    whole = described_run(tmp_path, 60, RUBRIC, budget={"tokens": 40_000})
    with pytest.raises(BudgetReached, match="run again with a larger one"):
        prefsmith.run(Recipe.model_validate(whole), tmp_path / "out")


def test_a_model_without_a_price_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text("[farm.models]\nfake = { input = 1, output = 4 }\n")
    whole = described_run(tmp_path, 5, budget={"usd": 1}, prices=str(tmp_path / "prices.toml"))
    whole["endpoints"]["far"] = {"urls": "http://127.0.0.1:9/v1"}
    whole["judge"] = {"use": "rubric-help", "model": "far:judge"}
    with pytest.raises(UsageError, match="the price of far:judge is unknown"):
        run_job(Recipe.model_validate(whole), tmp_path / "out")
    assert logged(tmp_path) == []


def test_a_lost_reply_counts_against_the_budget_in_full(tmp_path: Path) -> None:
    """A time-out after the request was sent may be billed; the next session still holds it."""
    recipe = Recipe.model_validate(priced(tmp_path, 40, {"usd": 1}, farm={"faults": 0.3}))
    assert run_job(recipe, tmp_path / "out") == 0
    lost = rows(tmp_path, "SELECT count(*) FROM call WHERE maybe_billed AND status = 'failed'")[0][0]
    assert lost > 0 and held(tmp_path) > 0
    # Each of at most (bytes of its body + 1,024) x 1 USD and 200 x 4 USD for a million tokens.
    assert lost * 800_000 < held(tmp_path) < lost * 2_500_000


@pytest.mark.parametrize("wait_s", [0.05, 0.3])
def test_a_kill_in_the_middle_passes_no_cap_and_what_was_out_is_held(wait_s: float, tmp_path: Path) -> None:
    (tmp_path / "free").mkdir()
    cap = round(0.8 * cost_of(tmp_path / "free", 150), 9)
    script = {"latency_s": 0.02}
    whole = priced(tmp_path, 150, {"usd": cap}, farm=script, jury=script)
    whole["endpoints"]["farm"]["limits"] = whole["endpoints"]["jury"]["limits"] = {"concurrency": 4}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(whole))
    command = (sys.executable, "-m", "prefsmith", "run", "recipe.yaml", "-o", "out", "--quiet")
    child = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE)
    while not logged(tmp_path):
        time.sleep(0.01)
    time.sleep(wait_s)
    os.kill(child.pid, signal.SIGKILL)
    child.communicate()
    n_out = len(logged(tmp_path)) - count(tmp_path, "call WHERE status = 'ok'")
    assert n_out > 0 and held(tmp_path) > 0 and spent(tmp_path) + held(tmp_path) <= cap * NANO
    assert run_job(Recipe.model_validate(whole), tmp_path / "out") == 3
    assert spent(tmp_path) + held(tmp_path) <= cap * NANO
    # At most what the provider counted, by the fake's own log: every request that it saw, answered or not.
    with closing(sqlite3.connect(tmp_path / "out" / "ledger.db")) as db:
        dearest = db.execute("SELECT max(cost_nanousd) FROM call").fetchone()[0]
    assert spent(tmp_path) + n_out * dearest <= cap * NANO
