"""What the scripted fake says when it is asked as a judge: what the marks in the texts call for, in any kind's form.

Pure. The words are those of a request's `labels`; it does not know judges.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import lru_cache
from itertools import groupby

from prefsmith.records import Token

LISTED = ("-",)
"""The labels of a request for a list of questions."""
QUESTIONS = tuple(f"Is the quality at least {d}?" for d in (3, 5, 7))
SURE = 0.8
"""The probability that it gives to what it says; the other labels share the rest."""
_MARK = "quality="
_AT_LEAST = re.compile(r"at least (\d)\?")


def right_label(text: str, labels: tuple[str, ...], drawn: Callable[[], int]) -> str:
    """The label that the marks in the text call for; without marks that fit, one by the draw."""
    if labels == LISTED:
        return "\n".join(f"- {question}" for question in QUESTIONS)
    if ">" in labels:
        return _ranking(last_marks(text, len(labels) - 2), labels[:-2])
    marks, scale = last_marks(text, 2), _scale(labels)
    if marks and scale is not None:
        low, high = scale
        # A scale of nine or more takes the mark as it is; a shorter one is divided evenly.
        return str(low + (min(high - low, marks[-1]) if high - low >= 8 else marks[-1] * (high - low + 1) // 10))
    if marks and labels == ("YES", "NO"):
        asked = _AT_LEAST.findall(text)
        return "YES" if asked and marks[-1] >= int(asked[-1]) else "NO"
    if len(marks) == 2 and "A" in labels and "B" in labels:
        first, second = marks
        if first != second:
            return "A" if first > second else "B"
        if "TIE" in labels:
            return "TIE"
    return labels[drawn() % len(labels)]


def _ranking(marks: list[int], letters: tuple[str, ...]) -> str:
    """Unmarked texts, of which there is no telling where they stand, make all equal."""
    if len(marks) < len(letters):
        return " = ".join(letters)
    ranked = sorted(zip(marks, letters, strict=True), key=lambda one: -one[0])
    groups = groupby(ranked, key=lambda one: one[0])
    return " > ".join(" = ".join(letter for _, letter in group) for _, group in groups)


def likely(text: str, labels: tuple[str, ...]) -> tuple[Token, ...] | None:
    """A verdict's tokens, the label with its alternatives; None for a text without a label at its end."""
    head, _, label = text.rpartition(" ")
    if label not in labels:
        return None
    rest = (1 - SURE) / max(1, len(labels) - 1)
    top = tuple((f" {one}", math.log(SURE if one == label else rest)) for one in labels)
    return (Token(head, -0.1), Token(f" {label}", math.log(SURE), top))


def last_marks(text: str, most: int) -> list[int]:
    """The last ones, from the end on: a judge's prompt is long, and this is done for every verdict."""
    out: list[int] = []
    at = len(text)
    while len(out) < most and (at := text.rfind(_MARK, 0, at)) >= 0:
        digit = text[at + len(_MARK) : at + len(_MARK) + 1]
        if digit.isdecimal():
            out.insert(0, int(digit))
    return out


@lru_cache(maxsize=64)
def _scale(labels: tuple[str, ...]) -> tuple[int, int] | None:
    """Lowest and highest of labels that are all numbers."""
    if not all(label.isdigit() for label in labels):
        return None
    numbers = [int(label) for label in labels]
    return min(numbers), max(numbers)
