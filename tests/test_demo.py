"""The bundled model for real: sampled in process, graded, paired, exported; killed and resumed; as a hopeless judge."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prefsmith import Recipe, run
from prefsmith.errors import UsageError
from prefsmith.folder import Folder
from prefsmith.job import run_job
from prefsmith.ledger.ledger import Ledger
from prefsmith.page import render
from prefsmith.recheck import verify_folder
from prefsmith.summary import summary_of

DEMO = {
    "prompts": {"path": "demo:tiny", "limit": 60},
    "sample": {"model": "embedded:tiny", "temperature": [0.0, 0.7, 1.3], "n": 3, "max_tokens": 44},
    "judge": "demo",
    "pair": {"strategy": "correct_incorrect"},
    "export": ["trl", "openai"],
}


def carried_out(recipe: Recipe, folder: Path) -> list[str]:
    said: list[str] = []
    assert run_job(recipe, folder, say=said.append) == 0
    return said


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("demo") / "run"
    return folder, carried_out(Recipe.model_validate(DEMO), folder)


def test_the_demo_makes_real_pairs_and_verifies(demo: tuple[Path, list[str]]) -> None:
    folder, said = demo
    counted = summary_of(folder)
    assert counted["asked"]["completions"] == 60 * 7, "temperature 0 is one sample"
    assert any("temperature 0 is greedy" in remark for remark in said)
    assert 20 <= counted["n_pairs"] <= 60
    report = verify_folder(folder, 1000)
    assert not report.damages, report.damages
    rows = [json.loads(line) for line in (folder / "export/trl/train.jsonl").read_text().splitlines()]
    assert len(rows) == counted["n_pairs"]
    assert all(row["score_chosen"] == 1.0 and row["score_rejected"] == 0.0 for row in rows)


def test_the_share_of_distinct_texts_rises_and_the_pass_rate_falls_with_temperature(
    demo: tuple[Path, list[str]],
) -> None:
    cool, hot = summary_of(demo[0])["by_temperature"][1:]
    assert cool["distinct"] < hot["distinct"]
    assert cool["pass_rate"] > hot["pass_rate"]
    assert "pass rate" in render(summary_of(demo[0]))


def completions_in(folder: Path) -> dict[tuple[bytes, bytes, int], bytes]:
    sql = (
        "SELECT p.hash, s.hash, c.idx, t.hash FROM completion c JOIN prompt p ON p.id = c.prompt "
        "JOIN sampler s ON s.id = c.sampler JOIN text t ON t.id = c.text"
    )
    with Ledger.read(folder) as ledger:
        return {(p, s, i): t for p, s, i, t in ledger.db.execute(sql)}


def test_a_killed_demo_goes_on_and_asks_nothing_again_that_had_come_back(
    demo: tuple[Path, list[str]], tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(DEMO))  # JSON is YAML
    words = [sys.executable, "-m", "prefsmith", "run", str(recipe), "-o", str(tmp_path / "run"), "--quiet"]
    child = subprocess.Popen(words)
    for _ in range(600):
        time.sleep(0.02)
        log = tmp_path / "run" / "ledger.db-wal"
        if log.exists() and log.stat().st_size > 300_000:
            break
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    held = completions_in(tmp_path / "run")
    assert len(held) < 60 * 7, "the kill came too late to show anything"
    assert subprocess.run(words, check=True).returncode == 0
    whole, undisturbed = completions_in(tmp_path / "run"), completions_in(demo[0])
    assert whole.keys() == undisturbed.keys()
    assert all(whole[key] == text for key, text in held.items())
    # Which requests share a batch changes the last bits of a sum, and so a text in a thousand or two.
    assert sum(whole[key] != undisturbed[key] for key in whole) <= 0.02 * len(whole)
    with Ledger.read(tmp_path / "run") as ledger:
        n_bought = ledger.db.execute("SELECT sum(json_array_length(unit, '$.idx')) FROM call").fetchone()[0]
    assert n_bought == 60 * 7
    assert not verify_folder(tmp_path / "run", 1000).damages


def test_a_hopeless_judge_gives_no_verdict_and_never_a_guess(tmp_path: Path) -> None:
    """The tiny model knows no VERDICT line: every reply is unreadable, at every step, and no pair is written."""
    judge = tmp_path / "short.toml"
    judge.write_text('kind = "rubric"\nprompt = "short.txt"\n[sampling]\nmax_tokens = 8\n')
    (tmp_path / "short.txt").write_text("{prompt} {candidate} Rate it. VERDICT:")
    recipe = Recipe.model_validate(
        {
            **DEMO,
            "prompts": {"path": "demo:tiny", "limit": 4},
            "sample": {"model": "embedded:tiny", "temperature": [0.7], "n": 3, "max_tokens": 24},
            "judge": {"use": str(judge), "model": "embedded:tiny"},
            "pair": {},
            "max_no_verdict": 1.0,
        }
    )
    said = carried_out(recipe, tmp_path / "run")
    assert any("favour their own answers" in remark for remark in said)
    counted = summary_of(tmp_path / "run")
    assert counted["n_pairs"] == 0
    assert set(counted["items"]["without"]) <= {"no_verdict", "too_few"} and counted["items"]["without"]["no_verdict"]
    (tally,) = counted["verdicts"].values()
    assert "scored" not in tally
    with Ledger.read(tmp_path / "run") as ledger:
        steps = {s for (s,) in ledger.db.execute("SELECT unit ->> '$.step' FROM call WHERE judge IS NOT NULL")}
        values = ledger.db.execute("SELECT count(*) FROM verdict WHERE value IS NOT NULL").fetchone()[0]
    assert {"ask", "repair"} <= steps or {"ask", "longer"} <= steps
    assert values == 0
    assert not verify_folder(tmp_path / "run", 1000).damages


def test_more_tokens_than_the_model_holds_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({**DEMO, "sample": {"model": "embedded:tiny", "max_tokens": 1024}})
    with pytest.raises(UsageError, match=r"512"):
        run_job(recipe, tmp_path / "run", say=lambda _: None)


def test_the_public_names_run_a_recipe_and_give_its_pairs_also_inside_a_loop(tmp_path: Path) -> None:
    recipe = Recipe.model_validate({**DEMO, "prompts": {"path": "demo:tiny", "limit": 8}})

    async def inside() -> object:
        return run(recipe, tmp_path / "run")

    result = asyncio.run(inside())
    again = run(recipe, tmp_path / "run")
    pairs = again.pairs()
    records = list(again.records())
    assert len(records) == 8
    assert pairs.num_rows == sum(len(r.pairs) for r in records) > 0
    assert {"prompt", "chosen", "rejected"} <= set(pairs.column_names)
    assert pairs[0]["chosen"][0]["role"] == "assistant"
    assert repr(result) == repr(again)


def test_runs_are_joined_into_one_file_whatever_their_integers(tmp_path: Path) -> None:
    from prefsmith.handoff import export_job

    for name, seed in (("a", 0), ("b", 7)):
        recipe = Recipe.model_validate({**DEMO, "prompts": {"path": "demo:tiny", "limit": 12}, "seed": seed})
        carried_out(recipe, tmp_path / name)
    both = export_job([tmp_path / "a", tmp_path / "b"], ["trl"], None, tmp_path / "out")
    n = []
    for name in ("a", "b"):
        with Folder(tmp_path / name) as folder:
            n.append(sum(len(r.pairs) for r in folder.records()))
    assert 0 < both[0].n_rows <= sum(n)
    assert both[0].n_rows + both[0].skipped.get("same_pair", 0) == sum(n)
