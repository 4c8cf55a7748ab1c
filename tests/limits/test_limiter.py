"""The limiter of one endpoint: what it lets go and when, for whatever comes back."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsmith.limits import Limiter, Outcome
from prefsmith.limits.limiter import Ticket
from prefsmith.records import Quota

NOW = 100.0


def limiter(most: int = 8, rpm: float | None = None, tpm: float | None = None, alone: bool = True) -> Limiter:
    """Past its first second, in which it starts gently."""
    return Limiter(concurrency=most, rpm=rpm, tpm=tpm, now=NOW - 1, alone=alone)


def send_all(it: Limiter, now: float, n_tokens: float = 0.0) -> list[Ticket]:
    out = []
    while it.wait_s(now, n_tokens) == 0:
        out.append(it.sent(now, n_tokens))
    return out


def test_the_limit_is_the_recipes_and_then_only_an_answer_makes_room() -> None:
    it = limiter(3)
    tickets = send_all(it, NOW)
    assert len(tickets) == it.limit == it.n_in_flight == 3
    assert it.wait_s(NOW, 0) == math.inf
    it.back(NOW, tickets[0], Outcome.OK)
    assert it.wait_s(NOW, 0) == 0


def test_it_starts_gently() -> None:
    it = Limiter(concurrency=100, rpm=None, tpm=None, now=NOW, alone=True)
    assert len(send_all(it, NOW)) == 1
    assert len(send_all(it, NOW + 0.5)) == pytest.approx(50, abs=2)


def test_a_429_blocks_everything_for_as_long_as_it_says() -> None:
    it = limiter()
    tickets = send_all(it, NOW)
    it.back(NOW, tickets[0], Outcome.LIMITED, retry_after_s=7.0)
    for ticket in tickets[1:]:
        it.back(NOW + 1, ticket, Outcome.OK)
    assert it.blocked_until == NOW + 7
    assert it.wait_s(NOW + 2, 0) == pytest.approx(5.0)
    assert it.limited_since == NOW
    assert len(send_all(it, NOW + 7)) == 1


@pytest.mark.parametrize("said", [None, 0.0, -3.0, math.nan])
def test_without_a_word_the_wait_is_a_second_and_grows_with_the_storm(said: float | None) -> None:
    it, now, waits_s = limiter(), NOW, []
    for _ in range(2):  # two may be chance
        it.back(now, it.sent(now, 0), Outcome.LIMITED, retry_after_s=said)
        assert it.wait_s(now, 0) == 0
    while now < NOW + 3600:
        it.back(now, it.sent(now, 0), Outcome.LIMITED, retry_after_s=said)
        waits_s.append(it.blocked_until - now)
        now = it.blocked_until
    assert waits_s[0] == 1.0
    assert all(b > a - 1e-9 for a, b in pairwise(waits_s))
    at_a_minute = sum(w for w in waits_s if w < 4.0)
    assert 50 <= at_a_minute <= 70
    assert waits_s[-1] == pytest.approx(60.0)


def test_refusals_of_one_moment_are_one_episode_of_the_longest_wait() -> None:
    it = limiter()
    first, second, third, *_ = send_all(it, NOW)
    it.back(NOW, first, Outcome.LIMITED, retry_after_s=2.0)
    it.back(NOW, second, Outcome.LIMITED, retry_after_s=5.0)
    it.back(NOW, third, Outcome.LIMITED)
    assert (it.n_episodes, it.n_429, it.blocked_until) == (1, 3, NOW + 5)


def test_an_absurd_retry_after_is_capped_and_told() -> None:
    it = limiter()
    it.back(NOW, it.sent(NOW, 0), Outcome.LIMITED, retry_after_s=math.inf)
    assert it.blocked_until == NOW + 3600
    assert it.capped_retry_after_s == math.inf


def test_while_everything_is_refused_one_request_probes() -> None:
    it = limiter(64)
    for ticket in send_all(it, NOW):
        it.back(NOW, ticket, Outcome.LIMITED, retry_after_s=1.0)
    for second in range(1, 11):
        (probe,) = send_all(it, NOW + second)
        assert it.wait_s(NOW + second, 0) == pytest.approx(1.0)
        it.back(NOW + second, probe, Outcome.LIMITED, retry_after_s=1.0)
    (probe,) = send_all(it, NOW + 11)
    it.back(NOW + 11, probe, Outcome.OK)
    assert it.limited_since is None
    assert len(send_all(it, NOW + 12)) == 64


def test_a_probe_whose_answer_takes_long_does_not_hold_the_others_up() -> None:
    it = limiter(64)
    for ticket in send_all(it, NOW):
        it.back(NOW, ticket, Outcome.LIMITED, retry_after_s=1.0)
    for elapsed_s in range(8):
        send_all(it, NOW + 1 + elapsed_s)
    assert it.n_in_flight == 64


def test_a_server_that_tells_its_quota_is_paced_and_not_cut() -> None:
    it = limiter()
    tickets = send_all(it, NOW)
    it.back(NOW, tickets[0], Outcome.LIMITED, retry_after_s=1.0, quota=Quota(rpm=1200, n_requests_left=5))
    assert (it.limit, it.rpm) == (8, 1200)
    it.back(NOW + 2, tickets[1], Outcome.OK)
    it.back(NOW + 3, it.sent(NOW + 3, 0), Outcome.OK)
    it.back(NOW + 3, it.sent(NOW + 3, 0), Outcome.OVERLOADED)
    assert it.limit < 8


@pytest.mark.parametrize(
    ("declared", "told", "rpm"),
    [
        (None, Quota(), None),
        (None, Quota(rpm=500), 500),
        (100, Quota(rpm=500), 100),
        (900, Quota(rpm=500), 500),
        (900, Quota(rpm=0), 900),
        (900, Quota(rpm=math.nan), 900),
        (None, Quota(rpm=14400, requests_reset_s=7200), None),
    ],
)
def test_the_rate_is_the_smaller_of_what_is_declared_and_told(
    declared: float | None, told: Quota, rpm: float | None
) -> None:
    it = limiter(rpm=declared)
    it.back(NOW, it.sent(NOW, 0), Outcome.OK, quota=told)
    assert it.rpm == rpm


def test_an_empty_window_blocks_until_it_is_renewed_and_an_empty_bucket_does_not() -> None:
    it = limiter()
    it.back(NOW, it.sent(NOW, 0), Outcome.OK, quota=Quota(rpm=60, n_requests_left=0, requests_reset_s=60))
    assert it.wait_s(NOW, 0) == 0
    it.back(NOW, it.sent(NOW, 0), Outcome.OK, quota=Quota(tpm=6000, n_tokens_left=0, tokens_reset_s=12))
    assert it.blocked_until == NOW + 12


def test_a_second_refusal_soon_after_the_first_slows_the_pace_and_time_wins_it_back() -> None:
    it, quota = limiter(), Quota(rpm=600)

    def refused(now: float) -> None:
        first, second = it.sent(now, 0), it.sent(now, 0)
        it.back(now, first, Outcome.LIMITED, retry_after_s=1.0, quota=quota)
        it.back(now, second, Outcome.OK, quota=quota)

    refused(NOW)
    assert it.pace == 1.0
    refused(NOW + 10)
    assert it.pace == pytest.approx(0.97)
    it.back(NOW + 80, it.sent(NOW + 80, 0), Outcome.OK, quota=quota)
    assert it.pace == 1.0


def test_tokens_are_counted_as_estimated_and_corrected_by_what_they_cost() -> None:
    it = limiter(tpm=60_000)
    ticket = it.sent(NOW, 970)
    assert it.wait_s(NOW, 485) == pytest.approx(0.5)
    it.back(NOW, ticket, Outcome.OK, n_tokens=485)
    assert it.wait_s(NOW, 485) == 0


@pytest.mark.parametrize("outcome", [Outcome.LIMITED, Outcome.OVERLOADED, Outcome.REFUSED])
def test_a_refused_request_costs_no_tokens(outcome: Outcome) -> None:
    it = limiter(tpm=60_000)
    it.back(NOW, it.sent(NOW, 970), outcome)
    assert it.wait_s(max(NOW, it.blocked_until), 970) == 0


def test_refusals_do_not_say_that_the_endpoint_is_down_and_failures_do() -> None:
    it = limiter(16)
    for _ in range(5):
        it.back(NOW, it.sent(NOW, 0), Outcome.LIMITED)
        it.back(NOW, it.sent(NOW, 0), Outcome.REFUSED)
    assert not it.down
    limit = it.limit
    for _ in range(12):
        it.back(NOW, it.sent(NOW, 0), Outcome.FAILED)
    assert it.down
    assert it.failing_since == NOW
    assert it.limit == limit


outcomes = st.sampled_from(list(Outcome))
quotas = st.none() | st.builds(
    Quota,
    rpm=st.none() | st.floats(0, 1e4),
    n_requests_left=st.none() | st.floats(0, 10),
    requests_reset_s=st.none() | st.floats(0, 100),
    tpm=st.none() | st.floats(0, 1e6),
    n_tokens_left=st.none() | st.floats(0, 10),
    tokens_reset_s=st.none() | st.floats(0, 100),
)
steps = st.lists(
    st.tuples(
        st.floats(0.0, 5.0), st.booleans(), outcomes, st.floats(0, 5000), quotas, st.none() | st.floats(-1.0, 5000.0)
    ),
    max_size=80,
)


def test_a_quota_of_less_than_one_a_minute_is_none() -> None:
    it = limiter()
    it.back(NOW, it.sent(NOW, 0), Outcome.OK, quota=Quota(rpm=1e-300, tpm=1e-310))
    assert (it.rpm, it.tpm) == (None, None) and it.wait_s(NOW, 1.0) == 0


@given(st.integers(1, 6), st.booleans(), st.none() | st.floats(1.0, 1e6), steps)
@settings(deadline=None)
def test_whatever_comes_back_the_limit_holds_and_a_request_gets_through_in_the_end(
    most: int,
    alone: bool,
    tpm: float | None,
    steps: list[tuple[float, bool, Outcome, float, Quota | None, float | None]],
) -> None:
    it, now, out = Limiter(concurrency=most, rpm=None, tpm=tpm, now=NOW, alone=alone), NOW, list[Ticket]()
    for pause_s, send, outcome, n_tokens, quota, retry_after_s in steps:
        now += pause_s
        wait_s = it.wait_s(now, n_tokens)
        assert wait_s >= 0.0  # and so not NaN
        if send and wait_s == 0:
            out.append(it.sent(now, n_tokens))
            assert it.n_in_flight <= it.limit
        elif out:
            it.back(now, out.pop(len(out) // 2), outcome, quota=quota, retry_after_s=retry_after_s)
        assert it.n_in_flight == len(out)
        assert 1 <= it.limit <= most
        assert it.blocked_until <= now + 3600
    for ticket in out:
        it.back(now, ticket, Outcome.FAILED)
    for _ in range(10):
        wait_s = it.wait_s(now, 1.0)
        assert wait_s < math.inf
        now += wait_s
    assert it.wait_s(now, 1.0) == 0
