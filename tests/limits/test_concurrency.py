"""The limit of requests in flight: one cut an episode, to what was held; growth only at need, ever more rarely."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

from prefsmith.limits.concurrency import Concurrency


class Served:
    """A server of equal answers: each look, one second apart, fills the limit and then gets everything back."""

    def __init__(self, most: int, holds: int, asked_s: float | None = None) -> None:
        self.it, self.holds, self.asked_s, self.now = Concurrency(0.0, most), holds, asked_s, 0.0
        self.n_refused = 0
        self.refused_at: list[float] = []

    def round(self, n: int | None = None) -> None:
        self.now += 1.0
        numbers = deque[int]()
        while self.it.n_in_flight < (self.it.limit if n is None else n):
            numbers.append(self.it.sent())
        accepted = [numbers.popleft() for _ in range(min(self.holds, len(numbers)))]
        for number in numbers:
            if self.it.refused(self.now, number, asked_s=self.asked_s):
                self.refused_at.append(self.now)
            self.n_refused += 1
        for number in accepted:
            self.it.answered(self.now, number)


def test_it_starts_with_the_most() -> None:
    assert Concurrency(0.0, 64).limit == 64


def test_a_hidden_limit_is_found_in_one_episode() -> None:
    it = Served(64, holds=16)
    it.round()
    assert (it.it.limit, it.n_refused, len(it.refused_at)) == (16, 48, 1)


def test_refusals_of_what_was_sent_before_the_cut_are_of_the_same_episode() -> None:
    it = Concurrency(0.0, 8)
    numbers = [it.sent() for _ in range(8)]
    assert it.refused(1.0, numbers[0])
    after = it.limit
    assert not it.refused(1.5, numbers[1])
    assert (after, it.limit) == (7, 6)


def test_the_limit_never_falls_below_one() -> None:
    it = Concurrency(0.0, 2)
    for now in range(1, 9):
        it.answered(now, it.sent())
        first, second = it.sent(), it.sent()
        it.refused(now + 0.5, second)
        it.refused(now + 0.5, first)
    assert it.limit == 1


def test_tries_beyond_a_refused_ceiling_become_ever_rarer() -> None:
    it = Served(64, holds=16)
    for _ in range(1200):
        it.round()
    gaps = [round(b - a) for a, b in pairwise(it.refused_at)]
    assert gaps[:4] == [10, 21, 41, 81]
    assert max(gaps) <= 301
    assert it.n_refused - 48 == len(gaps)
    assert it.it.limit in (16, 17)


def test_a_server_that_asks_to_wait_for_long_is_tried_the_more_rarely() -> None:
    it = Served(64, holds=16, asked_s=3.0)
    for _ in range(300):
        it.round()
    assert [round(b - a) for a, b in pairwise(it.refused_at)] == [60, 121]


def test_room_that_was_found_is_grown_into_at_once() -> None:
    it = Served(64, holds=4)
    it.round()
    assert it.it.limit == 4
    it.holds = 64
    for _ in range(20):
        it.round()
    assert it.it.limit == 64


def test_it_does_not_grow_while_the_limit_is_not_reached() -> None:
    it = Served(64, holds=16)
    it.round()
    for _ in range(100):
        it.round(n=15)
    assert it.it.limit == 16


def test_a_storm_does_not_cut() -> None:
    it = Served(64, holds=64)
    it.round()
    old = [it.it.sent() for _ in range(40)]
    new = [it.it.sent() for _ in range(24)]
    for number in new:
        it.it.refused(2.0, number)
    assert it.it.refused(3.0, it.it.sent())
    assert it.it.storm
    for number in old:
        it.it.answered(4.0, number)
    assert it.it.storm
    it.it.answered(5.0, it.it.sent())
    assert not it.it.storm
    assert (it.it.limit, it.it.n_in_flight, it.it.n_out) == (64, 0, 0)


def test_a_storm_from_the_start_gives_back_what_its_first_refusals_cut() -> None:
    it = Concurrency(0.0, 64)
    numbers = [it.sent() for _ in range(3)]
    it.refused(1.0, numbers[0])
    assert it.limit == 2
    for number in numbers[1:]:
        it.refused(1.0, number)
    assert it.storm
    assert it.limit == 64


def test_one_refusal_of_what_was_held_before_is_chance() -> None:
    it = Served(16, holds=16)
    it.round()
    numbers = [it.it.sent() for _ in range(3)]
    it.it.answered(2.0, numbers[0])
    it.it.refused(2.0, numbers[1])
    assert it.it.limit == 16


def test_a_server_that_holds_less_than_before_is_cut_to_that_in_a_few_episodes() -> None:
    it = Served(16, holds=16)
    it.round()
    it.holds = 4
    for _ in range(4):
        it.round()
    assert it.it.limit == 4


def test_a_refusal_for_the_rate_cuts_nothing_but_is_an_episode() -> None:
    it = Concurrency(0.0, 8)
    numbers = [it.sent() for _ in range(8)]
    assert it.refused(1.0, numbers[0], cut=False)
    assert not it.refused(1.0, numbers[1], cut=False)
    assert it.limit == 8
