from argparse import Namespace
from pathlib import Path

import pytest

from prefsmith.cli.flags import DEMO, billed_of, formats_of, known_judges, pairing_of, recipe_of, rejudged
from prefsmith.cli.parser import parse
from prefsmith.errors import UsageError
from prefsmith.purse import Billed
from prefsmith.recipe import GRADERS, Budget, Pairing, Recipe

FILE = ("p.jsonl", "--gen", "openai:m", "--judge", "number")


def flags(*words: str) -> Namespace:
    return parse(["run", *words])


def recipe(*words: str) -> Recipe:
    return recipe_of(flags(*words))[0]


def refused(*words: str) -> str:
    with pytest.raises(UsageError) as caught:
        recipe_of(flags(*words))
    return str(caught.value)


def test_a_bare_run_is_the_demo() -> None:
    made, folder, _ = recipe_of(flags())
    assert folder == Path("runs/demo")
    assert (made.prompts.path, made.prompts.limit) == ("demo:tiny", 300)
    assert (made.sample[0].model, made.sample[0].temperature) == ("embedded:tiny", [0.3, 0.7, 1.0, 1.3])
    assert (made.sample[0].n, made.sample[0].max_tokens) == (2, 44)
    assert [judge.use for judge in made.judge] == ["demo"]
    assert (made.pair.strategy, made.export) == ("correct_incorrect", ["trl", "openai"])


def test_flags_over_the_demo_leave_its_other_settings() -> None:
    made = recipe("--gen", "scripted:fake", "--limit", "20")
    assert (made.sample[0].model, made.sample[0].n, made.prompts.limit) == ("scripted:fake", 2, 20)
    assert DEMO["prompts"]["limit"] == 300


def test_every_flag_lands_in_its_place() -> None:
    made = recipe(
        *FILE,
        *(
            "--temps",
            "0.2,0.7",
            "--n",
            "3",
            "--top-p",
            "0.9,1",
            "--top-k",
            "40",
            "--min-p",
            "0.1",
            "--max-tokens",
            "99",
        ),
        *("--system", "Be brief.", "--system", "", "--strategy", "correct_incorrect", "--min-margin", "p75"),
        *("--min-chosen", "0.6", "--to", "trl,openai", "--limit", "7", "--seed", "-5", "--grace", "1.5"),
        *("--prompt", "q", "--reference", "a", "--category", "c", "--id", "i", "--tools", "t", "--system-column", "s"),
        *("--columns", "x,y", "--format", "csv", "--split", "test", "--endpoint", "openai=http://localhost:1/v1"),
    )
    cell = made.sample[0]
    assert (cell.model, cell.temperature, cell.n) == ("openai:m", [0.2, 0.7], 3)
    assert (cell.top_p, cell.top_k, cell.min_p, cell.max_tokens) == ([0.9, 1.0], [40], [0.1], 99)
    assert cell.system == ["Be brief.", None]
    assert made.pair == Pairing(strategy="correct_incorrect", min_margin="p75", min_chosen=0.6)
    assert (made.export, made.seed, made.grace_s) == (["trl", "openai"], -5, 1.5)
    columns = made.prompts
    assert (columns.limit, columns.prompt, columns.reference, columns.category) == (7, "q", "a", "c")
    assert (columns.id, columns.tools, columns.system, columns.columns) == ("i", "t", "s", ["x", "y"])
    assert (columns.format, columns.split) == ("csv", "test")
    assert made.endpoints["openai"].urls == ["http://localhost:1/v1"]


@pytest.mark.parametrize(
    ("typed", "budget"),
    [
        ("5usd", Budget(usd=5)),
        ("$0.50", Budget(usd=0.5)),
        ("1_000USD", Budget(usd=1000)),
        ("200ktok", Budget(tokens=200_000)),
        ("1.5Mtok", Budget(tokens=1_500_000)),
        ("4096tokens", Budget(tokens=4096)),
    ],
)
def test_a_budget_is_money_or_tokens(typed: str, budget: Budget) -> None:
    assert recipe(*FILE, "--budget", typed).budget == budget


