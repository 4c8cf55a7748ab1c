"""The bucket of tokens: what is taken never exceeds what was there and what came since."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsmith.limits.bucket import Bucket

amounts = st.floats(0.0, 5000.0)


def test_a_full_bucket_serves_its_capacity_at_once_and_then_its_rate() -> None:
    it = Bucket(0.0, per_minute=600, capacity=50)
    assert it.wait_s(0.0, 50) == 0
    it.take(0.0, 50)
    assert it.wait_s(0.0, 20) == pytest.approx(2.0)
    assert it.wait_s(2.0, 20) == 0


def test_what_is_larger_than_the_bucket_goes_when_it_is_full_and_the_next_pays_for_it() -> None:
    it = Bucket(0.0, per_minute=600, capacity=50)
    assert it.wait_s(0.0, 500) == 0
    it.take(0.0, 500)
    assert it.wait_s(0.0, 10) == pytest.approx(46.0)


def test_an_estimate_that_was_too_high_is_given_back_and_one_too_low_is_paid_later() -> None:
    it = Bucket(0.0, per_minute=600, capacity=50)
    it.take(0.0, 50)
    it.refund(0.0, 30)
    assert it.wait_s(0.0, 30) == 0
    it.refund(0.0, -60)
    assert it.wait_s(0.0, 10) == pytest.approx(4.0)


def test_a_refund_never_overfills() -> None:
    it = Bucket(0.0, per_minute=600, capacity=50)
    it.refund(0.0, 1000)
    assert it.level == 50


def test_another_rate_counts_from_now_on() -> None:
    it = Bucket(0.0, per_minute=600, capacity=50)
    it.take(0.0, 50)
    it.retune(1.0, per_minute=60, capacity=50)
    assert it.level == pytest.approx(10)
    assert it.wait_s(1.0, 20) == pytest.approx(10.0)


@given(st.lists(st.tuples(st.floats(0.0, 3.0), amounts), max_size=60), st.floats(1.0, 1e6), st.floats(1.0, 1e4))
def test_over_any_time_no_more_is_taken_than_the_bucket_held_and_was_given(
    steps: list[tuple[float, float]], per_minute: float, capacity: float
) -> None:
    it, now, taken = Bucket(0.0, per_minute, capacity), 0.0, list[tuple[float, float]]()
    for pause_s, amount in steps:
        now += pause_s
        now += it.wait_s(now, amount)
        assert it.wait_s(now, amount) <= 1e-6
        it.take(now, amount)
        taken.append((now, amount))
    for i, (start, _) in enumerate(taken):
        for (at, last), total in zip(taken[i:], accumulate(a for _, a in taken[i:]), strict=True):
            # The last may be larger than the bucket: it goes when that is full.
            over = max(0.0, last - capacity)
            assert total - over <= capacity + (at - start) * per_minute / 60 + 1e-3
