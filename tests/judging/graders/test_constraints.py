"""Each condition has texts that meet it and texts that do not; the score is the share that holds."""

from __future__ import annotations

import time

import orjson
import pytest

from prefsmith.judging.graders.constraints import CONDITIONS, prepare_constraints
from prefsmith.outcomes import Score
from prefsmith.records import Json
from prefsmith.shelf import shelf

BEES = "Bees make honey. Long live the bees."
TABLE: list[tuple[str, Json, tuple[str, ...], tuple[str, ...]]] = [
    ("words", 3, ("a well-known story", "I don't know", "I don’t know."), ("two words", "one two three four")),
    ("words_max", 5, ("Sour, bright and fresh.", "Sour"), ("It is very sour and fresh.",)),
    ("words_min", 3, ("one two three", "a b c d"), ("one two",)),
    ("chars_max", 10, ("0123456789", "  0123456789 \n"), ("01234567890",)),
    (
        "sentences",
        2,
        (
            "A goat ran. It fell!",
            "One line\nAnother line",
            "It cost 3.50 dollars. Cheap?",
            "“Stop!” He ran.",
            "A goat. It fell. ***",
        ),
        ("One.", "One. Two. Three.", "A goat ran, it fell", ""),
    ),
    ("lines", 2, ("rain\nagain", "rain\n\nagain\n"), ("rain", "rain\nagain\nHere you are!")),
    (
        "bullets",
        2,
        ("- one\n- two", "* one\n\n* two", "• one\n•two"),
        ("- one", "Here:\n- one\n- two", "- one\n- two\n- three", "**one**\n**two**"),
    ),
    (
        "numbered",
        3,
        ("1. a\n2. b\n3. c", "1) a\n2) b\n3) c", "Steps:\n1. a\n   more\n2. b\n3. c"),
        ("1. a\n2. b", "1. a\n3. b\n2. c", "1. a\n2. b\n3. c\n4. d", "a\nb\nc", "1.5 a\n2.5 b\n3.5 c"),
    ),
    ("comma_list", 3, ("Mars, Venus, Earth", "a,b,c."), ("Mars, Venus", "Mars,, Venus", "Mars, Venus,\nEarth")),
    ("lower", True, ("the sea is calm.", "straße 9"), ("The sea", "42")),
    ("upper", True, ("MIND THE FLOOR!", "HAPPY 9TH"), ("MIND the floor", "42")),
    ("quoted", True, ('"Run as one"', "“Run as one”"), ("Run as one", '"Run" as "one"', '"Run" she said', '""')),
    ("question", True, ("What is it like?", '"What is it like?"'), ("I would ask. What?  Yes", "No")),
    ("exclaim", True, ("Well done!", "“Well done!”"), ("Well done.", "Well! Done.")),
    ("starts", "absolutely", ("Absolutely, try chess.", '"Absolutely!" I say'), ("Try absolutely", "Absolutelynot")),
    ("ends", "long live the bees.", (BEES, BEES.upper(), f'"{BEES}"', BEES + "\n"), (BEES + " Yes", BEES[:-1])),
    (
        "include",
        ["lantern", "goat"],
        ("The Goat ate a LANTERN.", "goat's lantern"),
        ("The goats ate a lantern.", "A goat.", "_goatee_ lantern"),
    ),
    (
        "has_any",
        ["$35", "35"],
        ("It is $35.", "35", "35 dollars", "only 35."),
        ("$135", "$35.50", "350", "1,35", "three"),
    ),
    (
        "avoid",
        ["snow"],
        ("It is cold and white.", "The snowman melts here now."),
        ("The snow is deep here.", "A Snow-covered roof and sky.", "It is _snow_ all over.", "White and cold"),
    ),
    ("no_char", ",", ("Eggs and toast.",), ("Eggs, toast.",)),
    (
        "json_keys",
        ["name", "age"],
        ('{"name": "Ann", "age": 3}', '```json\n{"age": 3, "name": null}\n```', '```{"age": 3, "name": 1}```'),
        (
            '{"name": "Ann"}',
            '{"name": 1, "age": 2, "x": 3}',
            'Here: {"name": 1, "age": 2}',
            '["name", "age"]',
            '{"name": 1, "age": 2, "age": 3}',
            '{"name": NaN, "age": 2}',
            '{"name": ' + "[" * 100_000,
        ),
    ),
    ("json_list", 2, ('["red", "blue"]', '```\n["red", "blue"]\n```'), ('["red"]', '{"a": 1, "b": 2}', "red, blue")),
    ("number", 1000, ("It is 1,000.", "= $1000.00", "7 + 993 = 1000"), ("1000 or 1", "none", "10000", "100")),
    ("only", "yes", ("Yes", "yes.", "**YES!**"), ("Yes, it is", "no", "")),
    ("first", ["yes"], ("Yes, it is.", "**Yes**", "yes"), ("No, yes", "It is: yes", "")),
    ("line", "the cat sat", ("the cat sat", "the cat sat\n"), ("The cat sat", "the cat sat.")),
]


