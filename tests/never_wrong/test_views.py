"""Rows of the gallery about folders with a history: a view selects, asks only what it lacks, and hides no work."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from prefsmith.errors import UsageError
from prefsmith.folder import Folder
from prefsmith.job import judge_job, plan_job, run_job
from prefsmith.outcomes import Key, Record
from prefsmith.reasons import Reason
from prefsmith.recipe import Recipe

Change = dict[str, Any]
RUBRIC = {"use": "rubric-help", "model": "jury:fake"}
CONFIRM = {"confirm": "pairwise-help", "model": "jury:fake"}
TWO = {"model": "farm:fake", "temperature": [0.4, 1.0], "n": 2}


def items(n: int, answer: int = 7) -> list[Change]:
    return [{"question": f"Say {i}.", "answer": f"quality={answer}", "note": "a"} for i in range(n)]


def written(folder: Path, lines: list[Change]) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "prompts.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    return str(folder / "prompts.jsonl")


def recipe(folder: Path, **more: Any) -> Recipe:
    """One completion a request, so that each line of the log is one unit; words replace the recipe's own."""
    if not (folder / "prompts.jsonl").exists():
        written(folder, items(12))
    script = {"log": str(folder / "log"), "duplicates": 0.2, "truncated": 0.1, "chars": 60}
    farms = {name: {"script": script, "n_per_request": 1, "limits": {"concurrency": 8}} for name in ("farm", "jury")}
    prompts = {"path": str(folder / "prompts.jsonl"), **more.pop("prompts", {})}
    plain = {"endpoints": farms, "sample": TWO, "judge": [RUBRIC, CONFIRM], "export": ["trl", "openai", "parquet"]}
    return Recipe.model_validate({"prompts": prompts, **plain, **more})


def ran(folder: Path, what: Recipe) -> list[bytes]:
    """Carries the recipe out; returns the requests that it sent."""
    before = len(logged(folder))
    assert run_job(what, folder / "out", say=lambda _: None) == 0
    return logged(folder)[before:]


def logged(folder: Path) -> list[bytes]:
    log = folder / "log"
    return log.read_bytes().splitlines() if log.exists() else []


def files(folder: Path) -> dict[str, bytes]:
    top = folder / "out" / "export"
    return {p.relative_to(top).as_posix(): p.read_bytes() for p in sorted(top.rglob("*")) if p.is_file()}


def records(folder: Path) -> list[Record]:
    """What a reader gets, with the ledger's own integers replaced by places in the recipe."""
    with Folder(folder / "out") as f:
        plan = f.view.plan
        cells = {c.sampler: i for i, c in enumerate(plan.cells)}
        leaves = {x.judge: i for i, x in enumerate(plan.leaves)}

        def key(k: Key) -> Key:
            return (cells[k[0]], k[1])

        return [
            replace(
                r,
                samples=tuple(
                    s._replace(key=key(s.key), scores={leaves[j]: v for j, v in s.scores.items()}) for s in r.samples
                ),
                pairs=tuple(
                    p._replace(chosen=key(p.chosen), rejected=key(p.rejected), judge=leaves[p.judge]) for p in r.pairs
                ),
            )
            for r in f.records()
        ]


HISTORY: list[tuple[str, int, Change]] = [
    ("the first", 12, {}),
    ("n up", 12, {"sample": {**TWO, "n": 4}}),
    ("n down", 12, {"sample": {**TWO, "n": 1}}),
    ("a temperature dropped", 12, {"sample": {**TWO, "temperature": [1.0], "n": 3}}),
    ("another judge", 12, {"judge": [{**RUBRIC, "model": "jury:other"}, CONFIRM]}),
    ("a cascade", 12, {"judge": [{"use": "contains", "text": "quality=3"}, RUBRIC, CONFIRM]}),
    ("prompts removed", 7, {}),
    ("another gate", 12, {"gates": {"max_chars": 59}}),
    ("another margin", 12, {"pair": {"min_margin": "p50", "max_per_prompt": 2}}),
    ("back to the first", 12, {}),
]


def test_a_folder_with_a_history_holds_what_a_fresh_one_holds_and_asks_only_the_difference(tmp_path: Path) -> None:
    """19: the same recipe gives other pairs in a folder with history."""
    old, paid, seen = tmp_path / "old", set[bytes](), list[dict[str, bytes]]()
    for i, (name, n, change) in enumerate(HISTORY):
        fresh = tmp_path / f"fresh{i}"
        for folder in (old, fresh):
            written(folder, items(n))
        asked, wanted = ran(old, recipe(old, **change)), ran(fresh, recipe(fresh, **change))
        assert len(asked) == len(set(asked)), name
        assert set(asked) == set(wanted) - paid, name
        assert files(old) == files(fresh), name
        assert records(old) == records(fresh), name
        paid |= set(asked)
        seen.append(files(old))
    assert seen[-1] == seen[0] and asked == []
    # The other judge gives the same scores; each other change shows in the files.
    assert len({repr(one) for one in seen}) == len(HISTORY) - 2


