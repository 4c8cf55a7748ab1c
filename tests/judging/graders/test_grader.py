"""Inline graders, their parameters and what they refuse."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from prefsmith.errors import UsageError
from prefsmith.judging.graders import Grader, make_grader, missing_columns
from prefsmith.judging.graders.demo import in_form
from prefsmith.judging.graders.grader import ASK_VERSION
from prefsmith.ledger.ids import judge_hash
from prefsmith.outcomes import Score
from prefsmith.reasons import Reason
from prefsmith.recipe import GRADERS, Judge
from prefsmith.records import Item, Json, Prompt


def item(reference: str | None = None, **columns: Json) -> Item:
    return Item(Prompt(({"role": "user", "content": "?"},)), reference, None, columns)


def grader(use: str, **knobs: Json) -> Grader:
    return make_grader(Judge(use=use, **knobs))


def values(use: str, texts: list[str], of: Item, **knobs: Json) -> list[float | None]:
    return [score.value for score in grader(use, **knobs).grade(texts, of)]


def own(folder: Path, source: str, name: str = "g.py") -> str:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(source)
    return f"{folder / name}:grade"


def test_every_name_that_the_recipe_reserves_is_built() -> None:
    assert set(GRADERS) == set(ASK_VERSION)
    assert [grader(name, pattern="x" if name == "regex" else None).name for name in GRADERS] == list(GRADERS)


def test_exact_compares_stripped_texts() -> None:
    texts = ["Paris", " Paris\n", "paris", "Paris.", ""]
    assert values("exact", texts, item("Paris ")) == [1, 1, 0, 0, 0]
    assert values("exact", texts, item("Paris"), ignore_case=True) == [1, 1, 1, 0, 0]


def test_number_compares_the_last_number() -> None:
    assert values("number", ["$18", "18 or 19", "18.0 dollars", "none"], item("18")) == [1, 0, 1, 0]
    assert values("number", ["1000", "1,000.0", "100"], item("1,000")) == [1, 1, 0]


def test_contains_looks_for_the_recipes_text_or_the_reference() -> None:
    assert values("contains", ["so Paris it is", "paris", ""], item("Paris")) == [1, 0, 0]
    assert values("contains", ["so Paris it is", "PARIS"], item("Rome"), text="paris", ignore_case=True) == [1, 1]


def test_demo_grades_the_check_of_its_tasks() -> None:
    assert values("demo", ["#### 7", "#### 8"], item(check={"kind": "number", "answer": 7})) == [1, 0]


def test_constraints_grade_the_check() -> None:
    assert values("constraints", ["One.", "One. Two."], item(check={"sentences": 1})) == [1, 0.5]


@pytest.mark.parametrize(
    ("use", "of", "says"),
    [
        ("exact", item(), "exact reads 'reference', which the item lacks"),
        ("number", item("many"), "ValueError: the reference 'many' is no number"),
        ("contains", item(" "), "ValueError: the reference is empty, and so in every text"),
        ("constraints", item(check={"wrods": 3}), "ValueError: unknown condition 'wrods' in the column 'check'"),
        ("constraints", item(), "constraints reads 'check', which the item lacks"),
        ("demo", item(check={"kind": "poem"}), "ValueError: unknown kind of check 'poem'"),
        ("demo", item(check="x"), "ValueError: the column 'check' must be an object"),
    ],
)
def test_an_item_that_cannot_be_graded_gives_no_score_and_says_why(use: str, of: Item, says: str) -> None:
    scores = grader(use).grade(["a", "b"], of)
    assert [score.reason for score in scores] == [Reason.GRADER_ERROR] * 2
    assert all(score.parts is not None and score.parts["error"].startswith(says) for score in scores)


def test_what_an_item_lacks_is_known_before_anything_is_graded(tmp_path: Path) -> None:
    assert missing_columns(grader("exact"), item("x")) is None
    assert missing_columns(grader("contains", text="x"), item()) is None
    assert missing_columns(grader("regex", pattern="x"), item()) is None
    assert missing_columns(grader("demo"), item(check=None)) == "demo reads 'check', which the item lacks"
    reading = grader(own(tmp_path, "READS = ('a', 'b')\ndef grade(text, item): return 1\n"))
    assert "reads 'b', which" in (missing_columns(reading, item(a=1)) or "")


def test_a_column_that_is_not_read_changes_no_grade_and_is_not_in_reads() -> None:
    assert grader("exact").reads == ("reference",)
    assert grader("constraints").reads == grader("demo").reads == ("check",)
    assert grader("regex", pattern="x").reads == grader("contains", text="x").reads == ()


def test_the_key_names_parameters_and_leaves_out_neutral_ones_and_time_limits() -> None:
    assert grader("exact").described() == {"kind": "grader", "name": "exact", "ask": 1}
    same = [grader("regex", pattern="a+"), grader("regex", pattern="a+", timeout_s=9, ignore_case=False)]
    assert len({judge_hash(each.described()) for each in same}) == 1
    different = [
        grader("regex", pattern="a+"),
        grader("regex", pattern="a*"),
        grader("regex", pattern="a+", ignore_case=True),
        grader("exact"),
        grader("exact", ignore_case=True),
        grader("number"),
        grader("contains"),
        grader("contains", text="a+"),
    ]
    assert len({judge_hash(each.described()) for each in different}) == len(different)


def test_the_key_of_an_own_file_is_its_content_and_never_its_folder(tmp_path: Path) -> None:
    source = "def grade(text, item): return 1.0\ndef other(text, item): return 0.0\n"
    here, there = own(tmp_path / "here", source), own(tmp_path / "there", source, "renamed.py")
    assert grader(here).described() == grader(there).described()
    assert "here" not in str(grader(here).described())
    assert grader(here).described() != grader(here.replace(":grade", ":other")).described()
    before = grader(here).described()
    own(tmp_path / "here", source + "# a comment\n")
    assert grader(here).described() != before


def test_reads_of_an_own_file_are_the_columns_of_its_key(tmp_path: Path) -> None:
    assert grader(own(tmp_path, "def grade(text, item): return 1\n")).reads is None
    assert grader(own(tmp_path, "READS = ['b', 'a']\ndef grade(text, item): return 1\n")).reads == ("a", "b")
    assert grader(own(tmp_path, "READS: tuple = ()\ndef grade(text, item): return 1\n")).reads == ()


@pytest.mark.parametrize(
    ("use", "knobs", "says"),
    [
        ("exakt", {}, r"no grader is called 'exakt'; did you mean 'exact'"),
        ("regex", {}, r"needs `pattern:`"),
        ("regex", {"pattern": "a(b"}, r"'a\(b' is no regular expression: .* at position 1"),
        ("exact", {"pattern": "a"}, r"'exact' does not read `pattern:` \(it belongs to regex\)"),
        ("number", {"ignore_case": True}, r"'number' does not read `ignore_case:`"),
        ("exact", {"model": "openai:x"}, r"'exact' has no model"),
        ("contains", {"text": ""}, r"`text:` is empty"),
        ("no/such.py:grade", {}, r"cannot read 'no/such.py': No such file"),
        ("graders.py", {}, r"is written FILE.py:NAME"),
        ("graders.py:a-b", {}, r"is written FILE.py:NAME"),
    ],
)
def test_a_spec_that_does_not_fit_is_refused_in_words(use: str, knobs: dict[str, Json], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        grader(use, **knobs)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("def grades(text, item): return 1", r"has no function 'grade'; did you mean 'grades'"),
        ("def grade(text): return 1", r"takes \(text\); expected `def grade\(text, item\)"),
        ("def grade(text, item, more): return 1", r"takes \(text, item, more\)"),
        ("def grade(text, item, *, more): return 1", r"takes \(text, item, \*, more\)"),
        ("grade = lambda text: 1", r"takes \(text\)"),
        ("async def grade(text, item): return 1", r"is async"),
        ("class grade: pass", r"is a class"),
        ("def grade(text, item) return 1", r"line 1 is not Python"),
        ("READS = 'check'\ndef grade(text, item): return 1", r"READS \(line 1\) must be a plain tuple"),
        ("READS = tuple(x)\ndef grade(text, item): return 1", r"READS \(line 1\) must be a plain tuple"),
    ],
)
def test_an_own_file_that_does_not_fit_is_refused_before_it_runs(tmp_path: Path, source: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        grader(own(tmp_path, source))


@pytest.mark.parametrize(
    "source",
    [
        "def grade(text, item, more=1): return 1",
        "def grade(*both): return 1",
        "from elsewhere import grade",
        "try:\n    from fast import grade\nexcept ImportError:\n    def grade(text, item): return 1",
        "grade = make()",
    ],
)
def test_functions_that_can_be_called_with_two_arguments_are_accepted(tmp_path: Path, source: str) -> None:
    assert not grader(own(tmp_path, source)).inline


def test_exact_costs_at_most_three_microseconds_a_text() -> None:
    exact, texts, of = grader("exact"), ["Paris", "London"] * 8, item("Paris")
    best_s = 1.0
    for _ in range(5):
        start = time.process_time()
        for _ in range(500):
            exact.grade(texts, of)
        best_s = min(best_s, (time.process_time() - start) / (500 * len(texts)))
    assert best_s <= 3e-6


def test_a_grader_that_is_not_inline_gives_no_score_here() -> None:
    assert [s.reason for s in grader("regex", pattern="x").grade(["x"], item())] == [Reason.GRADER_ERROR]
    assert Score(1.0) not in grader("regex", pattern="x").grade(["x"], item())


def test_the_demo_knows_the_right_form_of_wrong_answers() -> None:
    number, words, thing = ({"kind": k} for k in ("number", "text", "json"))
    formed = {
        "#### 18": number,
        "9+9=17\n#### 17": number,
        "#### fig, kiwi, lime": words,
        "#### Monday": words,
        '{"name": "Zoe"}': thing,
    }
    shapeless = {
        "The answer is 18.": number,
        "#### 18 coins": number,
        "#### ": number,
        "#### fig, kiwi and lime": words,
        "fig, kiwi": words,
        'Here is the JSON: {"name": "Zoe"}': thing,
        "[1]": thing,
    }
    assert all(in_form(text, check) for text, check in formed.items())
    assert not any(in_form(text, check) for text, check in shapeless.items())
