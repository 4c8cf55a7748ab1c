"""Entries of `judge:` as users write them: nesting, default models, places of errors, and what is told of kin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from runs import recipe

from prefsmith.cli import main
from prefsmith.errors import UsageError
from prefsmith.ledger.ledger import Ledger
from prefsmith.merge import draft_of, merge, read_recipe
from prefsmith.recipe import Recipe
from prefsmith.stages.build import bind, described, resolve, restored

WHOLE: dict[str, Any] = {
    "panel": [
        "contains",
        {"cascade": ["quick-help", {"use": "rubric-help", "model": "jury:strong"}], "below": 0.7},
        {"use": "checklist-help", "list_model": "jury:lists"},
    ],
    "rule": "majority",
    "model": "jury:small",
}


def test_members_take_the_model_of_the_entry_unless_they_name_their_own(tmp_path: Path) -> None:
    resolution = resolve(recipe(tmp_path, 2, WHOLE))
    asked = [(one.judge.name, one.by and one.by.wire_model, one.lists_by and one.lists_by.wire_model)
             for one in resolution.judges]  # fmt: skip
    assert asked == [
        ("contains", None, None),
        ("quick-help", "small", None),
        ("rubric-help", "strong", None),
        ("checklist-help", "small", "lists"),
    ]


def test_a_plan_is_the_same_when_it_is_read_back_without_its_judges(tmp_path: Path) -> None:
    entries = [WHOLE, {"use": "listwise-help", "model": "jury:a"},
               {"use": "pairwise-help", "model": "jury:a", "tournament": "minmax"},
               {"confirm": "pairwise-help", "model": "jury:b"}]  # fmt: skip
    what = recipe(tmp_path, 2, entries)
    with Ledger.create(tmp_path / "out") as ledger:
        plan = bind(resolve(what), ledger)
        kept = described(plan)
        again = restored(kept, what, ledger)
        assert described(again) == kept and again.names == plan.names
        assert [stage.name for stage in plan.stages] == [
            "majority(contains, cascade(quick-help, rubric-help), checklist-help)",
            "listwise-help",
            "minmax(pairwise-help jury:a)",
        ]
        assert [leaf.gives for leaf in again.leaves] == [leaf.gives for leaf in plan.leaves]


def test_a_recipe_file_says_it_in_yaml_and_finds_judges_beside_it(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text('kind = "rubric"\nprompt = "rubric-reference.txt"\n')
    (tmp_path / "r.yaml").write_text(
        "sample: {model: 'scripted:a', n: 2}\njudge:\n  - panel: [mine.toml, rubric-help]\n    model: 'scripted:j'\n"
    )
    draft = read_recipe(tmp_path / "r.yaml")
    members = merge(draft).judge[0].panel
    assert members is not None and [one.use for one in members] == [str(tmp_path / "mine.toml"), "rubric-help"]
    (tmp_path / "r.yaml").write_text(
        "sample: {model: 'scripted:a'}\njudge:\n  - panel: [number, exact]\n    rule: median\n"
    )
    with pytest.raises(UsageError, match=r"r\.yaml:4: judge\.0\.rule: got 'median'; did you mean 'mean'"):
        merge(read_recipe(tmp_path / "r.yaml"))


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"use": "number", "panel": ["number", "exact"]}, "exactly one of"),
        ({"panel": ["number"]}, "at least 2"),
        ({"use": "number", "rule": "mean"}, "`rule` belongs to a panel"),
        ({"panel": ["number", "exact"], "below": 0.5}, "`below` belongs to a cascade"),
        ({"panel": ["number", {"confirm": "pairwise-help"}]}, "no member"),
        ({"panel": ["number", {"use": "pairwise-help", "tournament": "minmax"}]}, "as a whole"),
        ({"confirm": "pairwise-help", "tournament": "minmax"}, "an entry of its own"),
        ({"panel": ["number", "exact"], "ignore_case": True}, "belong to the member"),
        ({"panel": ["number", "exact"], "list_model": "a:b"}, "member that is a checklist"),
        ({"panel": ["number", {"uze": "exact"}]}, "uze"),
        ({"cascade": ["number", "exact"], "below": 1.5}, "less than or equal to 1"),
    ],
)
def test_an_entry_that_makes_no_sense_is_told_with_its_place(entry: Any, said: str) -> None:
    tree = {"sample": [{"model": "scripted:a"}], "judge": [entry]}
    with pytest.raises(UsageError, match=said) as caught:
        merge(draft_of(tree, "here"))
    assert "judge.0" in str(caught.value)


def test_the_flag_for_the_judges_model_reaches_a_panel(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "p.txt").write_text("Say a.\nSay b.\n")
    (tmp_path / "r.yaml").write_text(
        f"prompts: {{path: {tmp_path}/p.txt}}\nsample: {{model: 'scripted:a', n: 2}}\n"
        "judge: {panel: [rubric-help, quick-help]}\n"
    )
    words = ["run", str(tmp_path / "r.yaml"), "-o", str(tmp_path / "out"), "--quiet"]
    assert main(words) == 2
    assert "name it with `model: TARGET:MODEL` or --judge-model" in capsys.readouterr().err
    assert main([*words, "--judge-model", "scripted:j"]) == 0


def notes(sampler: str, judge: str) -> list[str]:
    endpoints = {"farm": {"urls": ["http://127.0.0.1:9/v1"]}}
    tree = {
        "endpoints": endpoints,
        "sample": {"model": sampler, "n": 2},
        "judge": {"use": "rubric-help", "model": judge},
    }
    return [note for note in resolve(Recipe.model_validate(tree)).notes if "favour" in note]


def test_a_judge_of_the_samplers_family_is_warned_about() -> None:
    """8: judges favour their own family (arXiv 2502.01534)."""
    assert "is the model that also samples" in notes("farm:Qwen/Qwen3-8B", "farm:Qwen/Qwen3-8B")[0]
    assert "same family" in notes("farm:Qwen/Qwen3-8B", "farm:Qwen/Qwen3-32B-AWQ")[0]
    assert "same family" in notes("farm:gpt-4.1-mini", "farm:gpt-5")[0]
    assert notes("farm:Qwen/Qwen3-8B", "farm:meta-llama/Llama-3.1-8B") == []
