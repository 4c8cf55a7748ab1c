"""Tokens of a request before it is sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from prefsmith.limits import TokenEstimate
from prefsmith.records import Usage


def used(n_tokens: int) -> Usage:
    return Usage(n_completion_tokens=n_tokens)


def test_before_anything_was_seen_an_answer_is_its_cap_or_256_tokens() -> None:
    it = TokenEstimate()
    assert it.tokens("s", 350, 1, 1024) == 100 + 256
    assert it.tokens("s", 350, 4, 100) == 100 + 400


def test_the_first_answers_are_estimated_by_their_ninth_decile_and_then_by_the_mean() -> None:
    it = TokenEstimate()
    for n_tokens in range(1, 100):
        it.observe("s", used(n_tokens))
    assert it.tokens("s", 0, 1, 1024) == 90
    for _ in range(1000):
        it.observe("s", used(40))
    assert abs(it.tokens("s", 0, 2, 1024) - 80) < 1e-3


def test_samplers_are_estimated_apart_and_a_usage_is_of_all_its_answers() -> None:
    it = TokenEstimate()
    it.observe("long", used(4000), n=4)
    it.observe("short", used(10))
    assert it.tokens("long", 0, 1, 4096) == 1000
    assert it.tokens("short", 0, 8, 4096) == 80


def test_a_server_that_says_nothing_teaches_nothing() -> None:
    it = TokenEstimate()
    it.observe("s", Usage())
    assert it.tokens("s", 0, 1, 1024) == 256


@given(st.lists(st.integers(0, 10_000), max_size=300), st.integers(1, 10_000), st.integers(1, 16))
def test_an_estimate_is_never_more_than_the_cap(seen: list[int], max_tokens: int, n: int) -> None:
    it = TokenEstimate()
    for n_tokens in seen:
        it.observe("s", used(n_tokens))
    assert 0 <= it.tokens("s", 0, n, max_tokens) <= n * max_tokens
