"""Two models of one server: each takes room from the other, and gives it back when it rests."""

from __future__ import annotations

import asyncio

from prefsmith.backends.scripted import Scripted
from prefsmith.endpoints import Script
from prefsmith.lanes import Lane, acquaint
from prefsmith.limits import Outcome
from prefsmith.records import Capabilities


def lane(endpoint: str) -> Lane[str]:
    can = Capabilities(frozenset(), concurrency=4)
    return Lane([(Scripted(target="e", endpoint=endpoint, script=Script(), capabilities=can), 1.0)])


def rests(of: Lane[str]) -> bool:
    """Whether this lane was told that the others rest."""
    return of.lines[0].limiter._concurrency.freed_at is not None


def test_a_lane_without_work_gives_its_room_to_others_of_its_server_until_it_has_some_again() -> None:
    async def test() -> None:
        sampling, judging, elsewhere = lane("e/0"), lane("e/0"), lane("f/0")
        acquaint([sampling, judging, elsewhere])
        for job in ("a", "b"):
            sampling.push(0, 0, job, job.encode())
        first, second = sampling.take_now(), sampling.take_now()
        assert first is not None and second is not None
        sampling.back(first, Outcome.OK)
        assert not rests(judging), "one is still in flight"
        sampling.back(second, Outcome.OK)
        assert rests(judging) and not rests(elsewhere) and not rests(sampling)
        sampling.push(0, 0, "c", b"c")
        assert sampling.take_now() is not None
        assert not rests(judging)

    asyncio.run(test())
