"""`summary`: its counts against a recount by plain SQL, and what it says of temperatures, cost and yield."""

import json
from collections import Counter
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from served import serving

from prefsmith.explain import explain
from prefsmith.folder import Folder
from prefsmith.job import run_job
from prefsmith.ledger.ledger import Ledger
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


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recipes in one folder, the second selecting a part; duplicates, truncated texts, unreadable verdicts."""
    folder = tmp_path_factory.mktemp("messy")
    script = {"duplicates": 0.2, "truncated": 0.2, "unparseable": 0.4}
    lines = [*rows(40), rows(1)[0], "{broken", {"prompt": "Say 2.", "reference": "quality=0"}, {"prompt": ""}]
    judge = ["contains", RUBRIC, {"confirm": "pairwise-help", "model": "fake:j"}]
    more = {"model": "fake:m", "temperature": [0.5, 1.0, 1.5], "n": 4}
    run(recipe(folder, lines, script, judge=judge, sample=more), folder / "run")
    run(recipe(folder, lines, script, judge=judge), folder / "run")
    return folder / "run"


def asked(folder: Path, sql: str) -> list[Any]:
    with Ledger.read(folder) as ledger:
        return ledger.db.execute(sql).fetchall()


IN_VIEW = "FROM completion c JOIN sampler s ON s.id = c.sampler WHERE idx < 3 AND s.json ->> 'temperature' < 1.2"


def test_rows_and_completions_agree_with_a_recount(messy: Path) -> None:
    counted = summary_of(messy)
    assert counted["rows"] == {
        "n": 44,
        "items": 41,
        "duplicates": 1,
        "set_aside": {"bad_json": 1, "empty_prompt": 1},
    }
    assert asked(messy, f"SELECT count(*) {IN_VIEW}") == [(counted["asked"]["completions"],)] == [(240,)]
    assert counted["asked"] == {"units": 240, "completions": 240, "final": {}, "owed": 0}
    for line in counted["by_temperature"]:
        where = f"{IN_VIEW} AND s.json ->> 'temperature' = {line['temperature']}"
        sql = (
            "SELECT count(*), avg(finish_reason <> 'length'), count(DISTINCT text) * 1.0 / count(*), avg(n_tokens) "
            f"{where}"
        )
        assert asked(messy, sql)[0] == pytest.approx(
            (line["n_completions"], line["finished"], line["distinct"], line["mean_tokens"])
        )
    assert [line["temperature"] for line in counted["by_temperature"]] == [0.5, 1.0]


def test_items_pairs_and_reasons_agree_with_the_records(messy: Path) -> None:
    counted = summary_of(messy)
    with Folder(messy) as folder:
        records = list(folder.records())
        temperatures = {i: s["temperature"] for i, s in folder.samplers().items()}
    assert counted["items"]["n"] == 41 == len(records)
    assert counted["items"]["with_pair"] == sum(bool(r.pairs) for r in records)
    assert counted["items"]["without"] == Counter(r.reason for r in records if r.reason)
    assert counted["n_pairs"] == sum(len(r.pairs) for r in records) > 0
    assert counted["items"]["n"] == counted["items"]["with_pair"] + sum(counted["items"]["without"].values())
    chosen = Counter(temperatures[p.chosen[0]] for r in records for p in r.pairs)
    rejected = Counter(temperatures[p.rejected[0]] for r in records for p in r.pairs)
    for line in counted["by_temperature"]:
        assert (line["n_chosen"], line["n_rejected"]) == (chosen[line["temperature"]], rejected[line["temperature"]])
    gates = Counter(s.gate for r in {r.prompt_id: r for r in records}.values() for s in r.samples if s.gate is not None)
    assert counted["gates"] == gates and {"truncated", "identical"} <= set(gates)


def test_verdicts_agree_with_a_recount(messy: Path) -> None:
    """Each verdict row on texts of the view that passed, once."""
    passing = f"(SELECT text {IN_VIEW} AND finish_reason = 'stop')"
    counted = summary_of(messy)["verdicts"]
    for judge, name in ((1, "contains"), (2, "rubric-help")):
        sql = (
            "SELECT coalesce(reason, 'scored'), count(*) FROM verdict "
            f"WHERE judge = {judge} AND CAST(shown AS INTEGER) IN {passing} GROUP BY 1"
        )
        assert dict(asked(messy, sql)) == counted[name] != {}
    assert counted["rubric-help"]["unparseable"] > 0
    assert counted["pairwise-help"]["scored"] > 0


def test_a_truncated_answer_counts_as_not_passed(tmp_path: Path) -> None:
    given = recipe(tmp_path, rows(60), {"truncated": 0.5}, judge=[{"use": "contains", "text": "quality="}])
    run(given, tmp_path / "run")
    for line in summary_of(tmp_path / "run")["by_temperature"]:
        assert line["finished"] == line["pass_rate"] < 0.8


def test_items_that_share_a_prompt_are_each_counted_in_the_pass_rate(tmp_path: Path) -> None:
    """Twice the right answers over once the completions would be a rate above one."""
    twins = [{"prompt": f"Say {i}.", "reference": "quality", "category": c} for i in range(5) for c in ("a", "b")]
    run(recipe(tmp_path, twins), tmp_path / "run")
    assert [line["pass_rate"] for line in summary_of(tmp_path / "run")["by_temperature"]] == [1.0, 1.0]
    assert summary_of(tmp_path / "run")["verdicts"] == {"contains": {"scored": 30}}


def test_an_item_that_a_grader_cannot_grade_says_nothing_about_a_temperature(tmp_path: Path) -> None:
    given = [{"prompt": "a", "reference": "quality"}, {"prompt": "b"}]
    run(recipe(tmp_path, given), tmp_path / "run")
    counted = summary_of(tmp_path / "run")
    assert [line["pass_rate"] for line in counted["by_temperature"]] == [1.0, 1.0]
    page = render(counted)
    assert "6   by contains; not asked: 6 lacks reference; without: none" in page
    assert "by the first judge, over 6 of 12 answers; " in page
    told = {v for c in explain(tmp_path / "run", "line:2")["completions"] for v in c["verdicts"].values()}
    assert told == {"not asked: lacks reference"}


def test_a_folder_with_a_history_sums_up_like_a_fresh_one(messy: Path, tmp_path: Path) -> None:
    with Folder(messy) as folder:
        given = folder.recipe
    run(given, tmp_path / "fresh")
    old, new = summary_of(messy), summary_of(tmp_path / "fresh")
    parts = ("rows", "asked", "gates", "verdicts", "not_asked", "verdicts_owed", "items", "n_pairs", "by_temperature")
    for part in parts:
        assert old[part] == new[part], part


def test_tokens_and_calls_agree_with_a_recount_and_are_told_per_accepted_pair(tmp_path: Path) -> None:
    run(recipe(tmp_path, rows(20), judge=[RUBRIC]), tmp_path / "run")
    counted = summary_of(tmp_path / "run")
    cost = counted["cost"]
    sql = "SELECT count(*), sum(n_prompt_tokens), sum(n_completion_tokens) FROM call"
    assert asked(tmp_path / "run", sql) == [(cost["n_calls"], cost["n_prompt_tokens"], cost["n_completion_tokens"])]
    both = cost["n_prompt_tokens"] + cost["n_completion_tokens"]
    assert cost["tokens_per_pair"] == pytest.approx(both / counted["n_pairs"])
    assert (cost["usd"], cost["n_unpriced"]) == (0, 0), "the fake is free by declaration"
    assert f"per accepted pair: {both / counted['n_pairs']:,.0f} tokens, $0.00, " in render(counted)


def priced(folder: Path, sql: str) -> Any:
    with Ledger.create(folder) as ledger, ledger.transaction() as db:
        db.execute(sql)
    return summary_of(folder)


def test_money_is_told_per_accepted_pair_and_a_reply_without_a_price_is_never_0(tmp_path: Path) -> None:
    run(recipe(tmp_path, rows(20), judge=[RUBRIC]), tmp_path / "run")
    counted = priced(tmp_path / "run", "UPDATE call SET cost_nanousd = 2000000 * (1 + (judge IS NULL))")
    cost, n = counted["cost"], counted["n_pairs"]
    (usd,) = asked(tmp_path / "run", "SELECT sum(cost_nanousd) / 1e9 FROM call")[0]
    assert cost["usd"] == cost["known_usd"] == pytest.approx(usd)
    assert cost["usd_per_pair"] == pytest.approx(usd / n) and f" tokens, ${usd / n:.4f}, " in render(counted)
    some = priced(tmp_path / "run", "UPDATE call SET cost_nanousd = NULL WHERE judge IS NULL")
    assert (some["cost"]["usd"], some["cost"]["usd_per_pair"], some["cost"]["n_unpriced"]) == (None, None, 40)
    assert "tokens, at least $0.2400 (40 replies without a price), " in render(some)
    none = priced(tmp_path / "run", "UPDATE call SET cost_nanousd = NULL")
    assert "price not known (160 replies without a price)" in render(none)


def test_what_is_held_as_maybe_billed_is_told(tmp_path: Path) -> None:
    run(recipe(tmp_path, rows(3)), tmp_path / "run")
    assert "maybe billed" not in render(summary_of(tmp_path / "run"))
    held = priced(tmp_path / "run", "INSERT INTO counter VALUES('held.nanousd', 1500000000), ('held.tokens', 4096)")
    assert (held["cost"]["held_usd"], held["cost"]["held_tokens"]) == (1.5, 4096)
    assert "held as maybe billed: $1.50, " in render(held) and "held as maybe billed: 4,096 tokens, " in render(held)


def test_a_killed_session_lasted_until_its_last_reply(tmp_path: Path) -> None:
    run(recipe(tmp_path, rows(3)), tmp_path / "run")
    with Ledger.create(tmp_path / "run") as ledger, ledger.transaction() as db:
        db.execute("UPDATE session SET t_start = t_start - 86400, t_end = NULL")
        db.execute("UPDATE call SET t_sent = t_sent - 86390")
    assert 5 < summary_of(tmp_path / "run")["cost"]["seconds"] < 15


def test_few_pairs_are_told_with_how_many_prompts_enough_would_take(tmp_path: Path) -> None:
    run(recipe(tmp_path, rows(20), judge=[RUBRIC]), tmp_path / "run")
    counted = summary_of(tmp_path / "run")
    need = -(-500 * 20 // counted["n_pairs"])
    assert f"that takes about {need:,} prompts" in render(counted)
    many = {**counted, "n_pairs": 500}
    assert "preference tuning" not in render(many) and "warning" not in render(many)


def test_a_run_without_a_pair_ends_with_a_warning_and_without_a_price_per_pair(tmp_path: Path) -> None:
    run(recipe(tmp_path, rows(5), judge=[{"use": "contains", "text": "quality="}]), tmp_path / "run")
    counted = summary_of(tmp_path / "run")
    assert counted["n_pairs"] == 0 and counted["cost"]["tokens_per_pair"] is None
    page = render(counted)
    assert "warning: no pair at all" in page and "5 tie" in page and "per accepted pair" not in page


def test_the_files_that_were_written_are_named(tmp_path: Path) -> None:
    run(recipe(tmp_path, rows(5), export=["trl", "parquet"]), tmp_path / "run")
    copytree(tmp_path / "run", tmp_path / "moved")
    files = summary_of(tmp_path / "moved")["files"]
    assert [f["format"] for f in files] == ["trl", "parquet"]
    assert all(Path(f["path"]).is_relative_to(tmp_path / "moved") and Path(f["path"]).is_file() for f in files)


def test_an_unfinished_run_says_so_far_and_how_to_go_on_and_leaves_no_file_without_a_row(tmp_path: Path) -> None:
    none = recipe(tmp_path, rows(20), judge=[RUBRIC], budget={"tokens": 1000})
    assert run_job(none, tmp_path / "run", say=lambda _: None) == 3
    page = render(summary_of(tmp_path / "run"))
    assert "(0 of 20 items so far: " in page and "not finished: 20 items of 20 to go" in page
    assert "next: the run's own command goes on where it stopped with a larger budget" in page
    assert not (tmp_path / "run" / "export").exists() and "verify" not in page and "warning" not in page
    some = recipe(tmp_path, rows(20), judge=[RUBRIC], budget={"tokens": 40_000}, window=4)
    assert run_job(some, tmp_path / "run", say=lambda _: None) == 3
    counted = summary_of(tmp_path / "run")
    assert 0 < (n := counted["n_pairs"]) == counted["files"][0]["n_rows"] and counted["exit"] == 3
    n_open = counted["items"]["without"]["incomplete"]
    assert f"({20 - n_open} of 20 items so far: " in render(counted) and f"trl, {n} row" in render(counted)
    run(recipe(tmp_path, rows(20), judge=[RUBRIC]), tmp_path / "run")
    page = render(summary_of(tmp_path / "run"))
    assert "so far" not in page and page.endswith(f"next: prefsmith verify {tmp_path / 'run'}")


def test_a_file_of_no_row_is_not_advised_for_training(tmp_path: Path) -> None:
    run(recipe(tmp_path, rows(5), judge=[{"use": "contains", "text": "quality="}]), tmp_path / "run")
    page = render(summary_of(tmp_path / "run"))
    assert "0 rows: nothing to train on" in page and page.endswith("line:1 shows what came of a prompt")


def test_runs_that_asked_nothing_are_told_and_cost_no_time(tmp_path: Path) -> None:
    given, said = recipe(tmp_path, rows(3)), list[str]()
    run(given, tmp_path / "run")
    before = summary_of(tmp_path / "run")["cost"]["seconds"]
    assert run_job(given, tmp_path / "run", say=said.append) == 0
    assert said[-1] == "nothing was asked: everything was here"
    assert summary_of(tmp_path / "run")["cost"]["seconds"] == before
    other = recipe(tmp_path, rows(3), judge=[{"use": "contains", "text": "quality=1"}])
    assert run_job(other, tmp_path / "run", say=said.append) == 0
    assert said[-1] == "nothing was asked: everything was here; 18 graded anew"


def test_servers_are_named_by_their_address_with_what_each_did(tmp_path: Path) -> None:
    with serving(statuses=[429, 500, 500]) as one, serving() as other:
        farm = {"urls": [one.url, other.url], "limits": {"concurrency": 2}}
        given = recipe(tmp_path, rows(12), endpoints={"fake": farm}, probe=False)
        run(given, tmp_path / "run")
        n_one, n_other = len(one.bodies), len(other.bodies)
    told = {e["url"]: e for e in summary_of(tmp_path / "run")["endpoints"]}
    first, second = told[one.url], told[other.url]
    assert (first["n_calls"], first["n_429"], first["failed"]) == (n_one - 1, 1, {"server_error": 2})
    assert (second["n_calls"], second["n_429"], second["failed"]) == (n_other, 0, {})
    sql = "SELECT sum(n_prompt_tokens) FROM call WHERE endpoint = 'fake/1'"
    assert asked(tmp_path / "run", sql) == [(second["n_prompt_tokens"],)]
    page = render(summary_of(tmp_path / "run"))
    assert f"{one.url}: {n_one - 1} calls, " in page and "2 failed (2 server_error), 1 × 429 (told to wait)" in page
    assert "fake/0" not in page


def test_members_that_share_an_address_are_told_apart_by_the_names_of_their_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_KEY", "sk-aaaa")
    monkeypatch.setenv("B_KEY", "sk-bbbb")
    with serving() as server:
        farm = {"urls": server.url, "key_env": ["A_KEY", "B_KEY"], "limits": {"concurrency": 2}}
        run(recipe(tmp_path, rows(12), endpoints={"fake": farm}, probe=False), tmp_path / "run")
        page = render(summary_of(tmp_path / "run"))
        assert f"{server.url} (A_KEY): " in page and f"{server.url} (B_KEY): " in page and "sk-" not in page
