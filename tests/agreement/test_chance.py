"""Kappa and alpha against scikit-learn, a plain count of pairs, and Krippendorff's own worked examples."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import cohen_kappa_score

from prefsmith.agreement.chance import Level, alpha, confusion, kappa

VOTES = st.lists(st.tuples(st.sampled_from([1, 0, -1, -3]), st.sampled_from([1, 0, -1, -2, -3])), min_size=1)

# Krippendorff, Computing Krippendorff's Alpha-Reliability (2011), the data of its sections A, B and C.
BINARY = ("0100000010", "1110010000")
NOMINAL = ("aabbdcccedda", "babbbcccedd d".replace(" ", ""))
MISSING = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")


def ratings(*rows: str) -> np.ndarray:
    return np.array([[np.nan if c == "." else ord(c) - ord("0") for c in row] for row in rows], float).T


@settings(deadline=None)
@given(VOTES)
def test_kappa_is_scikit_learns_on_the_items_that_both_labelled(pairs: list[tuple[int, int]]) -> None:
    gold, vote = np.array(pairs, np.int8).T
    both = (gold >= -1) & (vote >= -1)
    value, n = kappa(gold, vote)
    assert n == both.sum()
    one_label = len({*gold[both], *vote[both]}) < 2
    if n == 0 or one_label:
        assert value is None
    else:
        assert value == pytest.approx(cohen_kappa_score(gold[both], vote[both]), abs=1e-9)


@settings(deadline=None)
@given(VOTES)
def test_every_item_with_gold_and_a_question_stands_once_in_the_confusion_table(pairs: list[tuple[int, int]]) -> None:
    gold, vote = np.array(pairs, np.int8).T
    table = confusion(gold, vote)
    assert sum(sum(row.values()) for row in table.values()) == int(((gold != -3) & (vote != -3)).sum())
    assert table["A"]["B"] == int(((gold == 1) & (vote == -1)).sum())
    assert table["B"]["none"] == int(((gold == -1) & (vote == -2)).sum())


@pytest.mark.parametrize(
    ("rows", "level", "published"),
    [
        (BINARY, "nominal", 0.095),
        (NOMINAL, "nominal", 0.692),
        (MISSING, "nominal", 0.743),
        (MISSING, "ordinal", 0.815),
        (MISSING, "interval", 0.849),
    ],
)
def test_alpha_is_what_krippendorff_published(rows: tuple[str, ...], level: Level, published: float) -> None:
    found = alpha(ratings(*rows), level)
    assert found is not None
    assert round(found, 3) == published


def by_pairs(units: np.ndarray, level: Level) -> float | None:
    """Alpha by its definition, one pair of ratings after the other."""
    held = [[x for x in unit if not np.isnan(x)] for unit in units]
    held = [unit for unit in held if len(unit) > 1]
    pooled = sorted(x for unit in held for x in unit)

    def distance(a: float, b: float) -> float:
        if level == "nominal":
            return float(a != b)
        if level == "interval":
            return (a - b) ** 2
        low, high = min(a, b), max(a, b)
        between = sum(1 for x in pooled if low <= x <= high)
        return 0.0 if a == b else (between - (pooled.count(a) + pooled.count(b)) / 2) ** 2

    n = len(pooled)
    if n < 2:
        return None
    seen = sum(sum(distance(a, b) for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in held) / n
    expected = sum(distance(a, b) for a, b in permutations(pooled, 2)) / (n * (n - 1))
    return None if expected == 0 else 1 - seen / expected


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(float, st.tuples(st.integers(1, 9), st.integers(2, 4)), elements=st.sampled_from([1, 2, 3, 5, np.nan])),
    st.sampled_from(["nominal", "ordinal", "interval"]),
)
def test_alpha_is_one_less_observed_over_expected_disagreement(units: np.ndarray, level: Level) -> None:
    found, plain = alpha(units, level), by_pairs(units, level)
    assert (found is None) == (plain is None)
    if plain is not None:
        assert found == pytest.approx(plain, abs=1e-9)
