"""The queue in front of one model: the most advanced call first, to the endpoint that may be sent one now.

A lane has a line for each endpoint of its model's pool. All calls of a prompt stand in one line, because its prefix is
cached there, until that endpoint is down or stopped. A lane knows neither replies nor the ledger, and of money only
that it has to ask.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from hashlib import blake2b
from math import log
from typing import Any, Final, Generic, NamedTuple, TypeVar

from prefsmith.errors import CallFailed
from prefsmith.limits import Outcome, Room, Ticket
from prefsmith.lines import Line
from prefsmith.prices import FREE, Price
from prefsmith.reasons import Reason
from prefsmith.records import Backend, Quota

Job = TypeVar("Job")
DOWN_AFTER_S: Final = 5.0
"""A provider that fails everything for so long, and has answered nothing in this session, is given up: the URL or the
server is wrong, and whoever started the run should hear it at once."""
PATIENCE_S: Final = 300.0
"""One that has answered is waited for: a restart of a big model takes minutes."""
_N_FAILED: Final = 5
_N_REFUSED: Final = 20
"""So many 400s in a row, without an answer between them, are hardly as many prompts' fault."""

_OK: Final = Outcome.OK


class Taken(NamedTuple, Generic[Job]):
    """A call to carry out now, and where."""

    job: Job
    line: Line[Job]
    ticket: Ticket


def acquaint(lanes: Iterable[Lane[Any]]) -> None:
    """Let the lines of one server share its room: what one leaves is another's at once."""
    of_server: dict[str, list[Line[Any]]] = {}
    for lane in lanes:
        for line in lane.lines:
            of_server.setdefault(line.backend.endpoint, []).append(line)
    for lines in of_server.values():
        if len(lines) > 1:
            room = Room(asyncio.get_running_loop().time(), sum(line.limiter.most for line in lines))
            for i, line in enumerate(lines):
                line.limiter.share(room, str(i))
                line.beside = [other for other in lines if other is not line]


