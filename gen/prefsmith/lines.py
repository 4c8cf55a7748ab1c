"""What waits for one endpoint, and whether it may be sent something now.

A line joins the pure limiter with the loop's clock: when the answer is no, it sees to it that somebody asks again in
time. It does not know what it carries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Any, Generic, TypeVar

from prefsmith.errors import CallFailed
from prefsmith.limits import Limiter, Pacer, Ticket
from prefsmith.records import Backend

Job = TypeVar("Job")


class Line(Generic[Job]):
    """`heap` is the lane's to fill and to empty; `wake` is called when it is worth asking again."""

    def __init__(self, backend: Backend, weight: float, now: float, wake: Callable[[], None]) -> None:
        self.backend = backend
        self.weight = weight
        can = backend.capabilities()
        self.limiter = Limiter(
            concurrency=can.concurrency, rpm=can.rpm, tpm=can.tpm, now=now, alone=True, gentle=can.remote
        )
        self.beside: list[Line[Any]] = []
        """To the same server for other models, which share its room."""
        self.heap: list[tuple[int, int, int, Job]] = []
        self.stopped: CallFailed | None = None
        self.last_error: CallFailed | None = None
        self.n_failed = 0
        self._wake = wake
        self._timer: asyncio.TimerHandle | None = None
        self._pacer: Pacer | None = None
        self._paced: tuple[float, float] | None = None
        self._pacing: asyncio.Task[None] | None = None
        self._permit = False
        self._wanted = asyncio.Event()

    def __len__(self) -> int:
        return len(self.heap)

    @property
    def up(self) -> bool:
        return self.stopped is None and not self.limiter.down

    def wake_others(self) -> None:
        """What is back here has made room for them too."""
        for line in self.beside:
            if line.heap:
                line._wake()

    def clear(self, now: float, n_tokens: float) -> bool:
        """One request of about so many tokens may be sent now."""
        wait_s = self.limiter.wait_s(now, n_tokens)
        if wait_s > 0:
            # A permit that is kept through a block would come on top of those of the time after it.
            self._permit = False
            self._later(wait_s)
            return False
        if self.beside and self._leaves_last_place(now):
            return False
        if self.limiter.rpm is None or self._permit:
            return True
        self.retune()
        self._wanted.set()
        return False

    def _leaves_last_place(self, now: float) -> bool:
        """To who has fewer in flight, or what is begun would wait until nothing is left to begin. Nothing hangs by it:
        what this line has in flight will be back, and ask again."""
        mine = self.limiter
        return mine.at_last_place and any(
            line.heap
            and line.stopped is None
            and line.limiter.n_in_flight < mine.n_in_flight
            and line.limiter.wait_s(now, 0.0) == 0
            for line in self.beside
        )

    def sent(self, now: float, n_tokens: float) -> Ticket:
        self._permit = False
        return self.limiter.sent(now, n_tokens)

    def retune(self) -> None:
        """Pace by what the limiter has learnt."""
        rpm, pace = self.limiter.rpm, self.limiter.pace
        if rpm is None or self._paced == (rpm, pace):
            return
        self._paced = (rpm, pace)
        if self._pacer is None:
            self._pacer = Pacer()
            self._pacing = asyncio.create_task(self._permits(self._pacer))
        self._pacer.retune(rpm, pace)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._pacing is not None:
            self._pacing.cancel()

    async def _permits(self, pacer: Pacer) -> None:
        """The pacer's one waiter: a permit is fetched when somebody wants to use it."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            if not self._permit:
                await pacer.permit()
                self._permit = True
            self._wake()

    def _later(self, wait_s: float) -> None:
        if wait_s == inf:
            return  # until something is back
        loop = asyncio.get_running_loop()
        if self._timer is not None and self._timer.when() <= loop.time() + wait_s:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer = loop.call_later(wait_s, self._due)

    def _due(self) -> None:
        self._timer = None
        self._wake()
