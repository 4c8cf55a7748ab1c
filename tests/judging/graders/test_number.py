"""Numbers are read whole, and only where a reader would see one."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsmith.judging.graders.number import as_number, last_number


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12 apples and 7 more make 19.", "19"),
        ("so $18", "18"),
        ("**18**", "18"),
        ("\\boxed{18}", "18"),
        ("18 %", "18"),
        ("1,000", "1000"),
        ("1,234,567.50 in all", "1234567.5"),
        ("1\u202f000 km", "1000"),
        ("the sizes are 1,2,300", "300"),
        ("1, 2, 3", "3"),
        ("3.50", "3.5"),
        ("about .5", "0.5"),
        ("x = -4", "-4"),
        ("x = \u22124", "-4"),
        ("a loss of -$18", "-18"),
        ("10-4", "4"),
        ("pages 3-5", "5"),
        ("(2)-1", "1"),
        ("1e3", "1000"),
        ("2.5E-2", "0.025"),
        ("18 grams of CO2", "18"),
        ("18 of H2O", "18"),
        ("18km", "18"),
        ("07", "7"),
        ("18.", "18"),
        ("1.2.3", "3"),
    ],
)
def test_the_last_number_is_read_whole(text: str, number: str) -> None:
    assert last_number(text) == Decimal(number)


@pytest.mark.parametrize("text", ["", "none", "H2O", "eighteen", "-", "$", "...", "abc123"])
def test_a_text_without_a_number_has_none(text: str) -> None:
    assert last_number(text) is None


@pytest.mark.parametrize("value", ["18", " 18 ", "18.0", "$18", "18%", "18.", "+18", 18, 18.0, "1.8e1"])
def test_a_reference_that_is_one_number_is_read(value: object) -> None:
    assert as_number(value) == 18


@pytest.mark.parametrize("value", ["", "abc", "18 km", "3,5", "1,2", "17 18", "10-4", True, None, [18], float("nan")])
def test_a_reference_that_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="is no number"):
        as_number(value)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9))
def test_every_way_to_write_a_number_reads_the_same(number: Decimal) -> None:
    for written in (f"{number}", f"{number:,}", f"It is {number:,}.", f"{number}000"):
        assert last_number(written) == number


@pytest.mark.parametrize("text", ["1" * 100_000, "1,111" * 20_000, "1." * 50_000, "-" * 100_000, "1e" * 50_000])
def test_a_hostile_text_is_read_in_linear_time(text: str) -> None:
    start = time.process_time()
    last_number(text)
    assert time.process_time() - start < 0.5


def test_a_reference_in_gsm8ks_form_counts_from_its_last_mark_on() -> None:
    from prefsmith.judging.graders import make_grader
    from prefsmith.recipe import Judge
    from prefsmith.records import Item, Prompt

    item = Item(Prompt(({"role": "user", "content": "How many?"},)), reference="4*11=44\n#### 1,044")
    scores = make_grader(Judge(use="number")).grade(["It is 1044.", "44"], item)
    assert [score.value for score in scores] == [1.0, 0.0]
