"""The pacer: asyncio-throttle with one waiter, a share below the limit."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from prefsmith.limits import Pacer

Run = Callable[[Coroutine[Any, Any, None]], None]


async def permits(pacer: Pacer, seconds: float) -> list[float]:
    now, got = asyncio.get_running_loop().time, list[float]()
    start = now()
    while True:
        await pacer.permit()
        if now() - start > seconds:
            return got
        got.append(now() - start)


@pytest.mark.parametrize("rpm", [10, 59, 60, 100, 500, 1200])
def test_no_minute_brings_more_than_the_limit_and_none_much_less(in_virtual_time: Run, rpm: int) -> None:
    async def test() -> None:
        got = await permits(Pacer(rpm), 300)
        assert max(bisect_left(got, start + 60) - i for i, start in enumerate(got)) <= rpm
        assert len(got) >= 0.97 * 5 * rpm - 1

    in_virtual_time(test())


def test_a_second_brings_one_burst(in_virtual_time: Run) -> None:
    async def test() -> None:
        got = await permits(Pacer(1200), 60)
        assert max(bisect_left(got, start + 1) - i for i, start in enumerate(got)) == 20

    in_virtual_time(test())


def test_without_a_limit_nobody_waits(in_virtual_time: Run) -> None:
    async def test() -> None:
        pacer, now = Pacer(), asyncio.get_running_loop().time
        start = now()
        for _ in range(1000):
            await pacer.permit()
        assert now() == start

    in_virtual_time(test())


def test_what_was_sent_before_a_limit_was_known_counts_under_it(in_virtual_time: Run) -> None:
    async def test() -> None:
        pacer, now = Pacer(), asyncio.get_running_loop().time
        for _ in range(20):
            await pacer.permit()
        start = now()
        pacer.retune(1200)
        await pacer.permit()
        assert now() - start >= 1.0

    in_virtual_time(test())


def test_a_slower_pace_counts_for_the_permit_that_is_being_waited_for(in_virtual_time: Run) -> None:
    async def test() -> None:
        pacer, now = Pacer(60), asyncio.get_running_loop().time
        start = now()
        await pacer.permit()
        waiting = asyncio.create_task(pacer.permit())
        await asyncio.sleep(0.5)
        pacer.retune(60, pace=0.5)
        await waiting
        assert now() - start == pytest.approx(2.0, abs=0.1)

    in_virtual_time(test())


def test_a_second_waiter_is_a_bug() -> None:
    async def test() -> None:
        pacer = Pacer(1)
        await pacer.permit()
        waiting = asyncio.create_task(pacer.permit())
        await asyncio.sleep(0)
        with pytest.raises(AssertionError, match="one waiter"):
            await pacer.permit()
        waiting.cancel()

    asyncio.run(test())


def test_in_real_time_too_the_limit_is_used() -> None:
    async def test() -> float:
        pacer, start = Pacer(6000), time.monotonic()
        for _ in range(301):
            await pacer.permit()
        return time.monotonic() - start

    # 301 permits are three periods of 1.017 s; a loaded machine may be late but never early.
    assert 3.0 < asyncio.run(test()) < 4.5
