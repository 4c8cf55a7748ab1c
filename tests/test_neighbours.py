"""Two models of one server share what it holds."""

from __future__ import annotations

import asyncio

from prefsmith.backends.scripted import Scripted
from prefsmith.endpoints import Script
from prefsmith.errors import CallFailed
from prefsmith.lanes import Lane, acquaint
from prefsmith.limits import Outcome
from prefsmith.reasons import Reason
from prefsmith.records import Capabilities

REFUSED = CallFailed(Reason.RATE_LIMITED, "429", http_status=429, retry_after_s=60.0)


def lane(endpoint: str) -> Lane[str]:
    can = Capabilities(frozenset(), concurrency=4)
    return Lane([(Scripted(target="e", endpoint=endpoint, script=Script(), capabilities=can), 1.0)])


def test_a_refusal_to_one_model_is_the_limit_of_all_models_of_its_server_and_what_is_back_wakes_them() -> None:
    async def test() -> None:
        sampling, judging, elsewhere = lane("e/0"), lane("e/0"), lane("f/0")
        acquaint([sampling, judging, elsewhere])
        for job in "abcd":
            sampling.push(0, 0, job, job.encode())
        first, second, third, refused = (sampling.take_now() for _ in range(4))
        assert first and second and third and refused
        sampling.back(refused, Outcome.LIMITED, error=REFUSED)
        assert [it.lines[0].limiter.limit for it in (sampling, judging, elsewhere)] == [3, 3, 4]
        for job in "xyz":
            judging.push(1, 0, job, job.encode())
        assert judging.take_now() is not None, "one beyond, to see whether the limit is its own too"
        waiting = asyncio.create_task(judging.take())
        await asyncio.sleep(0)
        assert not waiting.done()
        for taken in (first, second):
            sampling.back(taken, Outcome.OK)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert waiting.done()

    asyncio.run(test())


def test_the_last_free_place_is_left_to_who_has_fewer_in_flight() -> None:
    async def test() -> None:
        sampling, judging = lane("e/0"), lane("e/0")
        acquaint([sampling, judging])
        room = sampling.lines[0].limiter._room
        assert room is not None
        room.held.limit = 3
        for job in "abc":
            sampling.push(0, 0, job, job.encode())
        first, second = sampling.take_now(), sampling.take_now()
        assert first and second
        judging.push(1, 0, "x", b"x")
        assert sampling.take_now() is None
        assert judging.take_now() is not None
        sampling.back(first, Outcome.OK)
        assert sampling.take_now() is not None, "nobody else wants it"

    asyncio.run(test())
