"""What a session does about what its models can do: asked once, told, kept and heeded. Whole runs, real servers."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import orjson
import pytest
from runs import count, described_run, rows
from served import Model, serving

from prefsmith.errors import ProviderError, UsageError
from prefsmith.folder import Folder
from prefsmith.job import judge_job, plan_job, run_job
from prefsmith.ledger.ledger import Ledger
from prefsmith.ledger.verify import verify
from prefsmith.recipe import Recipe


def recipe(folder: Path, *urls: str, n: int = 12, sample: Any = None, can: Any = None, **more: Any) -> Recipe:
    """`n` prompts, two temperatures, n = 2, two a request: 2 requests a prompt."""
    whole = described_run(folder, n, **more)
    endpoint = {"urls": list(urls), "n_per_request": 2, "limits": {"concurrency": 4}, "can": can or {}}
    whole["endpoints"]["farm"] = endpoint
    whole["sample"] = {"model": "farm:fake", "temperature": [0.4, 1.0], "n": 2, **(sample or {})}
    return Recipe.model_validate(whole)


def ran(folder: Path, what: Recipe, code: int = 0) -> list[str]:
    said: list[str] = []
    assert run_job(what, folder / "out", say=said.append) == code
    return [line for line in said if "farm" in line or "jury" in line]


def known(folder: Path) -> dict[str, Any]:
    facts = rows(folder, "SELECT name, json FROM fact WHERE name LIKE 'can.%' ORDER BY t")
    return {name: orjson.loads(text) for name, text in facts}


def counters(folder: Path) -> dict[str, int]:
    return dict(rows(folder, "SELECT name, value FROM counter"))


def closed_port() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


def test_a_model_that_can_do_everything_is_asked_once_for_a_folder_and_nothing_is_told(tmp_path: Path) -> None:
    with serving() as server:
        assert ran(tmp_path, recipe(tmp_path, server.url)) == []
        assert (len(server.probes), len(server.bodies)) == (2, 24)
        assert known(tmp_path)["can.farm.fake"]["n"] is True
        ran(tmp_path, recipe(tmp_path, server.url, sample={"n": 4}))
        assert (len(server.probes), len(server.bodies)) == (2, 48)
    assert counters(tmp_path)["probes"] == 1
    with Ledger.read(tmp_path / "out") as ledger:
        assert list(verify(ledger)) == []


@pytest.mark.parametrize("how", ["refuses", "ignores"])
def test_where_n_is_not_taken_one_choice_is_asked_for_and_view_and_files_stay_the_same(
    how: str, tmp_path: Path
) -> None:
    with serving() as able, serving(**{how: ["n"]}) as single:
        for name, server in (("able", able), ("single", single)):
            (tmp_path / name).mkdir()
            what = recipe(tmp_path / name, server.url, judge=[{"use": "contains", "text": "quality=7"}])
            said = ran(tmp_path / name, what)
        assert {body.get("n") for body in able.bodies} == {2}
        assert {body.get("n", 1) for body in single.bodies} == {1}
        assert (len(able.bodies), len(single.bodies)) == (24, 48), "nothing was asked twice"
    assert "one choice a request" in said[0]
    folders = [tmp_path / name / "out" for name in ("able", "single")]
    files = [(folder / "export/trl/train.jsonl").read_bytes() for folder in folders]
    assert files[0] == files[1] and files[0]
    hashes = []
    for folder in folders:
        with Folder(folder) as run:
            hashes.append(run.view.hash)
    assert hashes[0] == hashes[1]


def test_a_temperature_that_the_model_refuses_is_an_error_of_the_recipe_and_nothing_is_spent(tmp_path: Path) -> None:
    with serving(only=["temperature"]) as server:
        with pytest.raises(UsageError, match=r"farm:fake cannot be asked so: .* temperature; leave it at 1\.0"):
            run_job(recipe(tmp_path, server.url), tmp_path / "out")
        assert server.bodies == [] and count(tmp_path, "call") == 0
        assert ran(tmp_path, recipe(tmp_path, server.url, sample={"temperature": 1.0, "n": 4})) == []
        n_probes = len(server.probes)
        assert server.bodies and all("temperature" not in body for body in server.bodies)
        server.only = ()
        ran(tmp_path, recipe(tmp_path, server.url))
        assert len(server.probes) > n_probes, "a finding that would end the run is never the last word"
    assert count(tmp_path, "completion") == 12 * 6


def test_with_probing_off_a_known_refusal_says_how_to_ask_again(tmp_path: Path) -> None:
    with serving(only=["temperature"]) as server:
        ran(tmp_path, recipe(tmp_path, server.url, sample={"temperature": 1.0, "n": 4}))
        n = len(server.probes)
        with pytest.raises(UsageError, match="without --no-probe it is asked again"):
            run_job(recipe(tmp_path, server.url, probe=False), tmp_path / "out")
        assert len(server.probes) == n


def test_what_is_declared_is_refused_before_a_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="sample: farm:fake cannot be asked so"):
        run_job(recipe(tmp_path, closed_port(), can={"temperature": False}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_judge_at_a_temperature_that_its_model_refuses_is_named(tmp_path: Path) -> None:
    with serving() as farm, serving(only=["temperature"]) as jury:
        whole = recipe(tmp_path, farm.url).model_dump()
        whole["endpoints"]["jury"] = {"urls": [jury.url]}
        whole["judge"] = [{"use": "rubric-help", "model": "jury:fake"}]
        with pytest.raises(UsageError, match=r"judge 'rubric-help': jury:fake cannot be asked so.*in the judge's file"):
            run_job(Recipe.model_validate(whole), tmp_path / "out")
        assert farm.bodies == jury.bodies == []


def test_only_what_is_asked_is_found_out_by_a_second_judging(tmp_path: Path) -> None:
    with serving() as farm, serving() as jury:
        ran(tmp_path, recipe(tmp_path, farm.url))
        whole = recipe(tmp_path, farm.url).model_dump()
        whole["endpoints"]["jury"] = {"urls": [jury.url]}
        whole["judge"] = [{"use": "rubric-help", "model": "jury:fake"}]
        assert judge_job(Recipe.model_validate(whole), tmp_path / "out", say=lambda _: None) == 0
        assert (len(farm.probes), len(jury.probes)) == (2, 2)
        assert len(jury.bodies) == 48


def test_seeds_that_are_ignored_are_told_once_and_refused_ones_are_not_sent(tmp_path: Path) -> None:
    with serving(ignores=["seed"]) as server:
        (told,) = ran(tmp_path, recipe(tmp_path, server.url))
        assert "seeds are ignored" in told and "gets other answers" in told
        assert ran(tmp_path, recipe(tmp_path, server.url, sample={"n": 3})) == []
        assert all("seed" in body for body in server.bodies)
    (tmp_path / "other").mkdir()
    with serving(refuses=["seed"]) as server:
        (told,) = ran(tmp_path / "other", recipe(tmp_path / "other", server.url))
        assert "seeds are refused" in told
        assert server.bodies and all("seed" not in body for body in server.bodies)


def test_the_name_of_the_cap_is_the_servers(tmp_path: Path) -> None:
    with serving(refuses=["max_tokens"]) as server:
        ran(tmp_path, recipe(tmp_path, server.url))
        assert all(body["max_completion_tokens"] == 1024 and "max_tokens" not in body for body in server.bodies)


def test_another_address_or_declaration_is_asked_anew(tmp_path: Path) -> None:
    with serving(ignores=["n"]) as old, serving() as new:
        ran(tmp_path, recipe(tmp_path, old.url))
        ran(tmp_path, recipe(tmp_path, new.url, sample={"n": 4}))
        assert len(new.probes) == 2 and {body["n"] for body in new.bodies} == {2}
        ran(tmp_path, recipe(tmp_path, new.url, sample={"n": 6}, can={"n": False}))
        assert len(new.probes) == 4 and new.bodies[-1]["n"] == 1, "what is declared wins"


def test_a_model_that_gets_but_a_few_requests_is_not_asked(tmp_path: Path) -> None:
    with serving() as server:
        ran(tmp_path, recipe(tmp_path, server.url, n=4))
        assert (len(server.probes), len(server.bodies)) == (0, 8)
    assert known(tmp_path) == {} and "probes" not in counters(tmp_path)


def test_a_resume_with_but_a_few_requests_left_is_not_asked_either(tmp_path: Path) -> None:
    with serving() as server:
        ran(tmp_path, recipe(tmp_path, server.url, probe=False))
        ran(tmp_path, recipe(tmp_path, server.url))
        ran(tmp_path, recipe(tmp_path, server.url, n=15))
        assert (len(server.probes), len(server.bodies)) == (0, 24 + 6)


def test_whoever_declares_everything_or_says_no_is_not_asked(tmp_path: Path) -> None:
    everything = {"n": True, "temperature": True, "logprobs": True, "seed": True, "reasoning": "none"}
    with serving() as server:
        whole = recipe(tmp_path, server.url, can=everything).model_dump()
        whole["endpoints"]["farm"]["max_tokens_field"] = "max_tokens"
        ran(tmp_path, Recipe.model_validate(whole))
        assert (len(server.probes), len(server.bodies)) == (0, 24)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_cannot_be_asked_just_now_is_told_and_taken_at_what_is_declared(
    status: int, tmp_path: Path
) -> None:
    with serving(statuses=[status]) as server:
        (told,) = ran(tmp_path, recipe(tmp_path, server.url))
        assert told.startswith("farm:fake could not be asked what it can do") and f"HTTP {status}" in told
        assert known(tmp_path) == {} and count(tmp_path, "completion") == 48
        ran(tmp_path, recipe(tmp_path, server.url, sample={"n": 4}))
        assert known(tmp_path).keys() == {"can.farm.fake"}, "the next session asks again"


@pytest.mark.parametrize(("status", "words"), [(401, "HTTP 401, the key"), (404, "HTTP 404 for model")])
def test_a_model_that_cannot_be_used_is_told_before_anything_is_asked_and_all_is_owed(
    status: int, words: str, tmp_path: Path
) -> None:
    with serving(statuses=[status] * 3) as server:
        with pytest.raises(ProviderError, match=words):
            run_job(recipe(tmp_path, server.url), tmp_path / "out")
        assert (len(server.probes), server.bodies) == (1, [])
        assert rows(tmp_path, "SELECT exit FROM session") == [(5,)]
        server.statuses.clear()
        ran(tmp_path, recipe(tmp_path, server.url))
    assert count(tmp_path, "completion") == 48


def test_of_a_pool_the_first_that_answers_speaks_for_all(tmp_path: Path) -> None:
    with serving(statuses=[401]) as first, serving(ignores=["n"]) as second:
        ran(tmp_path, recipe(tmp_path, closed_port(), first.url, second.url))
        assert (len(first.probes), len(second.probes)) == (1, 2)
        assert first.bodies and second.bodies
        assert {body["n"] for server in (first, second) for body in server.bodies} == {1}
    assert counters(tmp_path)["probes"] == 3


def in_tokens(folder: Path) -> tuple[int, int]:
    """What the call rows took, and what is held besides."""
    ((spent,),) = rows(folder, "SELECT coalesce(sum(n_prompt_tokens + n_completion_tokens), 0) FROM call")
    return spent, counters(folder).get("held.tokens", 0)


def test_a_probe_is_in_the_budget_before_it_is_sent_and_costs_what_it_took(tmp_path: Path) -> None:
    seen = list[int]()
    with serving(on_probe=lambda: seen.append(in_tokens(tmp_path)[1])) as server:
        ran(tmp_path, recipe(tmp_path, server.url, budget={"tokens": 200_000}))
    assert min(seen) > 2 * 2 * 512, "both answers, as long as they may be"
    assert in_tokens(tmp_path) == (24 * 17, 2 * 17)


def test_a_probe_whose_tokens_are_not_told_counts_in_full(tmp_path: Path) -> None:
    with serving(usage=False) as server:
        ran(tmp_path, recipe(tmp_path, server.url, budget={"tokens": 200_000}))
    assert in_tokens(tmp_path)[1] > 2 * 2 * 512 + 24 * 1024, "nor are those of the work"


def test_a_refused_probe_gives_its_bound_back(tmp_path: Path) -> None:
    with serving(statuses=[500]) as server:
        ran(tmp_path, recipe(tmp_path, server.url, budget={"tokens": 200_000}))
    assert in_tokens(tmp_path) == (24 * 17, 0)


def test_a_budget_without_room_for_a_probe_is_left_to_the_work(tmp_path: Path) -> None:
    with serving() as server:
        (told,) = ran(tmp_path, recipe(tmp_path, server.url, budget={"tokens": 4000}, sample={"max_tokens": 8}))
        assert "the budget has no room for it" in told and server.probes == []
    assert count(tmp_path, "completion") == 48


def test_plan_tells_what_is_known_and_counts_requests_by_it(tmp_path: Path) -> None:
    with serving(ignores=["n", "seed"]) as server:
        assert "known_of_models" not in plan_job(recipe(tmp_path, server.url), tmp_path / "out")
        ran(tmp_path, recipe(tmp_path, server.url))
        n = len(server.probes)
        planned = plan_job(recipe(tmp_path, server.url, sample={"n": 4}), tmp_path / "out")
        assert len(server.probes) == n
    told = planned["known_of_models"]["farm:fake"]
    assert "n: one choice a request" in told and "seed: ignored" in told and "temperature: yes" in told
    assert planned["stages"][0]["requests"] == 48


def thinking(folder: Path, server: Model, **more: Any) -> list[Any]:
    """(idx, answer, reasoning) of every completion."""
    ran(folder, recipe(folder, server.url, **more))
    return rows(folder, "SELECT idx, body, reasoning FROM completion c JOIN text t ON t.id = c.text")


@pytest.mark.parametrize("where", ["reasoning_content", "reasoning", "think", "template"])
def test_thoughts_are_stored_beside_the_answer_or_dropped_as_the_recipe_says(where: str, tmp_path: Path) -> None:
    with serving(thinks=where) as server:
        kept = thinking(tmp_path, server, sample={"reasoning": "keep"})
        n = len(server.bodies)
        thinking(tmp_path, server, sample={"reasoning": "drop"})
        assert len(server.bodies) == n, "it is no part of a key"
        (tmp_path / "other").mkdir()
        dropped = thinking(tmp_path / "other", server, sample={"reasoning": "drop"})
    assert len(kept) == 48 and all("SECRET" in thought and "SECRET" not in body for _, body, thought in kept)
    assert [(i, body, None) for i, body, _ in kept] == dropped
