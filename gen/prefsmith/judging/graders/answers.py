"""Graders that compare a text with the item's reference, or with a text of the recipe.

Each `prepare_…` reads the item's columns once and returns the grader of its texts. It raises ValueError where the item
cannot be graded; whoever calls it turns that into a verdict without a value. Nothing here knows a worker or a key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prefsmith.judging.graders.number import as_number, last_number
from prefsmith.outcomes import Score
from prefsmith.records import Json

RIGHT, WRONG = Score(1.0), Score(0.0)
GradeText = Callable[[str], Score]


def prepare_exact(columns: Mapping[str, Json], ignore_case: bool) -> GradeText:
    """The text equals the reference, outer white space of both apart."""
    wanted = _reference(columns)
    if ignore_case:
        folded = wanted.casefold()
        return lambda text: RIGHT if text.strip().casefold() == folded else WRONG
    return lambda text: RIGHT if text.strip() == wanted else WRONG


def prepare_number(columns: Mapping[str, Json]) -> GradeText:
    """The last number of the text is the reference; a text without a number is wrong.

    A reference in GSM8K's form counts from its last `####` on.
    """
    try:
        wanted = as_number(_reference(columns).rpartition("####")[2].strip())
    except ValueError as error:
        raise ValueError(f"the reference {error}") from None
    return lambda text: RIGHT if last_number(text) == wanted else WRONG


def prepare_contains(columns: Mapping[str, Json], text: str | None, ignore_case: bool) -> GradeText:
    """The recipe's text, or the item's reference, occurs in the answer."""
    wanted = _reference(columns) if text is None else text
    if not wanted:
        raise ValueError("the reference is empty, and so in every text")
    if ignore_case:
        folded = wanted.casefold()
        return lambda answer: RIGHT if folded in answer.casefold() else WRONG
    return lambda answer: RIGHT if wanted in answer else WRONG


def _reference(columns: Mapping[str, Json]) -> str:
    reference = columns["reference"]
    if not isinstance(reference, str):
        raise ValueError(f"the reference must be a text, got {reference!r}")
    return reference.strip()
