from pathlib import Path

import pytest

from prefsmith.errors import UsageError
from prefsmith.merge import Change, draft_of, merge, parse_set, read_recipe
from prefsmith.records import Json

WHOLE: Json = {"prompts": {"path": "p.jsonl"}, "sample": {"model": "a:b", "n": 2}, "judge": "demo"}


def written(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(draft_or_tree: Json, *sets: str) -> str:
    draft = draft_of(draft_or_tree, "here") if isinstance(draft_or_tree, dict) else draft_or_tree
    with pytest.raises(UsageError) as caught:
        merge(draft, [parse_set(text) for text in sets])
    return str(caught.value)


def test_later_changes_hold_over_earlier_ones_and_over_the_recipe() -> None:
    draft = draft_of(WHOLE, "here")
    flag = Change(("sample", 0, "n"), 3, "--n")
    assert merge(draft).sample[0].n == 2
    assert merge(draft, [flag]).sample[0].n == 3
    assert merge(draft, [flag, parse_set("sample.0.n=4")]).sample[0].n == 4
    assert merge(draft).sample[0].n == 2, "a draft is not changed by a merge"


def test_what_nobody_said_has_its_default() -> None:
    recipe = merge(draft_of(WHOLE, "here"))
    assert recipe.sample[0].temperature == [1.0]
    assert recipe.pair.strategy == "best_worst"


def test_set_reaches_into_lists_makes_sections_and_appends() -> None:
    recipe = merge(
        draft_of(WHOLE, "here"),
        [
            parse_set("sample.0.temperature=[0.2, 0.7]"),
            parse_set("sample.1.model=c:d"),
            parse_set("judge.0.ignore_case=true"),
            parse_set("pair.min_margin=p75"),
            parse_set("endpoints.farm.urls=http://farm:8000/v1"),
        ],
    )
    assert recipe.sample[0].temperature == [0.2, 0.7]
    assert recipe.sample[1].model == "c:d"
    assert (recipe.judge[0].use, recipe.judge[0].ignore_case) == ("demo", True)
    assert recipe.pair.min_margin == "p75"
    assert recipe.endpoints["farm"].urls == ["http://farm:8000/v1"]


def test_the_value_of_set_may_hold_an_equals_sign() -> None:
    assert merge(draft_of(WHOLE, "here"), [parse_set("judge.0.text=quality=9")]).judge[0].text == "quality=9"


@pytest.mark.parametrize("text", ["sample.0.n", "=4", "a..b=1", ".a=1"])
def test_a_set_without_place_or_value_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected PLACE=VALUE"):
        parse_set(text)


def test_a_set_that_leads_nowhere_says_how_far_it_came() -> None:
    assert "sample is a list of 1 entry, counted from 0; got 'n'" in refused(WHOLE, "sample.n=4")
    assert "sample is a list of 1 entry, counted from 0; got 7" in refused(WHOLE, "sample.7.n=4")
    assert "prompts.path is 'p.jsonl', which has no part 'x'" in refused(WHOLE, "prompts.path.x=4")


def test_every_problem_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "sample:\n  - model: a:b\n    temprature: 1\n  - {model: ab, temperature: [0.2, 9]}\n"
        "judge: [demo]\npair: {strategy: best_wurst}\n",
    )
    message = refused(read_recipe(path), "gates.min_tokns=3")
    assert message.startswith("5 problems")
    assert f"{path}:3: sample.0.temprature: unknown key; did you mean 'temperature'?" in message
    assert f"{path}:4: sample.1.model: a model is written TARGET:MODEL" in message
    assert f"{path}:4: sample.1.temperature.1: got 9, expected less than or equal to 5" in message
    assert f"{path}:6: pair.strategy: got 'best_wurst'; did you mean 'best_worst'?" in message
    assert "--set gates.min_tokns=3: gates.min_tokns: unknown key; did you mean 'min_tokens'?" in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sample.0.n='4'", "sample.0.n: got '4', expected a valid integer"),
        ("sample.0.n=true", "sample.0.n: got True, expected a valid integer"),
        ("sample.0.n=4.5", "sample.0.n: got 4.5, expected a valid integer"),
        ("sample.0.temperature=true", "sample.0.temperature: got True, expected a valid number"),
        ("judge.0.ignore_case=yes", "judge.0.ignore_case: got 'yes', expected a valid boolean"),
        ("pair.min_margin=[1]", "pair.min_margin: got [1], expected a valid number or a valid string"),
        ("pair.min_margin=p100", "pair.min_margin: min_margin is a number or a quantile from p1 to p99"),
        ("prompts=7", "prompts: got 7, expected a mapping with allow_control_tokens, category"),
        ("export=trl,openai", "export: got 'trl,openai'; did you mean"),
        ("endpoints.f.ulrs=x", "endpoints.f.ulrs: unknown key; did you mean 'urls'?"),
        ("sample.1.n=2", "sample.1.model: missing; TARGET:MODEL"),
        ("budget={}", "budget: a budget is either `usd` or `tokens`, such as"),
        ("budget={usd: 1, tokens: 2}", "budget: a budget is either `usd` or `tokens`"),
        ("budget.usd=0", "budget.usd: got 0, expected greater than 0"),
        ("budget.tokens=1.5", "budget.tokens: got 1.5, expected a valid integer"),
        ("budget=5", "budget: got 5, expected a mapping with tokens, usd"),
        ("budget.euro=5", "budget.euro: unknown key"),
        ("sample.0.temperature=.nan", "only plain and finite values"),
    ],
)
def test_a_wrong_value_is_told_with_its_place_and_what_was_expected(text: str, told: str) -> None:
    assert told in refused(WHOLE, text)


