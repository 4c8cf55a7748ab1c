import pytest

from prefsmith.cli import main
from prefsmith.cli.parser import parse
from prefsmith.errors import UsageError
from prefsmith.recipe import EXPORTS


def test_an_unknown_flag_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UsageError, match=r"unknown flag '--temp=0\.2' of `run`; did you mean '--temps'"):
        parse(["run", "--temp=0.2"])


def test_a_flag_is_never_completed_by_guessing() -> None:
    with pytest.raises(UsageError, match="unknown flag '--lim'"):
        parse(["run", "--lim", "5"])


def test_a_word_too_many_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unexpected 'b\.jsonl'"):
        parse(["run", "a.jsonl", "b.jsonl"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "--temps", "0.2;0.7"], "prefsmith: --temps: got '0.2;0.7', expected a number"),
        (["run", "--n", "2.5"], "prefsmith: --n: got '2.5', expected a whole number"),
        (["run", "--to", "trl,"], "prefsmith: --to: got 'trl,', expected names"),
        (["run", "--endpoint", "host:8000"], "prefsmith: --endpoint: got 'host:8000', expected NAME=http://"),
        (["run", "--show", "-1"], "prefsmith: --show: got '-1', expected 0 or more"),
        (["run", "--budget", "5"], "prefsmith: --budget: got '5', expected a sum and its unit: 5usd, $5"),
        (["run", "--budget", "1.5tok"], "prefsmith: --budget: got '1.5tok', expected a sum"),
        (["run", "--budget", "1.2.3usd"], "prefsmith: --budget: got '1.2.3usd', expected a sum"),
        (["rnu"], "prefsmith: COMMAND: invalid choice: 'rnu'"),
    ],
)
def test_a_malformed_flag_ends_with_2_and_says_what_was_expected(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    said = capsys.readouterr().err
    assert said.startswith(told)
    assert said.count("\n") == 1 and "--help` says what goes where" in said


def test_no_word_at_all_prints_the_help_and_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "prefsmith run recipe.yaml" in capsys.readouterr().err


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.split()[0] == "prefsmith"


def test_help_names_every_export_format(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in EXPORTS)


def test_options_before_the_prompts_work_too() -> None:
    assert parse(["run", "--gen", "a:b", "p.jsonl"]).x == "p.jsonl"
    assert parse(["run", "-"]).x == "-"


@pytest.mark.parametrize(
    ("word", "shown", "hidden"),
    [
        ("run", ("--to", "--show", "--limit", "--grace", "--maybe-billed"), ("--try", "--probe ")),
        ("plan", ("--try", "--limit", "--budget", "--no-probe", "--seed"), ("--to ", "--show", "--probe N")),
        ("doctor", ("--gen", "--prices", "--probe", "--out"), ("--limit", "--to ", "--show", "--grace", "--strategy")),
    ],
)
def test_help_shows_the_flags_that_have_an_effect_and_the_others_are_taken(
    word: str, shown: tuple[str, ...], hidden: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word, "--help"]) == 0
    out = capsys.readouterr().out
    assert [flag for flag in shown if flag not in out] == [flag for flag in hidden if flag in out] == []
    assert parse([word, "--limit", "5", "--to", "trl", "--show", "1", "--grace", "2"]).limit == 5