def test_a_budget_replaces_that_of_the_recipe_whatever_its_unit(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("sample: {model: 'a:b'}\njudge: demo\nbudget: {usd: 20}\n")
    assert recipe(str(file)).budget == Budget(usd=20)
    assert recipe(str(file), "--budget", "2Mtok").budget == Budget(tokens=2_000_000)
    assert recipe(str(file), "--prices", "mine.toml").prices == Path("mine.toml")


def test_a_budget_of_nothing_is_refused() -> None:
    assert "--budget: budget.usd: got 0.0, expected greater than 0" in refused(*FILE, "--budget", "$0")


def test_a_word_on_held_money_is_in_either_unit_and_may_be_nothing() -> None:
    for typed, said in (("0usd", Billed("nanousd", 0)), ("$1.5", Billed("nanousd", 1_500_000_000))):
        assert billed_of(parse(["run", *FILE, "--maybe-billed", typed])) == said
    assert billed_of(parse(["judge", "r", "--maybe-billed", "2ktok"])) == Billed("tokens", 2000)
    assert billed_of(parse(["run", *FILE])) is None
    with pytest.raises(UsageError, match="--maybe-billed"):
        parse(["plan", *FILE, "--maybe-billed", "0usd"])


def test_rejudging_may_have_another_budget() -> None:
    last = recipe(*FILE, "--budget", "$5")
    assert rejudged(parse(["judge", "runs/p", "--judge", "exact"]), last)[0].budget == Budget(usd=5)
    assert rejudged(parse(["judge", "r", "--judge", "exact", "--budget", "$9"]), last)[0].budget == Budget(usd=9)


def test_set_holds_over_a_flag() -> None:
    assert recipe(*FILE, "--set", "sample.0.n=4", "--n", "3").sample[0].n == 4


def test_each_gen_is_a_row_with_the_same_settings() -> None:
    made = recipe(*FILE, "--gen", "vllm:w", "--temps", "0.5")
    assert [(row.model, row.temperature) for row in made.sample] == [("openai:m", [0.5]), ("vllm:w", [0.5])]


def test_gen_gives_a_recipe_file_another_model_and_keeps_its_settings(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("sample: {model: 'a:b', temperature: 0.3, n: 5}\njudge: demo\n")
    made, folder, _ = recipe_of(flags(str(path), "--gen", "c:d"))
    assert (made.sample[0].model, made.sample[0].temperature, made.sample[0].n) == ("c:d", [0.3], 5)
    assert folder == Path("runs/r")


def test_gen_does_not_choose_among_several_rows(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("sample: [{model: 'a:b'}, {model: 'c:d'}]\njudge: demo\n")
    assert "samples from 2 rows" in refused(str(path), "--gen", "e:f")


def test_a_flag_without_a_row_to_change_is_not_lost() -> None:
    assert "no model to sample from; give --gen TARGET:MODEL" in refused("p.jsonl", "--judge", "number", "--n", "4")


def test_prompts_without_a_judge_name_the_judges_that_exist() -> None:
    message = refused("p.jsonl", "--gen", "openai:m")
    assert "no judge; give --judge NAME" in message
    assert all(name in message for name in known_judges())
    assert set(GRADERS) <= set(known_judges())


def test_shipped_prompts_bring_their_judge() -> None:
    assert recipe("demo:constraints", "--gen", "openai:m").judge[0].use == "constraints"
    assert recipe("demo:constraints", "--gen", "openai:m", "--judge", "exact").judge[0].use == "exact"


def test_a_judge_given_by_set_alone_is_enough() -> None:
    made = recipe("p.jsonl", "--gen", "openai:m", "--set", "judge.0.use=regex", "--set", "judge.0.pattern=a=b")
    assert (made.judge[0].use, made.judge[0].pattern) == ("regex", "a=b")


def test_the_judge_model_goes_to_each_judge_that_asks_one() -> None:
    made = recipe(*FILE, "--judge", "rubric-help", "--confirm", "pairwise-help", "--judge-model", "openai:big")
    assert [(j.use, j.confirm, j.model) for j in made.judge] == [
        ("number", None, None),
        ("rubric-help", None, "openai:big"),
        (None, "pairwise-help", "openai:big"),
    ]


def test_a_judge_model_that_nobody_needs_is_refused() -> None:
    assert "no judge of this run asks a model" in refused(*FILE, "--judge-model", "openai:big")


def test_judge_leaves_the_confirmation_of_a_recipe_and_confirm_its_judges(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("sample: {model: 'a:b'}\njudge: [number, {confirm: p, model: 'c:d'}]\n")
    assert [(j.use, j.confirm) for j in recipe(str(path), "--judge", "exact").judge] == [("exact", None), (None, "p")]
    assert [(j.use, j.confirm) for j in recipe(str(path), "--confirm", "q").judge] == [("number", None), (None, "q")]


def test_an_endpoint_flag_keeps_what_the_recipe_says_of_it(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("endpoints: {f: {urls: 'http://a/v1', key_env: K}}\nsample: {model: 'f:m'}\njudge: demo\n")
    made = recipe(str(path), "--endpoint", "f=http://b/v1").endpoints["f"]
    assert (made.urls, made.key_env) == (["http://b/v1"], "K")


@pytest.mark.parametrize(
    ("x", "folder"),
    [
        ("data/p.jsonl", "runs/p"),
        ("-", "runs/stdin"),
        ("hf:org/set-1.5", "runs/set-1.5"),
        ("demo:constraints", "runs/constraints"),
        ("demo:tiny", "runs/demo"),
    ],
)
def test_the_folder_is_named_after_the_prompts(x: str, folder: str) -> None:
    assert recipe_of(flags(x, "--gen", "a:b", "--judge", "exact"))[1] == Path(folder)
    assert recipe_of(flags(x, "--gen", "a:b", "--judge", "exact", "-o", "there"))[1] == Path("there")


def test_a_run_folder_is_not_taken_for_prompts(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").touch()
    assert "is a run's folder, not prompts" in refused(str(tmp_path), "--gen", "a:b")


def test_a_wrong_flag_value_is_told_by_its_flag() -> None:
    assert "--temps: sample.0.temperature.1: got 9.0, expected less than or equal to 5" in refused(
        *FILE, "--temps", "1,9"
    )
    assert "--to: export.1: got 'opnai'; did you mean 'openai'?" in refused(*FILE, "--to", "trl,opnai")
    assert "--min-chosen: pair.min_chosen: got 'high', expected a valid number" in refused(
        *FILE, "--min-chosen", "high"
    )


def test_rejudging_changes_judges_and_pairing_and_nothing_that_was_sampled() -> None:
    last = recipe(*FILE, "--n", "4")
    made = rejudged(parse(["judge", "runs/p", "--judge", "exact", "--min-margin", "0.5", "--to", "openai"]), last)[0]
    assert [judge.use for judge in made.judge] == ["exact"]
    assert (made.pair.min_margin, made.export) == (0.5, ["openai"])
    assert (made.sample, made.prompts, made.seed) == (last.sample, last.prompts, last.seed)


def test_new_judges_of_a_folder_leave_its_confirmation_out_unless_it_is_named() -> None:
    last = recipe(*FILE, "--confirm", "pairwise-help", "--judge-model", "openai:big")
    made, _, notes = rejudged(parse(["judge", "r", "--judge", "exact"]), last)
    assert [(j.use, j.confirm) for j in made.judge] == [("exact", None)]
    assert notes == ("the confirmation by pairwise-help is left out; add --confirm pairwise-help to keep it",)
    made, _, notes = rejudged(parse(["judge", "r", "--judge", "exact", "--confirm", "pairwise-help"]), last)
    assert [(j.use, j.confirm, j.model) for j in made.judge][1:] == [(None, "pairwise-help", "openai:big")]
    assert notes == ()
    made, _, notes = rejudged(parse(["judge", "r", "--min-margin", "0.5"]), last)
    assert (made.judge, notes) == (last.judge, ())


@pytest.mark.parametrize("change", ["sample.0.n=9", "prompts.limit=3", "seed=4"])
def test_rejudging_refuses_what_would_sample(change: str) -> None:
    with pytest.raises(UsageError, match="`judge` samples nothing"):
        rejudged(parse(["judge", "runs/p", "--judge", "exact", "--set", change]), recipe(*FILE))


def test_export_keeps_the_rule_of_the_run_until_a_flag_asks_for_another() -> None:
    last = recipe(*FILE, "--min-chosen", "0.6")
    assert pairing_of(parse(["export", "r", "--to", "openai"]), last) is None
    assert pairing_of(parse(["export", "r", "--min-margin", "0.2"]), last) == Pairing(min_chosen=0.6, min_margin=0.2)
    assert formats_of(parse(["export", "r"]), last) == ["trl"]
    assert formats_of(parse(["export", "r", "--to", "openai,parquet"]), last) == ["openai", "parquet"]
    with pytest.raises(UsageError, match="did you mean 'parquet'"):
        formats_of(parse(["export", "r", "--to", "parqet"]), last)


def test_a_name_given_twice_to_an_endpoint_is_refused() -> None:
    told = refused(*FILE, "--endpoint", "farm=http://a:1/v1", "--endpoint", "farm=http://b:1/v1")
    assert told.startswith("--endpoint farm: given twice; several URLs")
