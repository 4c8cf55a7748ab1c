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
from prefsmith.reasons import Reason
from prefsmith.records import Backend

Job = TypeVar("Job")
FIRST_BLOCK_S: Final = 1.0
LONGEST_BLOCK_S: Final = 60.0
_DOWN_AFTER: Final = 20
DOWN_AFTER_S: Final = 5.0
"""So many failures in a row, and two for each slot, for so long and with no success between: the provider is down, not
unlucky. The time is for a run that was killed often: what keeps failing is then first in line, before what works."""


class Lane(Generic[Job]):
    def __init__(self, backend: Backend, limit: int, down_after_s: float = DOWN_AFTER_S) -> None:
        self.backend = backend
        self._down_after_s = down_after_s
        self.limit = limit
        self.stopped: CallFailed | None = None
        self.closed = False
        self.n_in_flight = 0
        self._heap: list[tuple[int, int, int, Job]] = []
        self._order = itertools.count()
        self._idle: list[asyncio.Future[None]] = []
        self._blocked = False
        self._n_429 = 0
        self._n_failed = 0
        self.proven = False
        self.last_error: CallFailed | None = None
        self._failing_since = 0.0

    def __len__(self) -> int:
        return len(self._heap)

    def push(self, rank: int, opened: int, job: Job) -> None:
        """`rank`: how far its stage is; `opened`: the order in which its prompt was opened."""
        heapq.heappush(self._heap, (-rank, opened, next(self._order), job))
        if not self._blocked:
            self._wake(1)

    async def take(self) -> Job | None:
        """The next call to carry out; None when the lane is closed."""
        loop = asyncio.get_running_loop()
        while not self.closed:
            if self._heap and not self._blocked:
                self.n_in_flight += 1
                return heapq.heappop(self._heap)[3]
            idle = loop.create_future()
            self._idle.append(idle)
            await idle
        return None

    def back(self) -> None:
        """A job that was taken is no longer in flight."""
        self.n_in_flight -= 1

    def answered(self, *, well: bool) -> None:
        """The provider is up, whether it liked the call or not."""
        self._n_429 = self._n_failed = 0
        self.proven = self.proven or well

    def doubted(self, error: CallFailed) -> CallFailed:
        """A 400 from a server that has not answered well yet is hardly one prompt's fault: what it refuses stays owed
        until something has worked, or a wrong setting would close every prompt for good."""
        if self.proven or error.reason is not Reason.BAD_REQUEST or error.stops_endpoint:
            return error
        return CallFailed(Reason.SERVER_ERROR, error.detail, http_status=error.http_status, request_id=error.request_id)

    def limited(self, retry_after_s: float | None) -> None:
        """A 429: nobody sends until the wait is over; without a word from the server, and 0 is none, it doubles."""
        if self._blocked:
            return  # the same episode
        self._blocked = True
        if not retry_after_s:
            retry_after_s = min(LONGEST_BLOCK_S, FIRST_BLOCK_S * 2**self._n_429)
            self._n_429 += 1
        asyncio.get_running_loop().call_later(retry_after_s, self._unblock)

    def _unblock(self) -> None:
        self._blocked = False
        self._wake(len(self._heap))

    def failed(self, error: CallFailed) -> None:
        self.last_error = error
        now = asyncio.get_running_loop().time()
        if self._n_failed == 0:
            self._failing_since = now
        self._n_failed += 1
        many = self._n_failed >= max(_DOWN_AFTER, 2 * self.limit)
        if error.stops_endpoint or (many and now - self._failing_since >= self._down_after_s):
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
