"""Judges of one's own: a file that names its model, one drawn order, and Python that a package brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runs import count, logged, recipe, rows

from prefsmith.errors import UsageError
from prefsmith.job import run_job
from prefsmith.judging.load import GROUP, AskedModel, judge_names, load_any
from prefsmith.recheck import verify_folder

PAIR = 'kind = "pairwise"\nprompt = "pairwise-help.txt"\norders = "seeded"\n[criteria]\na = "b"\n'


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed distribution, as pip leaves it, that declares `own_judges`."""
    info = tmp_path / "site" / "own_judges-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-judges\nVersion: 1.0\n")
    named = "".join(f"{name} = own_judges:{name}\n" for name in ("brief", "broken", "unfit"))
    (info / "entry_points.txt").write_text(f"[{GROUP}]\n{named}")
    monkeypatch.syspath_prepend(info.parent)


def test_a_judge_of_a_package_is_used_by_its_name_like_any_other(package: None, tmp_path: Path) -> None:
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
def test_what_a_package_brings_and_is_no_judge_is_told(package: None, tmp_path: Path, name: str, said: str) -> None:
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
        load_any("own.toml", AskedModel("t", "m", "m"), [tmp_path])


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
