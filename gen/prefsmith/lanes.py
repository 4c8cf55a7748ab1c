"""The queue in front of one backend: the most advanced call first, never more in flight than it allows.

A lane knows neither replies nor the ledger. A 429 blocks the whole lane and costs no call an attempt; an error that
makes every further call pointless stops it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import Final, Generic, TypeVar

from prefsmith.errors import CallFailed
from prefsmith.records import Backend

Job = TypeVar("Job")
FIRST_BLOCK_S: Final = 1.0
LONGEST_BLOCK_S: Final = 60.0
_DOWN_AFTER: Final = 20
"""So many failures in a row, and two for each slot, with no success between: the provider is down, not unlucky."""


class Lane(Generic[Job]):
    def __init__(self, backend: Backend, limit: int) -> None:
        self.backend = backend
        self.limit = limit
        self.stopped: CallFailed | None = None
        self.closed = False
        self.n_in_flight = 0
        self._heap: list[tuple[int, int, int, Job]] = []
        self._order = itertools.count()
        self._idle: list[asyncio.Future[None]] = []
        self._blocked_until = 0.0
        self._n_429 = 0
        self._n_failed = 0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, rank: int, opened: int, job: Job) -> None:
        """`rank`: how far its stage is; `opened`: the order in which its prompt was opened."""
        heapq.heappush(self._heap, (-rank, opened, next(self._order), job))
        self._wake(1)

    async def take(self) -> Job | None:
        """The next call to carry out; None when the lane is closed."""
        loop = asyncio.get_running_loop()
        while not self.closed:
            wait_s = self._blocked_until - loop.time()
            if wait_s > 0:
                await asyncio.sleep(min(wait_s, 0.5))  # looks up now and then, so that a close is not missed
            elif self._heap:
                self.n_in_flight += 1
                return heapq.heappop(self._heap)[3]
            else:
                idle = loop.create_future()
                self._idle.append(idle)
                await idle
        return None

    def back(self) -> None:
        """A job that was taken is no longer in flight."""
        self.n_in_flight -= 1

    def succeeded(self) -> None:
        self._n_429 = self._n_failed = 0

    def limited(self, retry_after_s: float | None) -> None:
        """A 429: nobody sends until the wait is over; without a word from the server it doubles."""
        loop = asyncio.get_running_loop()
        if self._blocked_until > loop.time():
            return  # the same episode
        own = min(LONGEST_BLOCK_S, FIRST_BLOCK_S * 2**self._n_429)
        self._n_429 += retry_after_s is None
        self._blocked_until = loop.time() + (own if retry_after_s is None else retry_after_s)

    def failed(self, error: CallFailed) -> None:
        self._n_failed += 1
        if error.stops_endpoint or self._n_failed >= max(_DOWN_AFTER, 2 * self.limit):
            self.stopped = self.stopped or error

    def drop_all(self) -> list[Job]:
        """Take every waiting job out: nothing more can be sent here."""
        jobs = [entry[3] for entry in self._heap]
        self._heap.clear()
        return jobs

    def close(self) -> None:
        self.closed = True
        self._wake(len(self._idle))

    def _wake(self, n: int) -> None:
        while n and self._idle:
            idle = self._idle.pop()
            if not idle.done():
                idle.set_result(None)
                n -= 1