class Lane(Generic[Job]):
    """`price`: None when it is not known. `cost`: about how many tokens a call takes; `may_spend`: reserves what it can
    cost, False when there is not so much just now; None without a budget. Whoever takes a call tells with `back` what
    came of it."""

    def __init__(
        self,
        members: Sequence[tuple[Backend, float]],
        *,
        price: Price | None = FREE,
        patience_s: float = PATIENCE_S,
        down_after_s: float = DOWN_AFTER_S,
    ) -> None:
        self._clock = asyncio.get_running_loop().time
        now = self._clock()
        wake = partial(self._wake, 1)
        self.lines = [Line[Job](backend, weight, now, wake) for backend, weight in members]
        self.limit = sum(backend.capabilities().concurrency for backend, _ in members)
        self.price = price
        self.cost: Callable[[Job], float] = lambda job: 0.0
        self.may_spend: Callable[[Job], bool] | None = None
        self.tell: Callable[[str], None] = lambda remark: None
        self.closed = False
        self.stopped: CallFailed | None = None
        """Why nothing more can be sent to any endpoint; None as long as one is left."""
        self.n_in_flight = 0
        self.proven = self._answered = False
        self.last_error: CallFailed | None = None
        self._patience_s, self._down_after_s = patience_s, down_after_s
        self._order = itertools.count()
        self._idle: list[asyncio.Future[None]] = []
        self._n_refused = 0
        self._settle_lines()

    def __len__(self) -> int:
        return sum([len(line.heap) for line in self.lines])

    @property
    def name(self) -> str:
        return self.lines[0].backend.endpoint

    @property
    def head(self) -> Job | None:
        """The next call of the longest line."""
        line = max(self.lines, key=len)
        return line.heap[0][3] if line.heap else None

    def push(self, rank: int, opened: int, job: Job, of_prompt: bytes, avoid: Line[Job] | None = None) -> None:
        """`rank`: how far its stage is; `opened`: when its prompt was opened, in order; `avoid`: where it failed."""
        line = self.lines[0] if len(self.lines) == 1 else self._line_for(of_prompt, avoid)
        heapq.heappush(line.heap, (-rank, opened, next(self._order), job))
        if self._idle:
            self._wake(1)

    async def take(self) -> Taken[Job] | None:
        """The next call to carry out; None when the lane is closed."""
        while not self.closed:
            if (taken := self.take_now()) is not None:
                return taken
            idle = asyncio.get_running_loop().create_future()
            self._idle.append(idle)
            await idle
        return None

    def take_now(self) -> Taken[Job] | None:
        """The next call, if there is one that may be sent now."""
        if self.closed:
            return None
        now = self._clock()
        for line in self.lines:
            if line.stopped is not None or not (line.heap or self._lent(line, now)):
                continue
            job = line.heap[0][3]
            n_tokens = self.cost(job) if line.limiter.tpm is not None else 0.0
            if line.clear(now, n_tokens) and (self.may_spend is None or self.may_spend(job)):
                heapq.heappop(line.heap)
                self.n_in_flight += 1
                taken = Taken(job, line, line.sent(now, n_tokens))
                if self._idle:
                    self._wake_for(1)
                return taken
        return None

    def back(
        self,
        taken: Taken[Job],
        outcome: Outcome,
        *,
        n_tokens: float | None = None,
        quota: Quota | None = None,
        error: CallFailed | None = None,
    ) -> None:
        """A call that was taken is no longer in flight."""
        line, now = taken.line, self._clock()
        self.n_in_flight -= 1
        retry_after_s = error.retry_after_s if error else None
        turned = line.limiter.back(
            now, taken.ticket, outcome, n_tokens=n_tokens, quota=quota, retry_after_s=retry_after_s
        )
        if line.beside:
            line.wake_others()
        if outcome is _OK:
            self.proven = self._answered = True
            self._n_refused = line.n_failed = 0
        elif outcome is Outcome.REFUSED:
            self._n_refused += 1
        elif outcome is Outcome.FAILED and error is not None:
            line.n_failed += 1
            self.last_error = line.last_error = error
            self._give_up_after(now, error)
        stops = error is not None and error.stops_endpoint and line.stopped is None
        if stops:
            self.last_error = line.stopped = error
        if stops or turned:
            self._settle_lines()
            self._tell_of(line, error)
        if line.limiter.rpm is not None:
            line.retune()
        if self._idle:
            self._wake_for(2)

    def doubted(self, error: CallFailed) -> CallFailed:
        """A 400 from a server that has not answered well yet, or answers everything so, is hardly one prompt's fault:
        what it refuses stays owed, or a wrong setting would close every prompt for good."""
        believed = self.proven and self._n_refused < _N_REFUSED
        if believed or error.reason is not Reason.BAD_REQUEST or error.stops_endpoint:
            return error
        return CallFailed(Reason.SERVER_ERROR, error.detail, http_status=error.http_status, request_id=error.request_id)

    def drop_all(self) -> list[Job]:
        """Take every waiting call out: nothing more can be sent here."""
        jobs = [entry[3] for line in self.lines for entry in sorted(line.heap)]
        for line in self.lines:
            line.heap.clear()
        return jobs

    def wake(self) -> None:
        """There is money again."""
        self._wake(1)

    def close(self) -> None:
        self.closed = True
        for line in self.lines:
            line.close()
        self._wake(len(self._idle))

    # -- which call, and where

    def _wake_for(self, n_coming: int) -> None:
        """Wake another worker when there is more to send than the `n_coming` that will look by themselves."""
        for line in self.lines:
            if line.heap and line.limiter.has_room(n_coming):
                self._wake(1)
                return

    def _line_for(self, of_prompt: bytes, avoid: Line[Job] | None) -> Line[Job]:
        """The same endpoint for all calls of a prompt, in shares of the weights, as long as it is up: weighted
        rendezvous hashing (Schindelhauer and Schomaker, 2005), which moves only the calls of what is gone."""
        left = [line for line in self.lines if line.stopped is None] or self.lines
        left = [line for line in left if not line.limiter.down] or left
        left = [line for line in left if line is not avoid] or left

        def drawn(line: Line[Job]) -> float:
            raw = blake2b(of_prompt + line.backend.endpoint.encode(), digest_size=7).digest()
            return -line.weight / log((int.from_bytes(raw, "big") + 1) / (2**56 + 1))

        return max(left, key=drawn)

    def _lent(self, line: Line[Job], now: float) -> bool:
        """A call of another line: for one that is idle while another has more than it can hold, and for the probe of
        one that was down. What another could send itself stays where its prefix is cached."""
        if len(self.lines) == 1 or line.limiter.wait_s(now, 0.0) > 0:
            return False
        fullest = max(self.lines, key=len)
        if len(fullest) > (0 if line.limiter.down else fullest.limiter.limit):
            # The least advanced: what is begun stays.
            entry = max(fullest.heap)
            fullest.heap.remove(entry)
            heapq.heapify(fullest.heap)
            heapq.heappush(line.heap, entry)
            return True
        return False

    def _settle_lines(self) -> None:
        """An endpoint came or went: who is the last one left, and where waits what waited for one that is gone."""
        up = [line for line in self.lines if line.up]
        left = [line for line in self.lines if line.stopped is None]
        if not left:
            self.stopped = self.lines[-1].stopped
        for line in left:
            line.limiter.alone = len(left) == 1 or up in ([], [line])
        if not up:
            return
        for line in self.lines:
            if not line.up and line.heap:
                entries, line.heap = line.heap, []
                for i, entry in enumerate(entries):
                    heapq.heappush(up[i % len(up)].heap, entry)
        self._wake(len(self))

    def _tell_of(self, line: Line[Job], error: CallFailed | None) -> None:
        """At once: what is bought until the end of a run may be for nothing."""
        name = line.backend.endpoint
        if line.stopped is not None and error is not None:
            self.tell(f"{name} is asked no more: {error.detail}")
        elif line.limiter.down and error is not None:
            where = "it is waited for" if line.limiter.alone else "its calls go elsewhere"
            self.tell(f"{name} does not answer, {where}: {error.detail}")
        elif line.up:
            self.tell(f"{name} answers again")

    def _give_up_after(self, now: float, error: CallFailed) -> None:
        """Nothing but failures everywhere for too long: the provider is down."""
        patience_s = self._patience_s if self._answered else self._down_after_s
        for line in self.lines:
            since = line.limiter.failing_since
            if line.stopped is None and (since is None or line.n_failed < _N_FAILED or now - since < patience_s):
                return
        for line in self.lines:
            line.stopped = line.stopped or line.last_error
        self.stopped = error

    def _wake(self, n: int) -> None:
        while n and self._idle:
            idle = self._idle.pop()
            if not idle.done():
                idle.set_result(None)
                n -= 1
