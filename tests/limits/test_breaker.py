"""The breaker: leaves an endpoint alone that is down, and the only one it never leaves for long."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsmith.limits.breaker import Breaker


def failed(it: Breaker, now: float, n: int, ok: bool = False) -> None:
    epochs = [it.sent() for _ in range(n)]
    for epoch in epochs:
        it.back(now, ok, epoch)


def test_it_trips_at_more_than_half_of_at_least_five() -> None:
    it = Breaker(alone=False)
    failed(it, 0.0, 4)
    assert not it.down
    failed(it, 0.0, 1)
    assert it.down
    assert it.wait_s(0.0) == 5.0


def test_half_is_not_enough() -> None:
    it = Breaker(alone=False)
    for _ in range(50):
        failed(it, 0.0, 1, ok=True)
        failed(it, 0.0, 1)
    assert not it.down


def test_failures_of_half_a_minute_ago_do_not_count() -> None:
    it = Breaker(alone=False)
    failed(it, 0.0, 4)
    failed(it, 31.0, 1, ok=True)
    failed(it, 31.0, 4)
    assert not it.down


def test_a_server_that_served_thousands_is_believed_dead_after_26_failures() -> None:
    it = Breaker(alone=True)
    failed(it, 0.0, 5000, ok=True)
    failed(it, 1.0, 25)
    assert not it.down
    failed(it, 1.0, 1)
    assert it.down


def test_five_in_a_row_and_nothing_else_for_half_a_second_are_enough() -> None:
    it = Breaker(alone=True)
    failed(it, 0.0, 20, ok=True)
    for now in (1.0, 1.1, 1.2, 1.3):
        failed(it, now, 1)
    assert not it.down
    failed(it, 1.5, 1)
    assert it.down
    assert it.failing_since == 1.0


def probe(it: Breaker, now: float, ok: bool) -> float:
    """Waits as it asks, sends one and gets it back; returns when."""
    now += it.wait_s(now)
    epoch = it.sent()
    assert it.wait_s(now) == inf
    it.back(now, ok, epoch)
    return now


@pytest.mark.parametrize(("alone", "waits_s"), [(False, [5, 10, 20, 40, 60, 60]), (True, [0.5, 1, 2, 2, 2, 2])])
def test_one_probe_at_a_time_ever_more_rarely_until_one_succeeds(alone: bool, waits_s: list[float]) -> None:
    it, now = Breaker(alone=alone), 0.0
    failed(it, 0.0, 5)
    for wait_s in waits_s:
        assert it.wait_s(now) == pytest.approx(wait_s)
        now = probe(it, now, ok=False)
    probe(it, now, ok=True)
    assert not it.down
    assert it.wait_s(now) == 0
    assert it.failing_since is None
    failed(it, now, 4)
    assert not it.down


def test_what_was_sent_before_it_tripped_neither_closes_nor_prolongs() -> None:
    it = Breaker(alone=True)
    old = [it.sent() for _ in range(10)]
    for epoch in old[:5]:
        it.back(0.0, False, epoch)
    it.back(0.4, False, old[5])
    it.back(0.4, True, old[6])
    assert it.down
    assert it.wait_s(0.4) == pytest.approx(0.1)
    epoch = it.sent()
    it.back(0.6, False, old[7])
    assert it.wait_s(0.6) == inf
    it.back(0.7, True, epoch)
    assert not it.down


@given(st.booleans(), st.lists(st.tuples(st.floats(0.0, 20.0), st.booleans(), st.booleans()), max_size=200))
def test_whatever_comes_back_a_probe_is_let_through_in_time(alone: bool, steps: list[tuple[float, bool, bool]]) -> None:
    it, now, out = Breaker(alone=alone), 0.0, list[int]()
    for pause_s, send, ok in steps:
        now += pause_s
        wait_s = it.wait_s(now)
        assert wait_s >= 0
        assert wait_s == inf or wait_s <= (2.0 if alone else 60.0)
        if send and wait_s == 0:
            out.append(it.sent())
        elif out:
            it.back(now, ok, out.pop(0))
    for epoch in out:
        it.back(now, False, epoch)
    assert it.wait_s(now + (2.0 if alone else 60.0)) == 0