def test_a_path_in_a_recipe_is_taken_from_its_folder_where_it_exists_there(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text("")
    (tmp_path / "concise.txt").write_text("Be brief.\n")
    (tmp_path / "mine.py").write_text("")
    (tmp_path / "mine.toml").write_text("")
    path = written(
        tmp_path,
        "prompts: {path: own.jsonl}\nsample: {model: 'a:b', system: [concise.txt, null, Answer in French.]}\n"
        "judge: [mine.py:grade, elsewhere.toml]\nprices: mine.toml\n",
    )
    recipe = merge(read_recipe(path))
    assert recipe.prompts.path == str(tmp_path / "own.jsonl")
    assert recipe.sample[0].system == ["Be brief.", None, "Answer in French."]
    assert [judge.use for judge in recipe.judge] == [f"{tmp_path / 'mine.py'}:grade", "elsewhere.toml"]
    assert recipe.prices == tmp_path / "mine.toml"


def test_a_path_that_is_not_beside_the_recipe_stays_as_it_is(tmp_path: Path) -> None:
    path = written(tmp_path, "prompts: {path: 'demo:tiny'}\nsample: {model: 'a:b'}\njudge: demo\n")
    assert merge(read_recipe(path)).prompts.path == "demo:tiny"


def test_a_system_file_that_is_missing_or_empty_is_refused(tmp_path: Path) -> None:
    assert "system prompt file 'gone.md' cannot be read" in refused(WHOLE, "sample.0.system=gone.md")
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    assert "is empty" in refused(WHOLE, f"sample.0.system={empty}")


def test_a_missing_system_file_is_told_with_its_line_beside_other_mistakes(tmp_path: Path) -> None:
    text = "prompts: {path: p}\nsample:\n  - {model: 'a:b', system: gone.txt}\n  - model: 'a:c'\n    system:\n"
    path = written(tmp_path, text + "      - Be brief.\n      - lost.md\njudge: demo\nsed: 1\n")
    with pytest.raises(UsageError) as caught:
        merge(read_recipe(path))
    told = str(caught.value)
    assert f"{path}:3: sample.0.system: system prompt file 'gone.txt' cannot be read: No such file" in told
    assert f"{path}:7: sample.1.system.1: system prompt file 'lost.md' cannot be read" in told
    assert f"{path}:9: sed: unknown key" in told


def test_a_confirmation_in_the_wrong_place_has_its_own_line(tmp_path: Path) -> None:
    text = "sample: {model: 'a:b'}\njudge:\n  - number\n  - confirm: pairwise-help\n    model: 'a:c'\n"
    path = written(tmp_path, text + "  - exact\n")
    with pytest.raises(UsageError, match=r":4: judge.1.confirm: `confirm` must be the last entry"):
        merge(read_recipe(path))
    path = written(tmp_path, "sample: {model: 'a:b'}\njudge:\n  confirm: pairwise-help\n")
    with pytest.raises(UsageError, match=r":3: judge.0.confirm: `confirm` needs a judge or grader before it"):
        merge(read_recipe(path))


def test_a_recipe_that_is_missing_or_no_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no recipe"):
        read_recipe(tmp_path / "gone.yaml")
    with pytest.raises(UsageError, match="a recipe is a mapping"):
        read_recipe(written(tmp_path, "- a\n- b\n"))


def test_a_merged_recipe_merges_again_to_itself() -> None:
    recipe = merge(draft_of(WHOLE, "here"), [parse_set("sample.0.system=Be brief.")])
    assert merge(draft_of(recipe.model_dump(mode="json"), "the last recipe", resolved=True)) == recipe
