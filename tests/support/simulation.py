"""Simulated servers in virtual time, and a client that asks them through the limiter and the pacer."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from prefsmith.limits import Limiter, Outcome, Pacer, Ticket
from prefsmith.records import Quota

Run = Callable[[Coroutine[Any, Any, None]], None]
T0 = 1000.0


@dataclass(eq=False)
class Job:
    n_tokens: float = 100.0
    """As estimated."""
    cost_tokens: float = 100.0
    arrives_s: float = 0.0
    n_attempts: int = 0
    waited_s: float = 0.0


@dataclass
class Said:
    outcome: Outcome
    retry_after_s: float | None = None
    quota: Quota | None = None


class Server(Protocol):
    def admit(self, now: float, job: Job) -> Said: ...

    def leave(self) -> None: ...


class Holds:
    """A hidden number of requests at once; what is above it is refused."""

    def __init__(self, most: int, retry_after_s: float | None = 1.0, outcome: Outcome = Outcome.LIMITED) -> None:
        self.most, self.retry_after_s, self.outcome = most, retry_after_s, outcome
        self.n_busy = 0

    def admit(self, now: float, job: Job) -> Said:
        if self.n_busy >= self.most:
            return Said(self.outcome, self.retry_after_s)
        self.n_busy += 1
        return Said(Outcome.OK)

    def leave(self) -> None:
        self.n_busy -= 1


class Bad:
    """Has a bad time between two moments, in which every request ends the same way."""

    def __init__(self, start: float, end: float, said: Said, most: int = 64) -> None:
        self.start, self.end, self.said, self.inner = start, end, said, Holds(most)

    def admit(self, now: float, job: Job) -> Said:
        return self.said if self.start <= now - T0 < self.end else self.inner.admit(now, job)

    def leave(self) -> None:
        self.inner.leave()


class Window:
    """So many units (requests or tokens) in any `window_s`, with x-ratelimit headers."""

    def __init__(self, per_minute: float, window_s: float, weigh: Callable[[Job], float] | None = None) -> None:
        self.per_minute, self.window_s, self.weigh = per_minute, window_s, weigh
        self.most = per_minute * window_s / 60
        self.log: deque[tuple[float, float]] = deque()
        self.used = 0.0

    def admit(self, now: float, job: Job) -> Said:
        while self.log and self.log[0][0] <= now - self.window_s:
            self.used -= self.log.popleft()[1]
        units = self.weigh(job) if self.weigh else 1.0
        if self.used + units > self.most:
            return Said(Outcome.LIMITED, 1.0, self.quota(now))
        self.log.append((now, units))
        self.used += units
        return Said(Outcome.OK, None, self.quota(now))

    def quota(self, now: float) -> Quota:
        left = self.per_minute * (1 - self.used / self.most)
        if self.weigh:
            return Quota(tpm=self.per_minute, n_tokens_left=left, tokens_reset_s=60 * (1 - left / self.per_minute))
        return Quota(rpm=self.per_minute, n_requests_left=left, requests_reset_s=60 * (1 - left / self.per_minute))

    def leave(self) -> None: ...


class Fills(Window):
    """A bucket of tokens, full at first, of what `window_s` brings."""

    level: float | None = None
    at = 0.0

    def admit(self, now: float, job: Job) -> Said:
        filled = self.most if self.level is None else self.level + (now - self.at) * self.per_minute / 60
        self.level, self.at = min(self.most, filled), now
        self.used = self.most - self.level
        if self.level < 1:
            return Said(Outcome.LIMITED, 1.0, self.quota(now))
        self.level -= 1
        return Said(Outcome.OK, None, self.quota(now))


@dataclass
class Client:
    """A lane in small: one line, one dispatcher, a task for each request on its way."""

    server: Server
    limiter: Limiter
    jobs: Iterable[Job]
    seconds: float
    answer_s: tuple[float, float] = (0.05, 1.0)
    travel_s: tuple[float, float] = (0.0005, 0.001)
    n_sent: int = 0
    n_lost: int = 0
    busy_s: float = 0.0
    sent_at: list[float] = field(default_factory=list)
    done: list[tuple[float, Job]] = field(default_factory=list)
    asked_to_wait: list[tuple[float, float]] = field(default_factory=list)

    async def run(self) -> None:
        self.line: deque[Job] = deque()
        self.change, self.random, self.pacer = asyncio.Event(), random.Random(7), Pacer(self.limiter.rpm)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.seconds), asyncio.TaskGroup() as self.tasks:
                self.tasks.create_task(self.feed())
                while True:
                    await self.dispatch()

    async def feed(self) -> None:
        for job in self.jobs:
            if job.arrives_s > self.now():
                await asyncio.sleep(job.arrives_s - self.now())
            self.line.append(job)
            self.change.set()

    async def dispatch(self) -> None:
        wait_s = self.wait_s()
        if wait_s > 0:
            self.change.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.change.wait(), min(wait_s, 60.0))
            return
        await self.pacer.permit()
        if self.wait_s() > 0:
            return  # a permit that is kept is one too many later
        job = self.line.popleft()
        self.tasks.create_task(self.send(job, self.limiter.sent(T0 + self.now(), job.n_tokens)))
        job.waited_s = self.now() - job.arrives_s
        self.n_sent += 1
        self.sent_at.append(self.now())
        assert self.limiter.n_in_flight <= self.limiter.limit

    def wait_s(self) -> float:
        return self.limiter.wait_s(T0 + self.now(), self.line[0].n_tokens) if self.line else 60.0

    async def send(self, job: Job, ticket: Ticket) -> None:
        await asyncio.sleep(self.random.uniform(*self.travel_s))
        said = self.server.admit(T0 + self.now(), job)
        if said.outcome is Outcome.OK:
            answer_s = self.random.uniform(*self.answer_s)
            await asyncio.sleep(answer_s)
            self.busy_s += answer_s
            self.server.leave()
        await asyncio.sleep(self.random.uniform(*self.travel_s))
        cost = job.cost_tokens if said.outcome is Outcome.OK else None
        self.limiter.back(
            T0 + self.now(), ticket, said.outcome, n_tokens=cost, quota=said.quota, retry_after_s=said.retry_after_s
        )
        self.pacer.retune(self.limiter.rpm, self.limiter.pace)
        self.change.set()
        if said.outcome is Outcome.OK:
            self.done.append((self.now(), job))
            return
        if said.retry_after_s:
            self.asked_to_wait.append((self.now(), said.retry_after_s))
        if said.outcome is Outcome.FAILED and not self.limiter.down:
            job.n_attempts += 1
            await asyncio.sleep(0.25 * 2**job.n_attempts)
        self.n_lost += job.n_attempts >= 5
        if job.n_attempts < 5:
            self.line.appendleft(job)
            self.change.set()

    def now(self) -> float:
        return asyncio.get_running_loop().time() - T0

    def per_s(self, start: float, end: float) -> float:
        return sum(start <= t < end for t, _ in self.done) / (end - start)

    def sent_while_asked_to_wait(self) -> int:
        return sum(at < t < at + wait_s - 1e-6 for at, wait_s in self.asked_to_wait for t in self.sent_at)


class Moody:
    """Refuses one in twenty whatever the load, as some proxies do."""

    def __init__(self, seed: int) -> None:
        self._draws = random.Random(seed)

    def admit(self, now: float, job: Job) -> Said:
        return Said(Outcome.LIMITED, None) if self._draws.random() < 0.05 else Said(Outcome.OK)

    def leave(self) -> None:
        pass
