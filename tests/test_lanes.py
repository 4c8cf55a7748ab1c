"""The queue in front of a model: order, slots, limits, pools of endpoints, and the end of one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from prefsmith.backends.scripted import Scripted
from prefsmith.endpoints import Script
from prefsmith.errors import CallFailed
from prefsmith.lanes import Lane, Taken
from prefsmith.limits import Outcome
from prefsmith.lines import Line
from prefsmith.reasons import Reason
from prefsmith.records import Capabilities, Quota

TIMEOUT = CallFailed(Reason.TIMEOUT, "slow")
REFUSED = CallFailed(Reason.BAD_REQUEST, "no such parameter", http_status=400)


def lane(limit: int = 4, n: int = 1, weights: tuple[float, ...] = (), **more: float) -> Lane[str]:
    """`n` endpoints e/0, e/1, …; rpm and tpm go to each of them."""
    can = Capabilities(frozenset(), concurrency=limit, rpm=more.pop("rpm", None), tpm=more.pop("tpm", None))
    members = [Scripted(target="e", endpoint=f"e/{i}", script=Script(), capabilities=can) for i in range(n)]
    return Lane([(one, weights[i] if weights else 1.0) for i, one in enumerate(members)], **more)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 20)

    asyncio.run(bounded())


def push(it: Lane[str], job: str, rank: int = 0, opened: int = 0, avoid: Line[str] | None = None) -> None:
    it.push(rank, opened, job, job.encode(), avoid)


async def taken(it: Lane[str]) -> Taken[str]:
    got = await asyncio.wait_for(it.take(), 5)
    assert got is not None
    return got


async def at_once(it: Lane[str]) -> Taken[str] | None:
    """What can be taken now; None when it has to wait."""
    task = asyncio.create_task(it.take())
    await asyncio.sleep(0.02)
    if task.done():
        return task.result()
    task.cancel()
    return None


async def workers(of: Lane[str], n: int, seen: list[Taken[str]], work_s: float = 0.0) -> list[asyncio.Task[None]]:
    async def work() -> None:
        while (one := await of.take()) is not None:
            seen.append(one)
            await asyncio.sleep(work_s)
            of.back(one, Outcome.OK)

    tasks = [asyncio.create_task(work()) for _ in range(n)]
    await asyncio.sleep(0)
    return tasks


async def until(holds: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if holds():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("never came")


def test_the_most_advanced_call_goes_first_then_the_prompt_that_was_opened_first() -> None:
    async def test() -> None:
        it, seen = lane(), list[Taken[str]]()
        for rank, opened, job in ((0, 1, "a"), (0, 2, "b"), (2, 9, "c"), (1, 3, "d"), (0, 1, "a2"), (1, 2, "e")):
            push(it, job, rank, opened)
        tasks = await workers(it, 1, seen)
        await asyncio.sleep(0.01)
        it.close()
        await asyncio.gather(*tasks)
        assert [one.job for one in seen] == ["c", "e", "d", "a", "a2", "b"]

    run(test)


def test_no_more_are_in_flight_than_the_endpoint_allows_and_one_back_makes_room() -> None:
    async def test() -> None:
        it = lane(2)
        for job in "abc":
            push(it, job)
        first, _ = await taken(it), await taken(it)
        assert (it.n_in_flight, len(it)) == (2, 1)
        assert await at_once(it) is None
        it.back(first, Outcome.OK)
        assert (await taken(it)).job == "c"

    run(test)


@pytest.mark.parametrize("n", [1, 3])
def test_every_push_wakes_a_worker_and_none_is_lost(n: int) -> None:
    async def test() -> None:
        it, seen = lane(3, n), list[Taken[str]]()
        tasks = await workers(it, it.limit, seen, 0.001)
        for i in range(90):
            push(it, str(i), opened=i)
            if i % 7 == 0:
                await asyncio.sleep(0.001)
        await until(lambda: not it and not it.n_in_flight)
        it.close()
        await asyncio.gather(*tasks)
        assert sorted(int(one.job) for one in seen) == list(range(90))

    run(test)


def test_a_429_holds_the_whole_endpoint_for_as_long_as_it_says() -> None:
    async def test() -> None:
        it, loop = lane(), asyncio.get_running_loop()
        for job in "abc":
            push(it, job)
        started, one = loop.time(), await taken(it)
        it.back(one, Outcome.LIMITED, error=CallFailed(Reason.RATE_LIMITED, "no", http_status=429, retry_after_s=0.3))
        assert await at_once(it) is None
        await taken(it)
        assert 0.3 <= loop.time() - started < 2

    run(test)


def test_a_blocked_lane_still_closes_at_once() -> None:
    async def test() -> None:
        it, seen = lane(), list[Taken[str]]()
        push(it, "a")
        it.back(await taken(it), Outcome.LIMITED, error=CallFailed(Reason.RATE_LIMITED, "no", retry_after_s=60))
        tasks = await workers(it, 3, seen)
        push(it, "b")
        it.close()
        await asyncio.wait_for(asyncio.gather(*tasks), 1)
        assert seen == []

    run(test)


def test_requests_a_minute_are_paced_declared_or_learnt() -> None:
    async def test() -> None:
        declared, learnt, loop = lane(64, rpm=1200), lane(64), asyncio.get_running_loop()
        push(learnt, "first")
        learnt.back(await taken(learnt), Outcome.OK, quota=Quota(rpm=1200, n_requests_left=1199, requests_reset_s=1.0))
        for it in (declared, learnt):
            for i in range(60):
                push(it, str(i))
            started, seen = loop.time(), list[Taken[str]]()
            tasks = await workers(it, 64, seen)
            await until(lambda seen=seen: len(seen) == 60)  # type: ignore[misc]
            # 20 a second: the first second's at once, the last ones at the end of the third.
            assert 1.9 < loop.time() - started < 4
            it.close()
            await asyncio.gather(*tasks)

    run(test)


def test_tokens_a_minute_are_waited_for_by_what_a_call_costs() -> None:
    async def test() -> None:
        it, loop = lane(64, tpm=60_000), asyncio.get_running_loop()
        it.cost = lambda job: 500.0
        for i in range(6):
            push(it, str(i))
        started = loop.time()
        for _ in range(4):
            await taken(it)
        # A second's worth (970) is there at the start, 970 more come each second: 2,000 take a second at least.
        assert 0.9 < loop.time() - started < 3

    run(test)


def test_all_calls_of_a_prompt_go_to_one_endpoint_in_shares_of_the_weights() -> None:
    async def test() -> None:
        it = lane(4096, 3, (2.0, 1.0, 1.0))
        for _ in range(3):
            for i in range(1000):
                push(it, f"p{i}")
        seen = [await taken(it) for _ in range(3000)]
        homes = {one.job: one.line for one in seen}
        assert all(homes[one.job] is one.line for one in seen)
        shares = Counter(one.line.backend.endpoint for one in seen)
        assert shares["e/0"] == pytest.approx(1500, rel=0.12) and shares["e/1"] == pytest.approx(750, rel=0.2)

    run(test)


def test_an_idle_endpoint_helps_one_that_has_more_than_it_can_hold() -> None:
    async def test() -> None:
        it = lane(2, 2)
        busy = it.lines[0]
        mine = [f"p{i}" for i in range(200) if it._line_for(f"p{i}".encode(), None) is busy][:12]
        for job in mine:
            push(it, job)
        got = [await taken(it) for _ in range(4)]
        assert Counter(one.line is busy for one in got) == {True: 2, False: 2}

    run(test)


def test_what_waits_for_an_endpoint_that_goes_down_is_sent_elsewhere_and_nothing_is_asked_twice() -> None:
    async def test() -> None:
        it, seen = lane(4, 2), list[str]()
        for i in range(60):
            push(it, f"p{i}")
        bad = it.lines[0]
        while len(seen) < 60:
            one = await taken(it)
            if one.line is bad:
                it.back(one, Outcome.FAILED, error=TIMEOUT)
                push(it, one.job, avoid=one.line)
            else:
                seen.append(one.job)
                it.back(one, Outcome.OK)
        assert len(set(seen)) == 60
        assert bad.limiter.down and not bad.limiter.alone and it.lines[1].limiter.alone

    run(test)


def test_an_endpoint_that_refuses_us_is_asked_no_more_and_the_last_one_ends_the_lane() -> None:
    async def test() -> None:
        it = lane(4, 2)
        for i in range(20):
            push(it, f"p{i}")
        wrong_key = CallFailed(Reason.AUTH, "wrong key", stops_endpoint=True)
        one = await taken(it)
        it.back(one, Outcome.REFUSED, error=wrong_key)
        assert it.stopped is None and one.line.stopped is wrong_key
        others = [await taken(it) for _ in range(4)]
        assert all(other.line is not one.line for other in others) and len(it) == 15
        gone = CallFailed(Reason.QUOTA, "gone", stops_endpoint=True)
        it.back(others[0], Outcome.REFUSED, error=gone)
        assert it.stopped is gone and len(it.drop_all()) == 15 and len(it) == 0

    run(test)


@pytest.mark.parametrize(("answered", "ends"), [(False, True), (True, False)])
def test_a_provider_that_never_answered_is_given_up_soon_and_one_that_did_is_waited_for(
    answered: bool, ends: bool
) -> None:
    async def test() -> None:
        it = lane(8, down_after_s=0.1, patience_s=60)
        for i in range(60):
            push(it, f"p{i}")
        if answered:
            it.back(await taken(it), Outcome.OK)
        failing = [await taken(it) for _ in range(8)]
        for one in failing[:6]:
            it.back(one, Outcome.FAILED, error=TIMEOUT)
        assert it.stopped is None, "failures of one moment say nothing, however many"
        await asyncio.sleep(0.15)
        it.back(await taken(it), Outcome.FAILED, error=TIMEOUT)
        assert (it.stopped is TIMEOUT) is ends and it.last_error is TIMEOUT

    run(test)


def test_each_member_of_a_pool_that_is_given_up_says_why_itself_failed() -> None:
    async def test() -> None:
        it = lane(8, n=2, down_after_s=0.1)
        why = {line: CallFailed(Reason.CONNECTION, f"no connection to {line.backend.endpoint}") for line in it.lines}
        for i in range(60):
            push(it, f"p{i}")
        for one in [await taken(it) for _ in range(16)]:
            it.back(one, Outcome.FAILED, error=why[one.line])
        await asyncio.sleep(0.15)
        while it.stopped is None:
            it.back(one := await taken(it), Outcome.FAILED, error=why[one.line])
        assert all(line.stopped is why[line] for line in it.lines)

    run(test)


def test_an_endpoint_that_came_back_gets_work_again() -> None:
    async def test() -> None:
        it, seen = lane(8), list[Taken[str]]()
        for i in range(30):
            push(it, f"p{i}")
        it.back(await taken(it), Outcome.OK)
        for one in [await taken(it) for _ in range(8)]:
            it.back(one, Outcome.FAILED, error=TIMEOUT)
        assert it.lines[0].limiter.down
        tasks = await workers(it, 8, seen)
        await until(lambda: len(seen) == 21)
        assert not it.lines[0].limiter.down
        it.close()
        await asyncio.gather(*tasks)

    run(test)


def test_a_call_that_cannot_be_paid_now_waits_until_somebody_says_that_it_can() -> None:
    async def test() -> None:
        it, rich = lane(), False
        it.may_spend = lambda job: rich
        push(it, "a")
        assert await at_once(it) is None and len(it) == 1
        task = asyncio.create_task(it.take())
        await asyncio.sleep(0)
        rich = True
        it.wake()
        got = await asyncio.wait_for(task, 1)
        assert got is not None and got.job == "a"

    run(test)


def test_dropping_gives_back_what_waits_and_leaves_nothing() -> None:
    async def test() -> None:
        it = lane(4, 2)
        for i in range(30):
            push(it, str(i))
        assert sorted(map(int, it.drop_all())) == list(range(30))
        assert len(it) == 0 and it.drop_all() == []

    run(test)


def test_a_400_is_doubted_until_something_has_worked_and_when_nothing_else_comes() -> None:
    async def test() -> None:
        it = lane(64)
        for i in range(60):
            push(it, f"p{i}")
        assert it.doubted(REFUSED).reason is Reason.SERVER_ERROR
        assert "no such parameter" in it.doubted(REFUSED).detail
        too_long = CallFailed(Reason.CONTEXT_TOO_LONG, "4097 tokens")
        assert it.doubted(too_long) is too_long
        it.back(await taken(it), Outcome.OK)
        for _ in range(20):
            assert it.doubted(REFUSED) is REFUSED
            it.back(await taken(it), Outcome.REFUSED, error=REFUSED)
        assert it.doubted(REFUSED).reason is Reason.SERVER_ERROR
        it.back(await taken(it), Outcome.OK)
        assert it.doubted(REFUSED) is REFUSED

    run(test)