REASKED: list[Change] = [
    {"seed": 1},
    {"sample": {**TWO, "temperature": [0.5]}},
    {"sample": {**TWO, "max_tokens": 99}},
    {"sample": {**TWO, "top_p": 0.9}},
    {"sample": {**TWO, "top_k": 40}},
    {"sample": {**TWO, "min_p": 0.05}},
    {"sample": {**TWO, "presence_penalty": 0.5}},
    {"sample": {**TWO, "frequency_penalty": 0.5}},
    {"sample": {**TWO, "repetition_penalty": 1.1}},
    {"sample": {**TWO, "stop": "END"}},
    {"sample": {**TWO, "system": "Be brief."}},
    {"sample": {**TWO, "model": "farm:other"}},
    {"sample": {**TWO, "model": "jury:fake"}},
]
KEPT: list[Change] = [
    {"sample": {**TWO, "n": 1}},
    {"sample": {**TWO, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1}},
    {"window": 1},
    {"attempts": 1},
    {"grace_s": 9},
    {"max_no_verdict": 0.5},
    {"export": ["trl"]},
    {"pair": {"seed": 5}},
    {
        "endpoints": {
            n: {"script": {}, "n_per_request": 7, "limits": {"concurrency": 3}, "timeout_s": 1}
            for n in ("farm", "jury")
        }
    },
    {"endpoints": {"farm": {"urls": "http://127.0.0.1:9/v1"}, "jury": {"script": {}}}},
]


def test_what_can_change_an_answer_is_asked_again_and_nothing_else_is(tmp_path: Path) -> None:
    """7: the key held no system prompt and no parameters, so changed runs returned old answers."""
    ran(tmp_path, recipe(tmp_path))
    for changes, asks in ((REASKED, True), (KEPT, False)):
        for change in changes:
            planned = plan_job(recipe(tmp_path, **change), tmp_path / "out")
            assert (planned["completions_to_sample"] > 0) is asks, change


def test_a_judge_that_asks_otherwise_is_asked_again_and_one_that_reads_otherwise_is_not(tmp_path: Path) -> None:
    """7: of judges."""
    judge, text = tmp_path / "mine.toml", tmp_path / "mine.txt"
    text.write_text("Rate it.\n{criteria}\n{prompt}\n{candidate}\nEnd with VERDICT: N.")
    judge.write_text('kind = "rubric"\nprompt = "mine.txt"\n[criteria]\na = "Is it so?"\n')
    what = recipe(tmp_path, judge={"use": str(judge), "model": "jury:fake"})
    n_first = sum(b'"labels":["' in line for line in ran(tmp_path, what))
    judge.write_text('# said otherwise\nkind = "rubric"\nprompt = "mine.txt"\n[criteria]\na = "Is it so?"\n')
    assert ran(tmp_path, what) == []
    judge.write_text('kind = "rubric"\nprompt = "mine.txt"\n[criteria]\na = "Is it not?"\n')
    assert len(ran(tmp_path, what)) == n_first
    text.write_text(text.read_text() + " Please.")
    assert len(ran(tmp_path, what)) == n_first


def test_corrected_references_ask_exactly_their_verdicts_again(tmp_path: Path) -> None:
    """18: corrected references kept their old verdicts."""
    reads = {"judge": {"use": "rubric-reference", "model": "jury:fake"}}
    old, fresh, lines = tmp_path / "old", tmp_path / "fresh", items(12)
    written(old, lines)
    before = ran(old, recipe(old, **reads))
    for i in (2, 5, 11):
        lines[i] = {**lines[i], "answer": "quality=8"}
    for i in (3, 4):
        lines[i] = {**lines[i], "note": "nobody reads this"}
    for folder in (old, fresh):
        written(folder, lines)
    asked, wanted = ran(old, recipe(old, **reads)), ran(fresh, recipe(fresh, **reads))
    assert set(asked) == set(wanted) - set(before)
    with Folder(old / "out") as folder:
        texts = [len({s.text for s in r.samples if s.gate is None}) for r in folder.records()]
    assert len(asked) == sum(texts[i] for i in (2, 5, 11) if texts[i] > 1) > 0
    assert all(orjson.loads(line)["labels"] for line in asked)
    assert files(old) == files(fresh)


def test_two_items_with_one_prompt_buy_its_completions_once_and_write_a_pair_once(tmp_path: Path) -> None:
    """30: they bought every completion twice and wrote the same pair twice."""
    lines = [{"question": f"Say {i // 2}.", "answer": f"quality={i % 2}"} for i in range(24)]
    written(tmp_path, lines)
    asked = ran(tmp_path, recipe(tmp_path))
    assert len(asked) == len(set(asked))
    assert sum(not orjson.loads(line)["labels"] for line in asked) == 12 * 4
    found = records(tmp_path)
    reasons = Counter(r.reason for r in found)
    assert reasons[Reason.SAME_PAIR] > 0 and all(bool(r.pairs) != (r.reason is not None) for r in found)
    # The first of the two keeps the pair; where ties were drawn otherwise for the second, it has another one.
    assert Reason.SAME_PAIR not in [r.reason for r in found[::2]]
    named = [(r.prompt_id, r.sample(p.chosen).text, r.sample(p.rejected).text) for r in found for p in r.pairs]
    assert len(named) == len(set(named)) == reasons[None]
    trl = next(body for name, body in files(tmp_path).items() if name.endswith(".jsonl"))
    assert len(trl.splitlines()) == len(named)


