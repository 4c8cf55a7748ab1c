"""Judges of one's own: a file that names its model, one drawn order, and Python that a package brings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from runs import count, logged, recipe, rows

from prefsmith.errors import UsageError
from prefsmith.job import run_job
from prefsmith.judging import load
from prefsmith.judging.load import AskedModel, judge_names, load_judge
from prefsmith.judging.verdicts import Step
from prefsmith.outcomes import Judged, Score
from prefsmith.recheck import verify_folder
from prefsmith.records import Generated, Item, Request

BRIEF = load_judge("rubric-help", ("", ""), "", [])
PAIR = 'kind = "pairwise"\nprompt = "pairwise-help.txt"\norders = "seeded"\n[criteria]\na = "b"\n'


def brief(model: AskedModel) -> Any:
    """The rubric of the shelf, its scores turned round."""
    judge = replace(BRIEF, name="brief", target=model.target, model=model.model, wire_model=model.wire_model)
    return Upside(judge)


class Upside:
    def __init__(self, judge: Any) -> None:
        self._judge = judge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._judge, name)

    def described(self) -> Any:
        return self._judge.described() | {"kind": "upside"}

    def ask(
        self, item: Item, candidates: Sequence[str], seed: int, step: Step = Step.ASK, previous: Generated | None = None
    ) -> Request:
        request: Request = self._judge.ask(item, candidates, seed, step, previous)
        return request

    def read(self, reply: Generated, n_shown: int = 1) -> Judged:
        found: Score = self._judge.read(reply, n_shown)
        return found if found.value is None else Score(1 - found.value)


def broken(model: AskedModel) -> Any:
    raise RuntimeError("no such thing")


def unfit(model: AskedModel) -> Any:
    return model


@pytest.fixture
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """As two installed packages would declare themselves."""
    monkeypatch.setitem(sys.modules, "own_judges", sys.modules[__name__])
    found = [EntryPoint(name, f"own_judges:{of}", load.GROUP) for name, of in
             (("brief", "brief"), ("broken", "broken"), ("unfit", "unfit"))]  # fmt: skip
    monkeypatch.setattr(load, "_brought", lambda: found)


def test_a_judge_of_a_package_is_used_by_its_name_like_any_other(packages: None, tmp_path: Path) -> None:
    assert "brief" in judge_names()
    what = recipe(tmp_path, 6, {"use": "brief", "model": "jury:a"}, farm={"chars": 80})
    assert run_job(what, tmp_path / "out", say=lambda _: None) == 0
    judged = rows(tmp_path, "SELECT value FROM verdict WHERE reason IS NULL")
    assert len(judged) == 6 * 4 and len({value for (value,) in judged}) > 2
    asked = len(logged(tmp_path))
    assert run_job(what, tmp_path / "out", say=lambda _: None) == 0 and len(logged(tmp_path)) == asked
    assert verify_folder(tmp_path / "out", 10).damages == ()
    plain = recipe(tmp_path, 6, {"use": "rubric-help", "model": "jury:a"}, farm={"chars": 80})
    assert run_job(plain, tmp_path / "out", say=lambda _: None) == 0
    sums = rows(tmp_path, "SELECT sum(value) FROM verdict GROUP BY prompt, shown")
    assert {round(total, 9) for (total,) in sums} == {1.0}


@pytest.mark.parametrize(("name", "said"), [("broken", "RuntimeError: no such thing"), ("unfit", "it lacks")])
def test_what_a_package_brings_and_is_no_judge_is_told(packages: None, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        run_job(recipe(tmp_path, 2, {"use": name, "model": "jury:a"}), tmp_path / "out", say=lambda _: None)


def test_a_file_may_name_its_model_and_the_recipe_may_name_another(tmp_path: Path) -> None:
    text = 'kind = "rubric"\nprompt = "rubric-reference.txt"\n[model]\ntarget = "jury"\nname = "of-the-file"\n'
    (tmp_path / "own.toml").write_text(text)
    own = str(tmp_path / "own.toml")
    assert run_job(recipe(tmp_path, 2, {"use": own}), tmp_path / "out", say=lambda _: None) == 0
    assert {line["model"] for line in logged(tmp_path) if line["labels"]} == {"of-the-file"}
    other = recipe(tmp_path, 2, {"use": own, "model": "jury:of-the-recipe"})
    assert run_job(other, tmp_path / "out", say=lambda _: None) == 0
    assert {line["model"] for line in logged(tmp_path) if line["labels"]} == {"of-the-file", "of-the-recipe"}
    with pytest.raises(UsageError, match="name it with `model"):
        run_job(recipe(tmp_path, 2, {"use": "rubric-help"}), tmp_path / "new", say=lambda _: None)


def test_a_seeded_order_asks_once_and_as_often_one_way_as_the_other(tmp_path: Path) -> None:
    (tmp_path / "seeded.toml").write_text(PAIR)
    judge = [{"use": "rubric-help", "model": "jury:a"}, {"confirm": str(tmp_path / "seeded.toml"), "model": "jury:a"}]
    assert run_job(recipe(tmp_path, 60, judge, farm={"chars": 80}), tmp_path / "out", say=lambda _: None) == 0
    choices = dict(rows(tmp_path, "SELECT choice, count(*) FROM verdict WHERE kind = 'choice' GROUP BY choice"))
    # The better one is named; whether it was shown first is a draw.
    assert sum(choices.values()) == count(tmp_path, "verdict WHERE kind = 'choice'") <= 60
    assert choices.keys() == {"0", "1"} and min(choices.values()) >= 15
    assert verify_folder(tmp_path / "out", 10).damages == ()


def test_samples_are_asked_as_repeats_and_their_mean_is_the_score(tmp_path: Path) -> None:
    text = (
        'kind = "rubric"\nprompt = "rubric-help.txt"\nsamples = 3\n[criteria]\na = "b"\n[sampling]\ntemperature = 0.7\n'
    )
    (tmp_path / "often.toml").write_text(text)
    judge = {"use": str(tmp_path / "often.toml"), "model": "jury:a"}
    assert run_job(recipe(tmp_path, 4, judge, farm={"chars": 80}), tmp_path / "out", say=lambda _: None) == 0
    assert rows(tmp_path, "SELECT repeat, count(*) FROM verdict GROUP BY repeat") == [(0, 16), (1, 16), (2, 16)]
    seeds = {line["seed"] for line in logged(tmp_path) if line["labels"]}
    assert len(seeds) == 4 * 3
    with_mass = text.replace("samples = 3", "samples = 3\nlogprobs = true")
    (tmp_path / "often.toml").write_text(with_mass)
    (tmp_path / "log").unlink()
    assert run_job(recipe(tmp_path, 4, judge, farm={"chars": 80}), tmp_path / "out", say=lambda _: None) == 0
    # The probabilities came with the first reply of each, so one is enough.
    assert len([line for line in logged(tmp_path) if line["labels"]]) == 16


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ('kind = "rubric"\nprompt = "rubric-help.txt"\nsamples = 3\n[criteria]\na = "b"\n', "temperature 0"),
        ('kind = "pairwise"\nprompt = "pairwise-help.txt"\nsamples = 3\n', "samples belongs to a rubric"),
        ('kind = "rubric"\nprompt = "rubric-help.txt"\nshuffles = 3\n', "shuffles belongs to a listwise"),
        ('kind = "listwise"\nprompt = "listwise-help.txt"\nlogprobs = true\n', "logprobs belongs to"),
        ('kind = "listwise"\nprompt = "listwise-help.txt"\nneeds = ["logprobs"]\n', "cannot use"),
        ('kind = "checklist"\nprompt = "checklist-help.txt"\n', r"has \[questions\]"),
        ('kind = "reward"\nprompt = "rubric-help.txt"\n', "asked nothing"),
        ('kind = "rubric"\n', "'prompt' is missing"),
        ('kind = "rubric"\nprompt = "rubric-help.txt"\nstructured = true\nlogprobs = true\n', "do not go together"),
        ('kind = "rubric"\nprompt = "rubric-help.txt"\nstructured = true\ndecisions = true\n', "by themselves"),
        (
            'kind = "checklist"\nprompt = "rubric-help.txt"\n[questions]\nprompt = "checklist-questions.txt"\n',
            "must hold {question} exactly once",
        ),
    ],
)
def test_what_does_not_go_together_in_a_file_is_told(tmp_path: Path, toml: str, said: str) -> None:
    (tmp_path / "own.toml").write_text(toml)
    with pytest.raises(UsageError, match=said):
        load.load_any("own.toml", AskedModel("t", "m", "m"), [tmp_path])


def test_a_judge_that_needs_probabilities_is_refused_where_there_are_none(tmp_path: Path) -> None:
    text = 'kind = "rubric"\nprompt = "rubric-help.txt"\nneeds = ["logprobs"]\n[criteria]\na = "b"\n'
    (tmp_path / "sure.toml").write_text(text)
    endpoints = {"blind": {"urls": ["http://127.0.0.1:9/v1"], "can": {"logprobs": False}}}
    what = recipe(tmp_path, 2, {"use": str(tmp_path / "sure.toml"), "model": "blind:m"})
    what = what.model_copy(update={"endpoints": what.endpoints | recipe_endpoints(endpoints)})
    with pytest.raises(UsageError, match="needs the log-probabilities"):
        run_job(what, tmp_path / "out", say=lambda _: None)


def recipe_endpoints(described: dict[str, Any]) -> dict[str, Any]:
    from prefsmith.endpoints import Endpoint

    return {name: Endpoint.model_validate(one) for name, one in described.items()}
