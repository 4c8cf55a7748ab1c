"""The limiter and the pacer against simulated servers, in virtual time: what is used, wasted, lost and waited for."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import pytest

from prefsmith.limits import Limiter, Outcome, Pacer
from prefsmith.records import Quota


@dataclass
class Job:
    n_tokens: float = 100.0
    n_attempts: int = 0
    waited_s: float = 0.0
    done_at: float | None = None


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
        return self.said if self.start <= now < self.end else self.inner.admit(now, job)

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
    jobs: list[Job]
    answer_s: tuple[float, float] = (0.05, 1.0)
    travel_s: tuple[float, float] = (0.005, 0.025)
    until_s: float = 1e9
    n_sent: int = 0
    n_lost: int = 0
    sent_at: list[float] = field(default_factory=list)
    done_at: list[float] = field(default_factory=list)
    refused_at: list[tuple[float, float]] = field(default_factory=list)
    busy_s: float = 0.0
    most_in_flight: int = 0

    async def run(self) -> None:
        self.now = asyncio.get_running_loop().time
        self.start, self.line, self.change = self.now(), deque(self.jobs), asyncio.Event()
        self.random, self.pacer = random.Random(7), Pacer(self.limiter.rpm)
        n_left = len(self.line)
        tasks: set[asyncio.Task[None]] = set()
        while len(self.done_at) + self.n_lost < n_left and self.now() < self.start + self.until_s:
            if not self.line or (wait_s := self.limiter.wait_s(self.now(), self.line[0].n_tokens)) > 0:
                await self.changed(1.0 if not self.line else wait_s)
                continue
            await self.pacer.permit()
            if not self.line or self.limiter.wait_s(self.now(), self.line[0].n_tokens) > 0:
                continue  # a permit that is kept would be one too many later
            job = self.line.popleft()
            task = asyncio.create_task(self.send(job))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def changed(self, wait_s: float) -> None:
        self.change.clear()
        try:
            await asyncio.wait_for(self.change.wait(), min(wait_s, 60.0))
        except TimeoutError:
            pass

    async def send(self, job: Job) -> None:
        assert self.limiter.n_in_flight < self.limiter.limit
        ticket = self.limiter.sent(self.now(), job.n_tokens)
        self.n_sent += 1
        self.sent_at.append(self.now())
        job.waited_s = self.now() - self.start
        self.most_in_flight = max(self.most_in_flight, self.limiter.n_in_flight)
        await asyncio.sleep(self.random.uniform(*self.travel_s))
        said = self.server.admit(self.now(), job)
        if said.outcome is Outcome.OK:
            answer_s = self.random.uniform(*self.answer_s)
            await asyncio.sleep(answer_s)
            self.busy_s += answer_s
            self.server.leave()
        await asyncio.sleep(self.random.uniform(*self.travel_s))
        self.back(job, said, ticket)

    def back(self, job: Job, said: Said, ticket) -> None:
        now = self.now()
        self.limiter.back(now, ticket, said.outcome, quota=said.quota, retry_after_s=said.retry_after_s)
        self.pacer.retune(self.limiter.rpm, self.limiter.pace)
        if said.outcome is Outcome.OK:
            self.done_at.append(now)
        else:
            if said.retry_after_s:
                self.refused_at.append((now, said.retry_after_s))
            job.n_attempts += said.outcome is Outcome.FAILED and not self.limiter.down
            self.n_lost += job.n_attempts >= 5
            if job.n_attempts < 5:
                self.line.appendleft(job)
        self.change.set()
