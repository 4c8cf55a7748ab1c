"""Means and their error, over samples drawn from sources whose whole is known."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsmith.prices import Price, cost_nanousd
from prefsmith.records import Usage
from prefsmith.stages.expected import Left, error, judging, sampling
from prefsmith.stages.took import Took

PRICE = Price(1_000_000_000, 500_000_000, 4_000_000_000)
LONG = Price(10, 10, 10, long_above_tokens=100, long=Price(20, 20, 20))


def took(n: int, n_in: int, n_out: int, price: Price = PRICE, cached: int = 0) -> Took:
    usage = Usage(n_in, cached, n_out)
    cost = cost_nanousd(price, usage)
    return Took(n, n, n, n, n * n_in, n * n_out, n * (cost or 0), n * 0.5)


@given(st.integers(0, 300), st.integers(1, 40))
@settings(max_examples=50)
def test_prompt_tokens_follow_the_bytes_of_prompts_that_the_sample_does_not_have(n_fixed: int, each: int) -> None:
    """A sample of short prompts tells the long ones, whatever a template adds to each."""
    sizes = [40 * i for i in range(1, 9)]
    of = [took(4, n_fixed + x // 4, each) for x in sizes]
    left = Left(n_requests=4, n_answers=4, n_bytes=4 * 8000)
    found = sampling(left, of, sizes, PRICE)
    assert found.n_prompt_tokens == pytest.approx(4 * (n_fixed + 2000), rel=1e-9)
    assert found.n_answer_tokens == pytest.approx(4 * each)
    assert found.nanousd == pytest.approx(4 * (n_fixed + 2000 + 4 * each) * 1000, rel=1e-3)


def test_a_flat_sample_tells_its_mean() -> None:
    found = sampling(Left(10, 20, 10 * 900), [took(2, 50, 7)] * 3, [100] * 3, PRICE)
    assert (found.n_requests, found.n_prompt_tokens, found.n_answer_tokens) == (10, 500, 140)


def test_failed_attempts_are_sent_again_in_the_rest_too() -> None:
    of = [Took(3, 2, 2, 2, 80, 20, 0, 1.5)] * 4
    found = sampling(Left(20, 20, 20), of, [1] * 4, PRICE)
    assert found.n_requests == 30 and found.n_prompt_tokens == 800


@pytest.mark.parametrize("price", [PRICE, LONG])
def test_what_a_cache_saved_and_long_prompts_cost_stays_in_the_forecast(price: Price) -> None:
    of = [took(1, 200, 10, price, cached=150)] * 5
    found = sampling(Left(50, 50, 50), of, [1] * 5, price)
    assert found.nanousd == pytest.approx(10 * sum(t.nanousd for t in of))


def test_nobody_who_told_no_tokens_is_taken_for_free() -> None:
    silent = [Took(2, 2, 0, 0, 0, 0, 0, 1.0)] * 4
    found = sampling(Left(8, 8, 8), silent, [1] * 4, PRICE)
    assert (found.n_requests, found.wall_s) == (8, 4) and (found.n_prompt_tokens, found.nanousd) == (None, None)
    found = judging(Left(), silent, 10, PRICE)
    assert (found.n_requests, found.nanousd) == (20, None)
    assert judging(Left(), [took(1, 10, 1)], 10, None).nanousd is None


def test_an_unfinished_prompt_has_some_of_its_verdicts() -> None:
    assert judging(Left(n_begun=5), [took(4, 10, 1), took(0, 0, 0)], 10, PRICE).n_requests == 15


def test_a_forecast_is_off_by_more_than_it_says_one_time_in_twenty() -> None:
    """A judge that a quarter of the prompts come to, four texts each, of unequal length."""
    random, n_outside, n_times = Random(5), 0, 400
    for _ in range(n_times):
        source = [took(4 * (random.random() < 0.25), random.randint(100, 400), 12) for _ in range(600)]
        sample, rest = source[:64], source[64:]
        found = judging(Left(), sample, len(rest), PRICE)
        off = error([found.off], len(rest))
        assert off is not None and found.nanousd is not None
        n_outside += abs(found.nanousd - sum(t.nanousd for t in rest)) > off.nanousd
    assert 0.02 < n_outside / n_times < 0.09


def test_three_prompts_do_not_show_how_much_they_differ() -> None:
    assert error([judging(Left(), [took(1, 10, 1)] * 3, 10, PRICE).off], 10) is None
