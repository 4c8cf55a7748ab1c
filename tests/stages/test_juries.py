"""Every form of an entry of `judge:` on the real engine: what it asks, what a resume and another rule ask, who wins."""

from __future__ import annotations

from math import ceil
from pathlib import Path
from typing import Any

import orjson
import pytest
from runs import count, logged, recipe, rows

from prefsmith.errors import UsageError
from prefsmith.explain import explain
from prefsmith.job import judge_job, plan_job, run_job
from prefsmith.recheck import verify_folder
from prefsmith.stages.tournament import n_minmax
from prefsmith.summary import summary_of

N, K = 12, 4
QUIET = {"farm": {"duplicates": 0, "chars": 80}}


def use(name: str, model: str = "a", **more: Any) -> dict[str, Any]:
    return {"use": name, "model": f"jury:{model}", **more}


def pairs(*models: str) -> list[dict[str, Any]]:
    return [use("pairwise-help", model) for model in models]


UF = ["uf-instruction", "uf-truthfulness", "uf-honesty", "uf-helpfulness"]
FORMS: dict[str, tuple[Any, int]] = {
    "pointwise": (use("rubric-help"), K),
    "confirmed": ([use("rubric-help"), {"confirm": "pairwise-help", "model": "jury:a"}], K + 2),
    "probabilities": (use("quick-help"), K),
    "reward": (use("reward"), K),
    "minmax": (use("pairwise-help", tournament="minmax"), 2 * (3 * ceil(K / 2) - 2)),
    "roundrobin": (use("pairwise-help", tournament="roundrobin"), K * (K - 1)),
    "listwise": (use("listwise-help"), 2),
    "checklist": (use("checklist-help", list_model="jury:strong"), 1 + 3 * K),
    "panel": ({"panel": [use("rubric-help", "a"), use("rubric-help", "b")], "rule": "mean"}, 2 * K),
    "aspects": ({"panel": UF, "model": "jury:a"}, 4 * K),
    "voted": ({"panel": pairs("a", "b", "c"), "tournament": "minmax"}, 3 * 2 * n_minmax(K)),
    "cascade": ({"cascade": [use("quick-help"), use("rubric-help", "b")], "below": 0.7}, K),
    "unsure": ({"cascade": [use("quick-help"), use("rubric-help", "b")], "below": 0.9}, 2 * K),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_asks_what_is_documented_and_pairs_by_the_marks(form: str, tmp_path: Path) -> None:
    judge, n_each = FORMS[form]
    what = recipe(tmp_path, N, judge, **QUIET)
    assert run_job(what, tmp_path / "out", say=lambda _: None) == 0
    n_asked = len(judged(tmp_path))
    assert n_asked == N * n_each
    # The marks are the truth: the better one is chosen, whoever judged.
    for chosen, rejected in exported(tmp_path):
        assert chosen > rejected
    assert len(exported(tmp_path)) >= N - 2
    assert verify_folder(tmp_path / "out", 100).damages == ()
    told = summary_of(tmp_path / "out")
    n_lists = N if form == "checklist" else 0
    assert sum(n for tally in told["verdicts"].values() for n in tally.values()) == N * n_each - n_lists
    scored = [one["verdicts"] for one in explain(tmp_path / "out", "line:1")["completions"]]
    assert sum(bool(verdicts) for verdicts in scored) >= 2
    # A second run finds everything.
    assert run_job(what, tmp_path / "out", say=lambda _: None) == 0
    assert len(judged(tmp_path)) == n_asked


def judged(folder: Path) -> list[dict[str, Any]]:
    return [line for line in logged(folder) if line["model"] != "fake"]


def exported(folder: Path) -> list[tuple[int, int]]:
    """The marks of each pair's sides."""
    lines = (folder / "out" / "export" / "trl" / "train.jsonl").read_bytes().splitlines()
    return [(mark(row["chosen"]), mark(row["rejected"])) for row in map(orjson.loads, lines)]


def mark(side: list[dict[str, str]]) -> int:
    return int(side[-1]["content"][-1])


@pytest.mark.parametrize("form", FORMS)
def test_plan_counts_at_most_what_is_asked(form: str, tmp_path: Path) -> None:
    judge, n_each = FORMS[form]
    what = recipe(tmp_path, N, judge, **QUIET)
    told = plan_job(what, tmp_path / "out", say=lambda _: None)
    most = sum(stage["requests_at_most"] for stage in told["stages"] if stage["stage"] != "sample")
    assert most >= N * n_each
    if form not in ("checklist", "cascade"):  # how many questions there are, and who is unsure, is seen later
        assert most == N * n_each
    found = plan_job(what, tmp_path / "out", n_tried=4, say=lambda _: None)
    more = sum(stage["requests"] for stage in found["stages"] if stage["stage"] != "sample")
    assert more == (N - found["prompts_sampled"]) * n_each


def test_another_rule_over_the_same_judges_asks_nothing(tmp_path: Path) -> None:
    members = [use("rubric-help", "a"), use("rubric-help", "b"), use("rubric-reference", "c")]
    path = tmp_path / "prompts.jsonl"
    first = recipe(tmp_path, N, {"panel": members, "rule": "mean"}, **QUIET)
    path.write_bytes(b"".join(orjson.dumps({"question": f"Say {i}.", "answer": "x"}) + b"\n" for i in range(N)))
    assert run_job(first, tmp_path / "out", say=lambda _: None) == 0
    n = len(logged(tmp_path))
    for judge in (
        {"panel": members, "rule": "majority"},
        {"panel": members[:2]},
        {"cascade": members},
        [members[1], members[0]],
    ):
        changed = first.model_copy(update={"judge": recipe(tmp_path, N, judge, **QUIET).judge})
        path.write_bytes(b"".join(orjson.dumps({"question": f"Say {i}.", "answer": "x"}) + b"\n" for i in range(N)))
        assert judge_job(changed, tmp_path / "out", say=lambda _: None) == 0
    assert len(logged(tmp_path)) == n
    duel = {"panel": pairs("a", "b", "c"), "rule": "majority", "tournament": "roundrobin"}
    assert judge_job(first.model_copy(update={"judge": recipe(tmp_path, N, duel).judge}), tmp_path / "out") == 0
    n = len(logged(tmp_path))
    for judge in ({**duel, "tournament": "minmax"}, {"cascade": duel["panel"], "tournament": "minmax"}):
        assert judge_job(first.model_copy(update={"judge": recipe(tmp_path, N, judge).judge}), tmp_path / "out") == 0
    assert len(logged(tmp_path)) == n


def test_the_list_is_written_once_for_an_item_and_kept_as_an_artifact(tmp_path: Path) -> None:
    run_job(recipe(tmp_path, N, use("checklist-help", list_model="jury:strong"), **QUIET), tmp_path / "out")
    lists = [line for line in logged(tmp_path) if line["labels"] == ["-"]]
    assert len(lists) == count(tmp_path, "artifact") == N and {line["model"] for line in lists} == {"strong"}
    (body,) = {body for (body,) in rows(tmp_path, "SELECT body FROM artifact")}
    assert len(orjson.loads(body)) == 3
    # Each question reads under a key of its own.
    assert rows(tmp_path, "SELECT count(DISTINCT hash) FROM reads") == [(1 + 3,)]
    # Another answering judge reads the same list.
    other = recipe(tmp_path, N, use("checklist-help", "b", list_model="jury:strong"), **QUIET)
    assert judge_job(other, tmp_path / "out", say=lambda _: None) == 0
    assert len([line for line in logged(tmp_path) if line["labels"] == ["-"]]) == N


def test_a_list_that_cannot_be_read_leaves_no_verdict_and_asks_no_question(tmp_path: Path) -> None:
    what = recipe(tmp_path, 4, use("checklist-help"), jury={"unparseable": 1.0}, max_no_verdict=1, **QUIET)
    assert run_job(what, tmp_path / "out", say=lambda _: None) == 0
    assert [line["labels"] for line in logged(tmp_path) if line["labels"]] == [["-"]] * 12
    assert rows(tmp_path, "SELECT DISTINCT kind, shown, reason FROM verdict") == [("list", "", "unparseable")]
    assert verify_folder(tmp_path / "out", 10).damages == ()
    assert summary_of(tmp_path / "out")["items"]["without"] == {"no_verdict": 4}


def test_a_tournament_that_takes_turns_with_its_models_is_played_to_the_end(tmp_path: Path) -> None:
    judge = {"panel": pairs("a", "b"), "tournament": "minmax"}
    said: list[str] = []
    assert run_job(recipe(tmp_path, N, judge, staged=True, **QUIET), tmp_path / "out", say=said.append) == 0
    assert len([line for line in said if line.startswith("phase")]) == 1 + 2 * 2
    assert len([line for line in logged(tmp_path) if line["labels"]]) == N * 2 * 2 * n_minmax(K)
    assert summary_of(tmp_path / "out")["items"]["without"].get("incomplete") is None


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        (use("pairwise-help"), "tournament: minmax"),
        (use("rubric-help", tournament="minmax"), "needs pairwise judges"),
        ({"panel": pairs("a", "b"), "rule": "mean", "tournament": "minmax"}, "they vote"),
        ({"cascade": [use("rubric-help"), use("rubric-help", "b")], "below": 0.5}, "logprobs = true"),
        ({"cascade": ["contains", use("rubric-help")], "below": 0.5}, "logprobs = true"),
        ({"panel": ["contains", use("pairwise-help")]}, "pairwise judge 'pairwise-help' confirms"),
        (use("rubric-help", list_model="jury:b"), "writes no list"),
        ({"panel": [use("reward"), use("rubric-help")]}, "unbounded rewards"),
        ({"panel": [use("reward"), use("reward", "b")]}, "have each a scale of their own"),
        ({"cascade": [use("reward"), use("rubric-help")]}, "unbounded rewards"),
        ([use("rubric-help"), {"confirm": "listwise-help", "model": "jury:a"}], "needs a pairwise judge"),
    ],
)
def test_what_does_not_fit_together_is_told_before_anything_is_asked(judge: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        run_job(recipe(tmp_path, 4, judge), tmp_path / "out", say=lambda _: None)
    assert not (tmp_path / "out").exists() and logged(tmp_path) == []


def test_a_round_robin_of_many_is_refused(tmp_path: Path) -> None:
    what = recipe(tmp_path, 4, use("pairwise-help", tournament="roundrobin"), sample={"model": "farm:fake", "n": 5})
    with pytest.raises(UsageError, match=r"10 duels.*minmax"):
        run_job(what, tmp_path / "out", say=lambda _: None)
