"""The queue in front of one backend: order, slots, 429s and the end of an endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from prefsmith.backends import resolve
from prefsmith.errors import CallFailed
from prefsmith.lanes import Lane
from prefsmith.reasons import Reason

TIMEOUT = CallFailed(Reason.TIMEOUT, "slow")


def lane(limit: int = 4, down_after_s: float = 5.0) -> Lane[str]:
    return Lane(resolve("scripted:fake", {}).make()[0].backend, limit, down_after_s)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 10)

    asyncio.run(bounded())


async def workers(of: Lane[str], n: int, taken: list[str], work_s: float = 0.0) -> list[asyncio.Task[None]]:
    async def work() -> None:
        while (job := await of.take()) is not None:
            taken.append(job)
            await asyncio.sleep(work_s)
            of.back()

    tasks = [asyncio.create_task(work()) for _ in range(n)]
    await asyncio.sleep(0)
    return tasks


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(5000):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("never came")


def test_the_most_advanced_call_goes_first_then_the_prompt_that_was_opened_first() -> None:
    async def test() -> None:
        it, taken = lane(), list[str]()
        for rank, line, job in ((0, 1, "a"), (0, 2, "b"), (2, 9, "c"), (1, 3, "d"), (0, 1, "a2"), (1, 2, "e")):
            it.push(rank, line, job)
        tasks = await workers(it, 1, taken)
        await asyncio.sleep(0.01)
        it.close()
        await asyncio.gather(*tasks)
        assert taken == ["c", "e", "d", "a", "a2", "b"]

    run(test)


def test_what_is_taken_is_in_flight_until_it_is_back() -> None:
    async def test() -> None:
        it = lane()
        it.push(0, 1, "a")
        it.push(0, 1, "b")
        assert (await it.take(), it.n_in_flight, len(it)) == ("a", 1, 1)
        it.back()
        assert (it.n_in_flight, len(it)) == (0, 1)

    run(test)


def test_every_push_wakes_a_worker_and_none_is_lost() -> None:
    async def test() -> None:
        it, taken = lane(), list[str]()
        tasks = await workers(it, 3, taken, 0.001)
        for i in range(50):
            it.push(0, i, str(i))
            if i % 7 == 0:
                await asyncio.sleep(0.001)
        await until(lambda: not it and not it.n_in_flight)
        it.close()
        await asyncio.gather(*tasks)
        assert sorted(taken, key=int) == [str(i) for i in range(50)]

    run(test)


def test_a_429_holds_the_whole_lane_for_as_long_as_the_server_says() -> None:
    async def test() -> None:
        it, taken, loop = lane(), list[str](), asyncio.get_running_loop()
        await workers(it, 3, taken)
        started = loop.time()
        it.limited(0.1)
        it.limited(9.0)  # of the same episode: sent before the first came back
        for i in range(3):
            it.push(0, i, str(i))
        await asyncio.sleep(0.05)
        assert taken == []
        await until(lambda: len(taken) == 3)
        assert 0.1 <= loop.time() - started < 1

    run(test)


@pytest.mark.parametrize("silent", [None, 0.0, 0])
def test_a_429_without_a_word_waits_twice_as_long_each_time(silent: float | None) -> None:
    """A server that says 0, and goes on refusing, must not be asked in a loop without pause."""

    async def test() -> None:
        it, asked = lane(), list[float]()
        loop = asyncio.get_running_loop()
        loop.call_later = lambda delay, *a, **k: asked.append(delay)  # type: ignore[method-assign,assignment]
        for _ in range(8):
            it.limited(silent)
            it._unblock()
        it.answered(well=True)
        it.limited(silent)
        del loop.call_later
        assert asked == [1, 2, 4, 8, 16, 32, 60, 60, 1]

    run(test)


def test_a_blocked_lane_still_closes_at_once() -> None:
    async def test() -> None:
        it, taken = lane(), list[str]()
        tasks = await workers(it, 3, taken)
        it.limited(60)
        it.push(0, 1, "a")
        it.close()
        await asyncio.wait_for(asyncio.gather(*tasks), 1)
        assert taken == []

    run(test)


def test_an_error_that_nothing_can_survive_stops_the_lane_and_the_first_one_is_told() -> None:
    async def test() -> None:
        it = lane()
        first = CallFailed(Reason.AUTH, "wrong key", stops_endpoint=True)
        it.failed(first)
        it.failed(CallFailed(Reason.QUOTA, "gone", stops_endpoint=True))
        assert it.stopped is first

    run(test)


@pytest.mark.parametrize(("limit", "most"), [(1, 20), (10, 20), (50, 100)])
def test_only_failures_in_a_row_stop_a_lane_and_two_for_each_slot(limit: int, most: int) -> None:
    async def test() -> None:
        it = lane(limit, 0.0)
        for _ in range(3):
            for _ in range(most - 1):
                it.failed(TIMEOUT)
            assert it.stopped is None
            it.answered(well=True)
        for _ in range(most):
            it.failed(TIMEOUT)
        assert it.stopped is TIMEOUT

    run(test)


def test_failures_of_one_moment_do_not_stop_a_lane_however_many() -> None:
    """After many kills all that fails is first in line; the calls behind it may well succeed."""

    async def test() -> None:
        it = lane(4, 0.05)
        for _ in range(1000):
            it.failed(TIMEOUT)
        assert it.stopped is None
        await asyncio.sleep(0.06)
        it.failed(TIMEOUT)
        assert it.stopped is TIMEOUT

    run(test)


def test_dropping_gives_back_what_waits_and_leaves_nothing() -> None:
    async def test() -> None:
        it = lane()
        for i in range(3):
            it.push(0, i, str(i))
        assert sorted(it.drop_all()) == ["0", "1", "2"]
        assert len(it) == 0 and it.drop_all() == []

    run(test)


def test_a_400_is_doubted_until_something_has_worked() -> None:
    it = lane()
    refused = CallFailed(Reason.BAD_REQUEST, "no such parameter", http_status=400)
    it.answered(well=False)
    assert it.doubted(refused).reason is Reason.SERVER_ERROR
    assert "no such parameter" in it.doubted(refused).detail
    too_long = CallFailed(Reason.CONTEXT_TOO_LONG, "4097 tokens")
    assert it.doubted(too_long) is too_long
    it.answered(well=True)
    assert it.doubted(refused) is refused