def grade(check: Json, text: str) -> Score:
    return prepare_constraints({"check": check})(text)


def test_the_table_holds_every_condition() -> None:
    assert {name for name, *_ in TABLE} == set(CONDITIONS)


@pytest.mark.parametrize(("name", "value", "text"), [(n, v, t) for n, v, met, _ in TABLE for t in met])
def test_a_text_that_meets_the_condition_scores_one(name: str, value: Json, text: str) -> None:
    assert grade({name: value}, text) == Score(1.0)


@pytest.mark.parametrize(("name", "value", "text"), [(n, v, t) for n, v, _, failed in TABLE for t in failed])
def test_a_text_that_fails_its_one_condition_scores_a_half(name: str, value: Json, text: str) -> None:
    assert grade({name: value}, text) == Score(0.5, parts={"failed": [name]})


def test_every_check_of_the_shipped_prompts_can_be_read() -> None:
    rows = [orjson.loads(line) for line in (shelf("data") / "constraints.jsonl").read_bytes().splitlines()]
    for row in rows:
        assert grade(row["check"], "A text.").reason is None
    assert len(rows) == 126


def test_the_score_is_the_share_met_with_finished_as_one() -> None:
    check = {"sentences": 1, "words_max": 3, "include": ["cat"]}
    assert [grade(check, text).value for text in ("A cat.", "A dog.", "A dog. It ran.", "A dog ran off. It ran.")] == [
        1.0,
        0.75,
        0.25,
        0.25,
    ]


def test_a_null_condition_of_a_columnar_file_is_not_asked() -> None:
    assert grade({"lines": None, "words_max": 2.0}, "one two").value == 1.0


def test_decomposed_accents_are_the_same_text() -> None:
    assert grade({"words": 1, "include": ["résumé"], "chars_max": 6}, "re\u0301sume\u0301").value == 1.0


def test_an_unknown_condition_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"unknown condition 'word_max' in the column 'check'; did you mean 'words_max'"
    ):
        grade({"lines": 1, "word_max": 3}, "text")


BAD_VALUES: list[tuple[str, Json]] = [
    ("words", "3"),
    ("words", True),
    ("words", -1),
    ("words", 2.5),
    ("words", float("inf")),
    ("lower", False),
    ("include", []),
    ("include", [3]),
    ("starts", ""),
    ("number", "many"),
]


@pytest.mark.parametrize("check", [*({name: value} for name, value in BAD_VALUES), {}, {"lines": None}, "lines", None])
def test_a_check_that_cannot_be_used_is_no_score(check: Json) -> None:
    with pytest.raises(ValueError, match=r"expected|no condition|must be an object|is no number"):
        grade(check, "text")


@pytest.mark.parametrize("piece", ["a'", '."', "1,", "\n", "- ", "```", "_", "é", " .", "1. ", "“"])
def test_hostile_texts_are_graded_in_linear_time(piece: str) -> None:
    check = {name: value for name, value, *_ in TABLE}
    grade_text = prepare_constraints({"check": check})
    start = time.process_time()
    grade_text(piece * (200_000 // len(piece)))
    assert time.process_time() - start < 1.5