def test_a_raised_limit_pays_for_the_new_prompts_only_and_a_lowered_one_for_nothing(tmp_path: Path) -> None:
    first = ran(tmp_path, recipe(tmp_path, prompts={"limit": 5}))
    assert len(records(tmp_path)) == 5
    more = ran(tmp_path, recipe(tmp_path))
    assert len(records(tmp_path)) == 12 and not set(first) & set(more)
    whole = tmp_path / "whole"
    whole.mkdir()
    assert set(ran(whole, recipe(whole))) == set(first) | set(more)
    assert files(whole) == files(tmp_path)
    assert ran(tmp_path, recipe(tmp_path, prompts={"limit": 9})) == []
    assert len(records(tmp_path)) == 9


def test_whatever_selects_or_decides_makes_another_view_and_nothing_else_does(tmp_path: Path) -> None:
    """Finished lines are kept by view: were two different ones alike, the second would find its work done."""

    def view_of(change: Change, n: int = 12) -> bytes:
        written(tmp_path, items(n))
        assert run_job(recipe(tmp_path, **change), tmp_path / "out", say=lambda _: None, change=True) == 0
        with Folder(tmp_path / "out") as folder:
            return folder.view.hash

    first = view_of({})
    kept = [{"window": 3}, {"attempts": 2}, {"export": []}, {"prompts": {"limit": 3}}, {"max_no_verdict": 1}]
    assert {view_of(change) for change in kept} == {first}
    other: list[Change] = [
        {"seed": 3},
        {"sample": {**TWO, "n": 1}},
        {"sample": {**TWO, "temperature": [0.4]}},
        {"sample": {**TWO, "system": "Be brief."}},
        {"judge": [RUBRIC]},
        {"judge": [{"use": "contains", "text": "q"}]},
        {"gates": {"min_tokens": 2}},
        {"gates": {"max_chars": 500}},
        {"pair": {"strategy": "correct_incorrect"}},
        {"pair": {"min_margin": 0.1}},
        {"pair": {"min_margin": "p50"}},
        {"pair": {"min_chosen": 0.1}},
        {"pair": {"correct": 0.5}},
        {"pair": {"max_per_prompt": 2}},
        {"pair": {"seed": 9}},
        {"prompts": {"reference": "note"}},
    ]
    views = [first, *(view_of(change) for change in other), view_of({}, n=11)]
    assert len(set(views)) == len(views)


def test_judging_again_samples_nothing_and_needs_no_generators_key(tmp_path: Path) -> None:
    mine, whole = tmp_path / "mine", tmp_path / "whole"
    mine.mkdir()
    whole.mkdir()
    ran(mine, recipe(mine))
    script = {"script": {"log": str(mine / "log")}, "n_per_request": 1}
    keyless = {"farm": {"urls": "http://127.0.0.1:9/v1", "key_env": "PREFSMITH_NO_SUCH_KEY"}, "jury": script}
    other = {"judge": [{**RUBRIC, "model": "jury:other"}]}
    what = recipe(mine, **other, endpoints=keyless)
    with pytest.raises(UsageError, match="PREFSMITH_NO_SUCH_KEY"):
        run_job(what, mine / "out", say=lambda _: None)
    before = len(logged(mine))
    assert judge_job(what, mine / "out", say=lambda _: None) == 0
    asked = logged(mine)[before:]
    ran(whole, recipe(whole, **other))
    assert set(asked) == {line for line in logged(whole) if orjson.loads(line)["labels"]}
    assert files(mine) == files(whole) and records(mine) == records(whole)


def test_judging_again_what_is_not_sampled_whole_hides_nothing_from_the_run_that_goes_on(tmp_path: Path) -> None:
    plain = recipe(tmp_path).endpoints["farm"].model_dump(mode="json")
    faulty = {"farm": {**plain, "script": {**plain["script"], "faults": 0.4}}, "jury": plain}
    assert run_job(recipe(tmp_path, endpoints=faulty, attempts=1), tmp_path / "out", say=lambda _: None) == 5
    again = {"judge": [{"use": "contains", "text": "quality=3"}]}
    assert judge_job(recipe(tmp_path, **again), tmp_path / "out", say=lambda _: None) == 0
    assert Reason.INCOMPLETE in {r.reason for r in records(tmp_path)}
    ran(tmp_path, recipe(tmp_path, **again))
    whole = tmp_path / "whole"
    whole.mkdir()
    ran(whole, recipe(whole, **again))
    assert records(tmp_path) == records(whole)
