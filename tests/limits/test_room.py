"""Two models of one server: what one leaves is the other's at once, unless the server counts each by itself."""

from __future__ import annotations

import pytest
from simulation import Run
from two_models import SAMPLE, VERDICT, Server, Work

from prefsmith.limits.room import N_ODD, Room


def room(limit: int, *, refused: str = "a") -> Room:
    """Of 64, refused to `refused` at its first one above the limit."""
    it = Room(0.0, 64)
    numbers = [it.sent() for _ in range(limit + 1)]
    it.refused(0.1, numbers[-1], refused, cut=True, asked_s=1.0)
    assert it.held.limit == limit
    return it


def work(in_virtual_time: Run, server: Server, n_prompts: int, **more: float) -> Work:
    it = Work(server, n_prompts, **more)  # type: ignore[arg-type]
    in_virtual_time(it.run())
    return it


def limits(of: Work) -> dict[str, int]:
    return {kind: lane.lines[0].limiter.limit for kind, lane in of.lanes.items()}


@pytest.mark.parametrize("tied", [0.05, 0.25, 1.0])
def test_a_hidden_limit_of_16_for_two_models_together_is_used_whoever_has_work(
    in_virtual_time: Run, tied: float
) -> None:
    """Start and end, the refusal that finds the limit and a try beyond it included."""
    server = Server(most=16)
    it = work(in_virtual_time, server, 500, tied=tied)
    assert server.in_flight(0, server.end) >= 0.92 * 16
    assert server.n_refused <= 0.02 * len(server.ended)
    assert set(limits(it).values()) <= {15, 16, 17}


def test_who_has_fewer_in_flight_gets_the_next_free_place(in_virtual_time: Run) -> None:
    """Or verdicts would wait until nothing is left to sample."""
    server = Server(most=16)
    work(in_virtual_time, server, 500, tied=1.0)
    assert server.in_flight(4, 18, VERDICT) >= 0.45 * 16


@pytest.mark.parametrize("tied", [0.25, 1.0])
def test_a_server_that_counts_each_model_by_itself_is_found_out(in_virtual_time: Run, tied: float) -> None:
    server = Server(each=16)
    it = work(in_virtual_time, server, 1000, tied=tied)
    end = max(at for at, _, kind in server.ended if kind == SAMPLE)
    assert it.lanes[SAMPLE].lines[0].limiter.limit in (15, 16, 17)
    assert server.in_flight(10, end, SAMPLE) >= 0.92 * 16
    if tied == 1.0:
        assert server.in_flight(10, end, VERDICT) >= 0.9 * 16


def test_both_models_are_at_work_again_soon_after_one_was_refused_everything_for_a_while(in_virtual_time: Run) -> None:
    server = Server(most=64, ill=(10, 30))
    work(in_virtual_time, server, 2000, tied=1.0)
    assert server.in_flight(0, 10) > 0.85 * 64
    assert server.in_flight(35, 45) > 0.6 * 64


def test_nothing_is_shared_where_nothing_was_refused(in_virtual_time: Run) -> None:
    server = Server()
    work(in_virtual_time, server, 800, tied=1.0, n_slots=16)
    end = max(at for at, _, kind in server.ended if kind == SAMPLE)
    assert server.in_flight(2, end - 1, SAMPLE) > 15.5 and server.in_flight(2, end - 1, VERDICT) > 15.5


def test_others_than_the_refused_may_go_one_beyond_and_no_more_when_that_is_refused() -> None:
    it = room(16)
    assert it.n_free("a", 16) == 0 and it.n_free("b", 0) == 1
    number = it.sent()
    assert it.n_free("b", 1) == 0
    it.refused(0.2, number, "b", cut=True, asked_s=1.0)
    assert it.held.limit == 16 and it.n_free("b", 0) == 0 and not it.apart


def test_who_has_most_of_the_limit_in_flight_may_not_go_beyond_it() -> None:
    """It may have a limit of its own, and its refusal would say nothing of the common one."""
    assert room(16).n_free("b", 13) == 0


def test_answers_far_beyond_the_limit_part_the_models() -> None:
    it = room(16)
    for _ in range(5):
        assert not it.apart
        while it.n_free("b", 0) >= 1:
            number = it.sent()
        it.answered(1.0, number)
    assert it.apart
    assert it.n_free("a", 64) > 64


def test_refusals_of_what_was_held_before_part_the_models() -> None:
    it = room(16)
    for i in range(N_ODD):
        assert not it.apart
        for number in range(4 * i, 4 * i + 4):
            it.failed(number)
        it.answered(1.0 + i, it.sent())
        it.refused(2.0 + i, it.sent(), "a", cut=True, asked_s=None)
    assert it.apart
