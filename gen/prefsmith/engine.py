"""Wiring: open prompts, ask `needed`, carry its calls out, hand replies to the ledger, ask again.

It decides nothing about what to ask and keeps nothing that a kill could lose. Fixed workers pull the most advanced
call; a window of open prompts bounds the memory.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prefsmith.errors import INTERRUPTED, CallFailed, ThresholdFailed
from prefsmith.frontier import Frontier, Open
from prefsmith.judging.graders import Grader, GraderPool
from prefsmith.lanes import Lane
from prefsmith.ledger.ledger import Ledger
from prefsmith.ledger.writer import Writer
from prefsmith.progress import Progress
from prefsmith.reasons import FINAL_CALL, Reason
from prefsmith.records import Reply
from prefsmith.stages.asking import request
from prefsmith.stages.calls import Asked, Graded, Sampled
from prefsmith.stages.grid import is_open
from prefsmith.stages.landing import Desk, Landed, Sent
from prefsmith.stages.plan import needed
from prefsmith.stages.view import View

LONGEST_BACKOFF_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Settings:
    window: int = 512
    attempts: int = 5
    grace_s: float = 5.0
    max_no_verdict: float = 0.05


@dataclass(slots=True)
class Job:
    prompt: Open
    call: Sampled | Asked
    attempt: int = 1


class Engine:
    """One session over one view. `run` returns 0, 5 (calls still owed) or a signal's code; raises what stopped it."""

    def __init__(
        self, view: View, ledger: Ledger, lanes: Mapping[str, Lane[Job]], pool: GraderPool, settings: Settings
    ) -> None:
        self.progress = Progress(n_items=view.selection.n_items)
        self._view, self._plan, self._ledger = view, view.plan, ledger
        self._lanes, self._pool, self._settings = lanes, pool, settings
        self._desk = Desk(ledger)
        self._exit: int | None = None
        self._error: BaseException | None = None
        self._slowest_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._due: set[Callable[[], None]] = set()
        self._n_grading = 0

    async def run(self) -> int:
        self._db = self._ledger.reader()
        self._frontier = Frontier(self._db, self._view, self._settings.window, self.progress)
        self._writer = Writer(self._ledger, self._landed)
        self._writer.on_failure = self._ended.set
        try:
            for lane in self._lanes.values():
                for _ in range(lane.limit):
                    self._spawn(self._work(lane))
            self._check_verdicts()
            self._guard(self._admit)
            await self._ended.wait()
        finally:
            for lane in self._lanes.values():
                lane.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._writer.close()
            self._db.close()
        if error := self._error or self._writer.failure:
            raise error
        return self._exit if self._exit is not None else 5 if self.progress.n_owed else 0

    def interrupt(self, code: int = INTERRUPTED) -> None:
        """First call: send nothing more, wait for what is on its way. Second: stop at once."""
        if self._exit is None:
            self._exit = code
            self._drain()
        else:
            self._ended.set()

    # -- opening and finishing prompts

    def _admit(self) -> None:
        """Open one block of prompts; the next waits for the loop, so that a signal is heard between them."""
        gone = bool(self._lanes) and all(lane.stopped for lane in self._lanes.values())
        if not self._stopping and not gone and (opened := self._frontier.admit()):
            for one in opened:
                self._advance(one)
            self._soon(self._admit)
        elif not self._frontier:
            self._ended.set()

    def _advance(self, prompt: Open) -> None:
        """Ask what is missing; when nothing can be asked any more, the prompt is finished or owed."""
        missing = needed(self._plan, prompt.work, prompt.known)
        calls = [] if self._stopping else [c for c in missing if c.name not in prompt.owed]
        if not calls:
            complete = not missing and not is_open(self._plan, prompt.known)
            self._frontier.finish(prompt, self._writer.rows(), len(missing), complete=complete)
            self._writer.put()
            self._soon(self._admit)
            return
        prompt.pending = len(calls)
        for call in calls:
            if isinstance(call, Graded):
                self._grade(prompt, call)
            else:
                self._push(Job(prompt, call))

    # -- carrying calls out

    def _push(self, job: Job) -> None:
        lane = self._lanes[job.call.lane]
        if lane.stopped:
            self._give_up(job)
        elif not self._stopping:
            lane.push(job.call.rank, job.prompt.line, job)

    async def _work(self, lane: Lane[Job]) -> None:
        while (job := await lane.take()) is not None:
            try:
                await self._carry_out(lane, job)
            finally:
                lane.back()
            self._soon(self._flush_when_starved)
            self._end_when_landed()
            if self._writer.behind:
                await self._writer.room()

    async def _carry_out(self, lane: Lane[Job], job: Job) -> None:
        work, known = job.prompt.work, job.prompt.known
        asked = request(job.call, work, known, self._plan.seed)
        t_sent, started = time.time(), time.monotonic()
        try:
            reply: Reply | CallFailed = await lane.backend.send(asked)
        except CallFailed as e:
            reply = e
        wall_s = time.monotonic() - started
        sent = Sent(lane.backend.target, lane.backend.endpoint, job.attempt, t_sent, wall_s)
        rows = self._writer.rows()
        if isinstance(reply, CallFailed):
            self._failed(lane, job, reply, sent)
            return
        lane.answered(well=True)
        self._slowest_s = max(self._slowest_s, wall_s)
        self.progress.n_calls_ok += 1
        self.progress.n_tokens += reply.usage.n_completion_tokens or 0
        if isinstance(job.call, Sampled):
            self.progress.n_completions += len(reply.choices)
            landed = self._desk.sampled(rows, work, known, job.call, reply, sent, asked.seed)
        else:
            landed = self._desk.judged(rows, work, known, job.call, reply, sent)
        self._writer.put((job.prompt, landed))

    def _failed(self, lane: Lane[Job], job: Job, error: CallFailed, sent: Sent) -> None:
        """A 429 is the lane's alone; a final reason closes its units; the rest is tried again or left owed."""
        rows, prompt, error = self._writer.rows(), job.prompt, lane.doubted(error)
        self.progress.n_calls_failed[error.reason] += 1
        if error.reason is Reason.RATE_LIMITED:
            rows.counts[f"http.429.{lane.backend.endpoint}.{int(sent.t_sent) // 60}"] += 1
            lane.limited(error.retry_after_s)
            self._push(job)
            return
        landed = self._desk.failed(rows, prompt.work, prompt.known, job.call, error, sent)
        if error.reason in FINAL_CALL and not error.stops_endpoint:
            lane.answered(well=False)
            self._writer.put((prompt, landed))
            return
        self._writer.put()
        lane.failed(error)
        if lane.stopped or job.attempt >= self._settings.attempts:
            for given_up in (*(lane.drop_all() if lane.stopped else ()), job):
                self._give_up(given_up)
        elif not self._stopping:
            job.attempt += 1
            delay_s = min(LONGEST_BACKOFF_S, 0.25 * 2**job.attempt) * random.uniform(0.5, 1)
            asyncio.get_running_loop().call_later(delay_s, self._guard, self._push, job)

    def _give_up(self, job: Job) -> None:
        job.prompt.owed.add(job.call.name)
        self._one_less(job.prompt)

    def _grade(self, prompt: Open, call: Graded) -> None:
        assert call.leaf.grader is not None
        texts = [prompt.known.text(t) for t in call.texts]
        if call.leaf.grader.inline:
            scores = call.leaf.grader.grade(texts, call.item)
            self._writer.put((prompt, self._desk.graded(self._writer.rows(), prompt.work, prompt.known, call, scores)))
        else:
            self._n_grading += 1
            self._spawn(self._grade_apart(prompt, call, call.leaf.grader, texts))

    async def _grade_apart(self, prompt: Open, call: Graded, grader: Grader, texts: list[str]) -> None:
        scores = await self._pool.grade(grader, texts, call.item)
        self._n_grading -= 1
        self._writer.put((prompt, self._desk.graded(self._writer.rows(), prompt.work, prompt.known, call, scores)))
        self._soon(self._flush_when_starved)

    # -- what was committed

    def _landed(self, group: list[tuple[Open, Landed]]) -> None:
        """What a group has brought is known from now on."""
        for prompt, landed in group:
            try:
                if judged := landed():
                    self.progress.judged(judged)
                self._one_less(prompt)
            except Exception as e:  # the per-record guard: the others' answers are in the ledger and must be known
                self._stop_for(e)
        self._guard(self._check_verdicts)
        self._soon(self._flush_when_starved)

    def _check_verdicts(self) -> None:
        if not self._stopping and (message := self.progress.too_many_without(self._settings.max_no_verdict)):
            self._stop_for(ThresholdFailed(message))

    def _one_less(self, prompt: Open) -> None:
        prompt.pending -= 1
        if prompt.pending == 0:
            self._advance(prompt)

    def _flush_when_starved(self) -> None:
        """Everything waits for a commit: a fuller group would only come late."""
        if not self._n_grading and not any(len(lane) or lane.n_in_flight for lane in self._lanes.values()):
            self._writer.flush()

    # -- stopping

    @property
    def _stopping(self) -> bool:
        """Nothing more is sent or opened: a signal, an error, or a provider that is gone."""
        return self._exit is not None or self._error is not None

    def _drain(self) -> None:
        for lane in self._lanes.values():
            lane.drop_all()
        asyncio.get_running_loop().call_later(self._settings.grace_s + self._slowest_s, self._ended.set)
        self._end_when_landed()

    def _end_when_landed(self) -> None:
        if self._stopping and not any(lane.n_in_flight for lane in self._lanes.values()):
            self._spawn(self._end())

    async def _end(self) -> None:
        await self._writer.drained()
        self._ended.set()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended_task)

    def _ended_task(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._stop_for(error)

    def _soon(self, step: Callable[[], None]) -> None:
        """Take a step in the loop's next turn, once however often it was asked for: what one commit sets off is
        opened together and goes into one group."""
        if step not in self._due:
            self._due.add(step)
            asyncio.get_running_loop().call_soon(self._guard, self._take, step)

    def _take(self, step: Callable[[], None]) -> None:
        self._due.remove(step)
        step()

    def _guard(self, step: Callable[..., None], *args: object) -> None:
        """Callbacks of the loop have no caller: their errors end the run."""
        try:
            step(*args)
        except Exception as e:
            self._stop_for(e)

    def _stop_for(self, error: BaseException) -> None:
        """Send nothing more; replies on their way are paid for and kept."""
        if self._error is None:
            self._error = error
            self._drain()
