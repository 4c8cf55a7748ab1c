"""Intervals, ranks, calibration and strengths against scipy, scikit-learn and published figures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import minimize
from sklearn.metrics import brier_score_loss

from prefsmith.agreement.calibration import calibration
from prefsmith.agreement.intervals import MOST_CLUSTERS, mcnemar, percentiles, resampled, wilson
from prefsmith.agreement.ranks import kendall, spearman
from prefsmith.agreement.strength import strengths

XY = st.lists(st.tuples(st.integers(-4, 4), st.sampled_from([-1.0, -0.5, 0.0, 1.0])), min_size=2, max_size=60)


# Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
@pytest.mark.parametrize(
    ("k", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_newcombes_table(k: int, n: int, low: float, high: float) -> None:
    found = wilson(k, n)
    assert found is not None
    assert (round(found[0], 4), round(found[1], 4)) == (low, high)


@settings(deadline=None)
@given(st.integers(1, 5000), st.data())
def test_wilsons_interval_is_scipys(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    theirs = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@settings(deadline=None)
@given(st.integers(0, 400), st.integers(0, 400))
def test_mcnemars_p_is_the_exact_binomial(a: int, b: int) -> None:
    theirs = stats.binomtest(a, a + b).pvalue if a + b else 1.0
    assert mcnemar(a, b) == pytest.approx(theirs, abs=1e-9)


@settings(deadline=None)
@given(XY)
def test_rank_correlations_are_scipys(pairs: list[tuple[int, float]]) -> None:
    x, y = np.array(pairs, float).T
    if len(set(x)) < 2 or len(set(y)) < 2:
        assert spearman(x, y) is kendall(x, y) is None
        return
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-9)


def test_kendalls_tau_is_scipys_on_many_distinct_values() -> None:
    x, y = np.random.default_rng(1).normal(size=(2, 3000))
    y = x + 2 * y
    assert kendall(x, y) == pytest.approx(stats.kendalltau(x, y).statistic, abs=1e-9)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80))
def test_brier_is_scikit_learns_and_ece_the_mean_gap_of_ten_bins(pairs: list[tuple[float, bool]]) -> None:
    p, better = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    found = calibration(p, better)
    assert found["brier"] == pytest.approx(brier_score_loss(better, p, labels=[False, True]), abs=1e-9)
    sure, gap = np.maximum(p, 1 - p), 0.0
    right = np.where(p == 0.5, 0.5, (p > 0.5) == better)
    for low in range(10):
        inside = (sure > low / 10) & (sure <= (low + 1) / 10)
        if inside.any():
            gap += abs(sure[inside].mean() - right[inside].mean()) * inside.sum()
    assert found["ece"] == pytest.approx(gap / len(p), abs=1e-9)
    assert sum(one["n"] for one in found["bins"]) == len(p)


def test_a_judge_that_is_right_as_often_as_it_says_has_no_calibration_error() -> None:
    p = np.array([0.75] * 4 + [0.25] * 4)
    assert calibration(p, np.array([1, 1, 1, 0, 0, 0, 0, 1], bool))["ece"] == 0


# American League 1987: Agresti, Categorical Data Analysis; the strengths as in the vignette of R's BradleyTerry2.
TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
WINS = [
    [0, 7, 9, 7, 7, 9, 11],
    [6, 0, 7, 5, 11, 9, 9],
    [4, 6, 0, 7, 7, 8, 12],
    [6, 8, 6, 0, 6, 7, 10],
    [6, 2, 6, 7, 0, 7, 12],
    [4, 4, 5, 6, 6, 0, 6],
    [2, 4, 1, 3, 1, 7, 0],
]
OVER_BALTIMORE = {
    "Milwaukee": 1.5814,
    "Detroit": 1.4364,
    "Toronto": 1.2945,
    "New York": 1.2476,
    "Boston": 1.1077,
    "Cleveland": 0.6839,
    "Baltimore": 0.0,
}


def test_strengths_are_those_published_for_the_american_league() -> None:
    found = strengths(np.array(WINS, float), TEAMS)["models"]
    assert [one["model"] for one in found] == list(OVER_BALTIMORE)
    base = found[-1]["strength"]
    assert {one["model"]: round(one["strength"] - base, 4) for one in found} == OVER_BALTIMORE


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5), st.integers(0, 10**6))
def test_strengths_are_the_maximum_of_the_likelihood(n: int, seed: int) -> None:
    wins = np.random.default_rng(seed).integers(1, 30, size=(n, n)).astype(float)
    np.fill_diagonal(wins, 0)
    found = {one["model"]: one["strength"] for one in strengths(wins, tuple("abcdefg"[:n]))["models"]}
    mine = np.array([found[name] for name in "abcdefg"[:n]])

    def loss(v: np.ndarray) -> float:
        return float((wins * np.logaddexp(0, v[None, :] - v[:, None])).sum())

    theirs = minimize(loss, np.zeros(n), method="BFGS", options={"gtol": 1e-10})
    assert loss(mine) <= theirs.fun + 1e-9
    assert mine == pytest.approx(theirs.x - theirs.x.mean(), abs=1e-4)
    p = 1 / (1 + np.exp(mine[None, :] - mine[:, None]))
    assert ((wins + wins.T) * p).sum(axis=1) == pytest.approx(wins.sum(axis=1), abs=1e-8)


@pytest.mark.parametrize(
    "wins",
    [
        [[0, 3, 1], [0, 0, 1], [0, 1, 0]],  # the first never lost: its strength has no maximum
        [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]],  # two leagues that never met
    ],
)
def test_strengths_of_a_table_that_is_not_strongly_connected_are_refused(wins: list[list[int]]) -> None:
    found = strengths(np.array(wins, float), tuple("abcd"[: len(wins)]))
    assert set(found) == {"refused"}
    assert "2 sets of models" in found["refused"]


def test_the_bootstrap_of_single_items_has_the_width_of_the_binomial() -> None:
    hit = np.arange(2000) % 4 > 0
    draws = resampled(np.arange(2000), [hit, np.ones(2000)], seed=3)
    low, high = percentiles(draws.shares(0, 1)) or (0, 0)
    assert low < 0.75 < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.75 * 0.25 / 2000), rel=0.1)


def test_items_of_one_prompt_are_drawn_together() -> None:
    hit = np.repeat(np.arange(200) % 4 > 0, 10)  # ten equal items a prompt are as good as one
    together = resampled(np.repeat(np.arange(200), 10), [hit, np.ones(2000)], seed=3)
    low, high = percentiles(together.shares(0, 1)) or (0, 0)
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(0.75 * 0.25 / 200), rel=0.15)
    again = resampled(np.repeat(np.arange(200), 10), [hit, np.ones(2000)], seed=3)
    assert np.array_equal(together.sums, again.sums)


def test_beyond_twenty_thousand_prompts_a_sample_of_them_is_drawn_from() -> None:
    n = MOST_CLUSTERS + 500
    draws = resampled(np.arange(n), [np.ones(n)], seed=0)
    assert (draws.n_clusters, draws.n_drawn_from) == (n, MOST_CLUSTERS)
    assert set(draws.sums[:, 0]) == {float(MOST_CLUSTERS)}
