"""Gallery rows that belong to the ledger: keys, corrected columns, folders with a history, shared prompts."""

import json
from pathlib import Path
from typing import Any

import pytest

from prefsmith.folder import Folder
from prefsmith.job import run_job
from prefsmith.ledger.ledger import Ledger
from prefsmith.recheck import verify_folder
from prefsmith.recipe import Recipe

ROWS = [{"prompt": f"Say {i}.", "reference": f"quality={i}", "note": "n", "tag": i} for i in range(4)]
BASE: dict[str, Any] = {
    "endpoints": {"fake": {"script": {"chars": 100}}},
    "sample": [{"model": "fake:m", "temperature": [0.7], "n": 2, "max_tokens": 500}],
    "judge": [{"use": "rubric-reference", "model": "fake:j"}],
}


def run(folder: Path, given: dict[str, Any], rows: list[dict[str, Any]] = ROWS, name: str = "run") -> dict[str, int]:
    """What was asked, by stage: completions sampled and judge calls made."""
    prompts, log = folder / "p.jsonl", folder / "asked"
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    log.unlink(missing_ok=True)
    endpoints = {name: {**e, "script": {**e["script"], "log": str(log)}} for name, e in given["endpoints"].items()}
    recipe = Recipe.model_validate({**given, "prompts": {"path": str(prompts)}, "endpoints": endpoints})
    assert run_job(recipe, folder / name, say=lambda _: None) == 0
    asked = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    return {
        "sampled": sum(one["n"] for one in asked if not one["labels"]),
        "judged": sum(1 for one in asked if one["labels"]),
    }


def changed(place: str, value: Any) -> dict[str, Any]:
    given = json.loads(json.dumps(BASE))
    *path, last = place.split(".")
    at = given
    for part in path:
        at = at[int(part)] if isinstance(at, list) else at.setdefault(part, {})
    at[int(last) if isinstance(at, list) else last] = value
    return dict(given)


ASKS_ANEW = {
    "sample.0.temperature": [0.8],
    "sample.0.max_tokens": 501,
    "sample.0.top_p": 0.9,
    "sample.0.top_k": 40,
    "sample.0.min_p": 0.1,
    "sample.0.presence_penalty": 0.1,
    "sample.0.frequency_penalty": 0.1,
    "sample.0.repetition_penalty": 1.1,
    "sample.0.stop": ["END"],
    "sample.0.system": "Be brief.",
    "sample.0.model": "fake:n",
    "endpoints.fake.identity": "another",
    "seed": 1,
}


@pytest.mark.parametrize("place", ASKS_ANEW)
def test_whatever_can_change_an_answer_asks_for_it_again(tmp_path: Path, place: str) -> None:
    """7: stale cache: changed runs returned old answers."""
    assert run(tmp_path, BASE) == {"sampled": 8, "judged": 8}
    assert run(tmp_path, changed(place, ASKS_ANEW[place]))["sampled"] == 8


ASKS_NOTHING = {
    "sample.0.top_p": 1.0,
    "sample.0.top_k": 0,
    "sample.0.min_p": 0,
    "sample.0.presence_penalty": 0,
    "sample.0.repetition_penalty": 1,
    "sample.0.stop": [],
    "sample.0.n": 1,
    "endpoints.fake.limits.concurrency": 3,
    "endpoints.fake.timeout_s": 7,
    "endpoints.fake.key_env": "SOME_KEY",
    "endpoints.fake.n_per_request": 1,
    "endpoints.fake.script": {"chars": 100, "latency_s": 0.0001},
    "pair.min_margin": 0.5,
    "gates.max_chars": 5000,
    "window": 3,
    "attempts": 2,
}


@pytest.mark.parametrize("place", ASKS_NOTHING)
def test_whatever_changes_no_answer_asks_nothing(tmp_path: Path, place: str) -> None:
    """7: and nothing else is in the key."""
    run(tmp_path, BASE)
    assert run(tmp_path, changed(place, ASKS_NOTHING[place])) == {"sampled": 0, "judged": 0}


