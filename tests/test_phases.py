"""Models that share a machine take turns: one is open at a time, and the ledger ends the same."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from runs import count, described_run, logged

from prefsmith.backends.scripted import Scripted
from prefsmith.endpoints import Script
from prefsmith.job import run_job
from prefsmith.recipe import Recipe
from prefsmith.records import Capabilities
from prefsmith.session import Pool, phases_of
from prefsmith.stages.build import bind, resolve

JUDGES = [{"use": "rubric-help", "model": "jury:fake"}, {"confirm": "pairwise-help", "model": "farm:fake"}]


def recipe(folder: Path, **more: Any) -> Recipe:
    return Recipe.model_validate(described_run(folder, 30, JUDGES, **more))


def held(folder: Path) -> set[tuple[Any, ...]]:
    """Completions and verdicts, by hashes."""
    with closing(sqlite3.connect(folder / "out" / "ledger.db")) as db:
        texts = db.execute(
            "SELECT p.hash, s.hash, c.idx, t.hash FROM completion c JOIN prompt p ON p.id = c.prompt "
            "JOIN sampler s ON s.id = c.sampler JOIN text t ON t.id = c.text"
        ).fetchall()
        verdicts = db.execute(
            "SELECT p.hash, j.hash, v.kind, v.value, v.choice, count(*) FROM verdict v JOIN prompt p "
            "ON p.id = v.prompt JOIN judge j ON j.id = v.judge GROUP BY 1, 2, 3, 4, 5"
        ).fetchall()
    return {*texts, *verdicts}


def test_a_staged_run_asks_one_model_after_the_other_and_ends_in_the_same_ledger(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    said: list[str] = []
    assert run_job(recipe(tmp_path / "a", staged=True), tmp_path / "a" / "out", say=said.append) == 0
    assert run_job(recipe(tmp_path / "b"), tmp_path / "b" / "out") == 0
    assert held(tmp_path / "a") == held(tmp_path / "b")
    assert [line for line in said if line.startswith("phase")] == [
        "phase 1 of 3: farm:fake", "phase 2 of 3: jury:fake", "phase 3 of 3: farm:fake",
    ]  # fmt: skip
    # Sampling, the rubric, the confirmation: no kind of request comes before the one of an earlier phase has ended.
    kinds = [len(line["labels"]) for line in logged(tmp_path / "a")]
    assert kinds == sorted(kinds, key=[0, 9, 3].index) and set(kinds) == {0, 9, 3}
    exports = [(tmp_path / name / "out" / "export" / "trl" / "train.jsonl") for name in ("a", "b")]
    assert exports[0].read_bytes() == exports[1].read_bytes() != b""


def test_a_staged_run_is_resumed_like_any_other(tmp_path: Path) -> None:
    assert run_job(recipe(tmp_path, staged=True), tmp_path / "out") == 0
    n_asked, n_verdicts = len(logged(tmp_path)), count(tmp_path, "verdict")
    assert run_job(recipe(tmp_path), tmp_path / "out") == 0
    assert (len(logged(tmp_path)), count(tmp_path, "verdict")) == (n_asked, n_verdicts)


def test_what_is_served_elsewhere_is_open_in_every_phase(tmp_path: Path) -> None:
    from prefsmith.ledger.ledger import Ledger

    with Ledger.create(tmp_path / "out") as ledger:
        plan = bind(resolve(recipe(tmp_path)), ledger)

    def pool(remote: bool) -> Pool:
        can = Capabilities(frozenset(), remote=remote)
        return Pool(((Scripted(target="x", endpoint="x", script=Script(), capabilities=can), 1.0),))

    far, here = pool(True), pool(False)
    assert phases_of(plan, {"farm:fake": far, "jury:fake": here}) == [{"farm:fake", "jury:fake"}]
    assert phases_of(plan, {"farm:fake": here, "jury:fake": far}) == [{"farm:fake", "jury:fake"}]
    assert phases_of(plan, {"farm:fake": far, "jury:fake": far}) == [{"farm:fake", "jury:fake"}]
