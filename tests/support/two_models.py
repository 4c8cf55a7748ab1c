"""Two models of one simulated server, asked through real lanes: four samples of a prompt, then verdicts on some."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from prefsmith.backends.scripted import Scripted
from prefsmith.endpoints import Script
from prefsmith.errors import CallFailed
from prefsmith.lanes import Lane, acquaint
from prefsmith.limits import Outcome
from prefsmith.reasons import Reason
from prefsmith.records import Capabilities

REFUSED = CallFailed(Reason.RATE_LIMITED, "429", http_status=429, retry_after_s=1.0)
SAMPLE, VERDICT = "sample", "verdict"
_OF_A_PROMPT = 4


@dataclass
class Server:
    """Holds so many of all models together, and of each."""

    most: float = float("inf")
    each: float = float("inf")
    ill: tuple[float, float] = (0.0, 0.0)
    """When it refuses all samples."""
    n: dict[str, int] = field(default_factory=lambda: {SAMPLE: 0, VERDICT: 0})
    ended: list[tuple[float, float, str]] = field(default_factory=list)
    """What was answered: when, after how long, of which model."""
    n_refused: int = 0

    def admits(self, kind: str, now: float) -> bool:
        ill = kind == SAMPLE and self.ill[0] <= now < self.ill[1]
        if ill or sum(self.n.values()) >= self.most or self.n[kind] >= self.each:
            self.n_refused += 1
            return False
        self.n[kind] += 1
        return True

    def in_flight(self, start: float, end: float, kind: str = "") -> float:
        """In the mean, between two moments."""
        of = [(at - took_s, at) for at, took_s, which in self.ended if kind in ("", which)]
        return sum(max(0.0, min(end, b) - max(start, a)) for a, b in of) / (end - start)

    @property
    def end(self) -> float:
        return max(at for at, *_ in self.ended)


@dataclass
class Work:
    server: Server
    n_prompts: int
    tied: float = 0.25
    """The share of prompts whose samples the judge is asked about."""
    n_slots: int = 64
    answer_s: float = 0.25
    lanes: dict[str, Lane[int]] = field(default_factory=dict)

    async def run(self) -> None:
        can = Capabilities(frozenset(), concurrency=self.n_slots, remote=True)
        for kind in (SAMPLE, VERDICT):
            self.lanes[kind] = Lane([(Scripted(target="e", endpoint="e/0", script=Script(), capabilities=can), 1.0)])
        acquaint(self.lanes.values())
        self._draws, self._done, self._n_left = random.Random(7), asyncio.Event(), self.n_prompts
        self._t0 = asyncio.get_running_loop().time()
        self._missing = {(SAMPLE, i): _OF_A_PROMPT for i in range(self.n_prompts)}
        for prompt in _each(self.n_prompts):
            self._push(SAMPLE, prompt)
        workers = [asyncio.create_task(self._work(kind)) for kind in self.lanes for _ in range(self.n_slots)]
        await asyncio.wait_for(self._done.wait(), 3600)
        for lane in self.lanes.values():
            lane.close()
        await asyncio.gather(*workers)

    async def _work(self, kind: str) -> None:
        lane, loop = self.lanes[kind], asyncio.get_running_loop()
        while (taken := await lane.take()) is not None:
            await asyncio.sleep(self._draws.uniform(0.0005, 0.001))
            if not self.server.admits(kind, self._now()):
                lane.back(taken, Outcome.LIMITED, error=REFUSED)
                loop.call_later(self._draws.uniform(0.25, 0.5), self._push, kind, taken.job)
                continue
            took_s = self.answer_s * self._draws.lognormvariate(-0.08, 0.4)
            await asyncio.sleep(took_s)
            self.server.n[kind] -= 1
            self.server.ended.append((self._now(), took_s, kind))
            await asyncio.sleep(self._draws.uniform(0.0005, 0.001))
            lane.back(taken, Outcome.OK)
            loop.call_later(self._draws.uniform(0, 0.05), self._landed, kind, taken.job)

    def _landed(self, kind: str, prompt: int) -> None:
        self._missing[kind, prompt] -= 1
        if self._missing[kind, prompt]:
            return
        if kind == SAMPLE and self._draws.random() < self.tied:
            self._missing[VERDICT, prompt] = _OF_A_PROMPT
            for _ in range(_OF_A_PROMPT):
                self._push(VERDICT, prompt)
        else:
            self._n_left -= 1
            if not self._n_left:
                self._done.set()

    def _push(self, kind: str, prompt: int) -> None:
        self.lanes[kind].push(int(kind == VERDICT), prompt, prompt, b"")

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._t0


def _each(n_prompts: int) -> Iterator[int]:
    return (prompt for prompt in range(n_prompts) for _ in range(_OF_A_PROMPT))