def test_more_samples_buy_only_the_new_ones(tmp_path: Path) -> None:
    """7: n is not in the key."""
    run(tmp_path, BASE)
    assert run(tmp_path, changed("sample.0.n", 5)) == {"sampled": 12, "judged": 12}


def test_an_identity_stands_for_the_endpoint_whatever_it_is_called(tmp_path: Path) -> None:
    """7: two names of one server share their answers, when the recipe says so."""
    named = changed("endpoints.fake.identity", "the farm")
    run(tmp_path, named)
    moved = json.loads(json.dumps(named).replace('"fake"', '"elsewhere"').replace("fake:", "elsewhere:"))
    assert run(tmp_path, moved) == {"sampled": 0, "judged": 0}


@pytest.mark.parametrize("column", ["reference", "note", "tag"])
def test_a_corrected_column_asks_again_exactly_the_verdicts_that_read_it(tmp_path: Path, column: str) -> None:
    """18: corrected references kept their old verdicts."""
    run(tmp_path, BASE)
    rows = [ROWS[0], {**ROWS[1], column: "changed"}, *ROWS[2:]]
    assert run(tmp_path, BASE, rows) == {"sampled": 0, "judged": 2 if column == "reference" else 0}
    with Folder(tmp_path / "run") as folder:
        assert all(set(s.scores) == {1} for r in folder.records() for s in r.samples)


def test_a_corrected_reference_is_graded_anew_and_the_old_verdict_stands_beside(tmp_path: Path) -> None:
    """18: for graders, whose verdicts cost nothing and could as easily be stale."""
    graded = {**BASE, "judge": ["contains"]}
    run(tmp_path, graded, [{"prompt": "a", "reference": "quality=10"}])
    run(tmp_path, graded, [{"prompt": "a", "reference": "quality="}])
    with Folder(tmp_path / "run") as folder:
        (record,) = folder.records()
        assert [list(s.scores.values()) for s in record.samples] == [[1.0], [1.0]]
    with Ledger.read(tmp_path / "run") as ledger:
        assert ledger.db.execute("SELECT value, count(*) FROM verdict GROUP BY 1").fetchall() == [(0.0, 2), (1.0, 2)]


def test_a_folder_with_a_history_writes_the_files_of_a_fresh_one(tmp_path: Path) -> None:
    """19: other sources, tools, samplers, judges, more samples before; the same bytes after."""
    given = {**BASE, "export": ["trl", "openai", "parquet", "trl-parquet"], "gates": {"max_chars": 400}}
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
    run(tmp_path, changed("sample.0.n", 4), [*ROWS[2:], {"prompt": "with tools", "tools": [tool], "reference": "r"}])
    run(tmp_path, {**BASE, "judge": ["contains"], "seed": 7})
    run(tmp_path, given)
    run(tmp_path, given, name="fresh")
    old, fresh = tmp_path / "run" / "export", tmp_path / "fresh" / "export"
    names = sorted(p.relative_to(fresh) for p in fresh.rglob("*") if p.is_file())
    assert len(names) == 5
    for name in names:
        assert (old / name).read_bytes() == (fresh / name).read_bytes(), name
    assert verify_folder(tmp_path / "run", 1000).damages == ()


def test_two_items_with_one_prompt_buy_each_completion_once(tmp_path: Path) -> None:
    """30: two items with one prompt bought every completion twice."""
    twins = [{**ROWS[0], "note": str(i)} for i in range(5)]
    assert run(tmp_path, BASE, twins) == {"sampled": 2, "judged": 2}


def test_a_changed_address_under_an_old_name_is_not_asked_again(tmp_path: Path) -> None:
    """7: the endpoint's name stands in keys, its address never: told, not asked."""
    told: list[str] = []
    run(tmp_path, BASE)
    moved = Recipe.model_validate(
        {**BASE, "prompts": {"path": str(tmp_path / "p.jsonl")}}
        | {"endpoints": {"fake": {"urls": ["http://127.0.0.1:9/v1"]}}}
    )
    assert run_job(moved, tmp_path / "run", say=told.append) == 0
    assert any("endpoints.fake" in line for line in told)
