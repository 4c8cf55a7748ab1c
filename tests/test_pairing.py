"""Chosen and rejected from scores: every rule over small tables, and properties over random ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsmith.outcomes import Pair
from prefsmith.pairing import Rule, Scored, pairs, quantile_cut
from prefsmith.reasons import Reason

ITEM = b"i" * 16
BOTH = ("best_worst", "correct_incorrect")


def scored(*scores: float) -> list[Scored]:
    return [Scored((1, i), b"s" * 16, score) for i, score in enumerate(scores)]


def made(rule: Rule, *scores: float) -> tuple[Pair, ...]:
    found = pairs(rule, scored(*scores), 7, ITEM)
    assert not isinstance(found, Reason)
    return found


def sides(found: tuple[Pair, ...]) -> list[tuple[int, int]]:
    return [(p.chosen[1], p.rejected[1]) for p in found]


def test_the_highest_score_is_chosen_and_the_lowest_rejected() -> None:
    (pair,) = made(Rule(), 0.2, 0.9, 0.1, 0.5)
    assert (pair.chosen, pair.rejected, pair.judge, pair.rule) == ((1, 1), (1, 2), 7, "best_worst")
    assert (pair.chosen_score, pair.rejected_score, pair.confirmed) == (0.9, 0.1, None)
    assert pair.margin == pytest.approx(0.8)


def test_further_pairs_go_inwards_and_share_no_completion() -> None:
    rule = Rule(max_per_prompt=9)
    assert sides(made(rule, 0.0, 4.0, 1.0, 3.0, 2.0)) == [(1, 0), (3, 2)]
    assert sides(made(replace(rule, max_per_prompt=1), 0.0, 4.0, 1.0, 3.0)) == [(1, 0)]


@pytest.mark.parametrize("scores", [(1.0, 1.0), (0.0, 0.0, 0.0), (0.0, -0.0)])
def test_equal_scores_are_a_tie(scores: tuple[float, ...]) -> None:
    assert pairs(Rule(), scored(*scores), 1, ITEM) is Reason.TIE


def test_a_margin_is_kept_from_its_bound_on() -> None:
    rule = Rule(min_margin=0.5)
    assert sides(made(rule, 0.5, 1.0)) == [(1, 0)]
    assert pairs(rule, scored(0.5625, 1.0), 1, ITEM) is Reason.BELOW_MARGIN


def test_the_chosen_side_needs_its_least_score() -> None:
    rule = Rule(min_chosen=0.6)
    assert sides(made(rule, 0.6, 0.1)) == [(0, 1)]
    assert pairs(rule, scored(0.5, 0.1), 1, ITEM) is Reason.CHOSEN_TOO_LOW


def test_a_margin_that_is_too_small_is_told_before_a_chosen_side_that_is_too_low() -> None:
    rule = Rule(min_margin=0.5, min_chosen=0.6)
    assert pairs(rule, scored(0.5, 0.1), 1, ITEM) is Reason.BELOW_MARGIN


def test_right_and_wrong_are_told_apart_by_one_bound() -> None:
    rule = Rule("correct_incorrect", correct=0.8)
    assert sides(made(rule, 0.79, 0.8)) == [(1, 0)]
    assert pairs(rule, scored(0.8, 0.9), 1, ITEM) is Reason.ALL_RIGHT
    assert pairs(rule, scored(0.1, 0.79), 1, ITEM) is Reason.ALL_WRONG


def test_a_right_one_meets_a_wrong_one_drawn_apart_from_it() -> None:
    """All 3 x 3 combinations come up; one draw for both sides would tie them together."""
    rule = Rule("correct_incorrect")
    seen = {
        sides(found)[0]
        for n in range(200)
        if not isinstance(found := pairs(rule, scored(1, 0, 1, 0, 1, 0), 1, n.to_bytes(16, "big")), Reason)
    }
    assert seen == {(c, r) for c in (0, 2, 4) for r in (1, 3, 5)}


def test_another_seed_draws_otherwise_and_the_same_one_the_same() -> None:
    picks = [sides(made(Rule("correct_incorrect", seed=seed), 1, 1, 1, 1, 0, 0, 0, 0)) for seed in range(40)]
    assert len({tuple(p) for p in picks}) > 8
    assert picks == [sides(made(Rule("correct_incorrect", seed=seed), 1, 1, 1, 1, 0, 0, 0, 0)) for seed in range(40)]


def test_a_quantile_cut_leaves_that_share_below() -> None:
    assert quantile_cut([0.4, 0.1, 0.3, 0.2], 50) == 0.3
    assert quantile_cut([0.4, 0.1, 0.3, 0.2], 1) == 0.1
    assert quantile_cut([0.5] * 10, 99) == 0.5
    assert quantile_cut([], 75) == 0.0
    assert all(quantile_cut([i / 100 for i in range(100)], p) == p / 100 for p in range(1, 100))


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=10),
    st.sampled_from(BOTH),
    st.integers(0, 3),
    st.integers(1, 4),
    st.none() | st.integers(0, 4),
)
def test_every_pair_keeps_every_promise_of_its_rule(
    scores: list[int], strategy: str, margin: int, most: int, least: int | None
) -> None:
    rule = Rule(strategy, margin, None, least, 3.0, most)  # type: ignore[arg-type]
    found = pairs(rule, scored(*scores), 1, ITEM)
    if isinstance(found, Reason):
        return
    used = [key for p in found for key in (p.chosen, p.rejected)]
    assert 1 <= len(found) <= most and len(set(used)) == len(used)
    for p in found:
        assert (p.chosen_score, p.rejected_score) == (scores[p.chosen[1]], scores[p.rejected[1]])
        assert p.margin > 0 and p.margin >= margin and (least is None or p.chosen_score >= least)
        assert strategy == "best_worst" or p.rejected_score < 3 <= p.chosen_score


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=8), st.sampled_from(BOTH))
def test_a_reason_is_given_only_when_it_is_true(scores: list[int], strategy: str) -> None:
    found = pairs(Rule(strategy, correct=3), scored(*scores), 1, ITEM)  # type: ignore[arg-type]
    holds = {
        Reason.TIE: len(set(scores)) == 1,
        Reason.ALL_RIGHT: min(scores) >= 3,
        Reason.ALL_WRONG: max(scores) < 3,
    }
    assert (
        holds[found]
        if isinstance(found, Reason)
        else not any(holds[r] for r in (*holds,) if r is not Reason.TIE) or (strategy == "best_worst")
    )
