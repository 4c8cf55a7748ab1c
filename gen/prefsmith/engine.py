"""Wiring: open prompts, ask `needed`, carry its calls out, hand replies to the ledger, ask again.

It decides nothing about what to ask and keeps nothing that a kill could lose. Fixed workers pull the most advanced
call; a window of open prompts bounds the memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from prefsmith.attempts import Again, Attempts, Job
from prefsmith.errors import BUDGET_REACHED, INTERRUPTED, ThresholdFailed
from prefsmith.frontier import Frontier, Open
from prefsmith.judging.graders import Grader, GraderPool
from prefsmith.lanes import Lane
from prefsmith.ledger.ledger import Ledger
from prefsmith.ledger.writer import Rows, Writer
from prefsmith.progress import Progress
from prefsmith.purse import Purse
from prefsmith.stages.calls import Graded
from prefsmith.stages.grid import is_open
from prefsmith.stages.landing import Desk, Landed
from prefsmith.stages.plan import needed
from prefsmith.stages.view import View


@dataclass(frozen=True, slots=True)
class Settings:
    window: int = 512
    attempts: int = 5
    grace_s: float = 5.0
    max_no_verdict: float = 0.05
    patience_s: float = 300.0
    staged: bool = False
    probe: bool = True


class Engine:
    """One session over one view, or what its lanes can do of it. `run` returns 0, 3 (the budget is reached), 5 (calls
    still owed) or a signal's code; raises what stopped it."""

    def __init__(
        self, view: View, ledger: Ledger, lanes: Mapping[str, Lane[Job]], pool: GraderPool, settings: Settings,
        purse: Purse | None = None,
    ) -> None:  # fmt: skip
        self.progress = Progress(n_items=view.selection.n_items)
        self._view, self._plan, self._ledger = view, view.plan, ledger
        self._lanes, self._pool, self._settings = lanes, pool, settings
        self._desk, self.purse = Desk(ledger), purse
        if purse is not None:
            purse.n_slots = sum(lane.limit for lane in lanes.values())
        self._stopping = False
        """Nothing more is sent or opened: a signal, an error, or a provider that is gone."""
        self._exit: int | None = None
        self._error: BaseException | None = None
        self._tasks, self._ended = set[asyncio.Task[None]](), asyncio.Event()
        self._due: set[Callable[[], None]] = set()
        self._n_grading, self._closing = 0, False

    async def run(self) -> int:
        self._db = self._ledger.reader()
        self._frontier = Frontier(self._db, self._view, self._settings.window, self.progress)
        self._writer = Writer(self._ledger, self._landed, self._on_flush)
        self._writer.on_failure = self._ended.set
        self._attempts = Attempts(
            self._plan.seed, self._settings.attempts, self._desk, self._writer.rows, self.progress, self.purse,
            lambda: self._soon(self._look_at_money),
        )  # fmt: skip
        try:
            for lane in self._lanes.values():
                lane.cost = self._attempts.cost
                if self.purse is not None:
                    lane.may_spend = partial(self._attempts.may_spend, lane)
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
            await self._close_purse()
            await self._writer.close()
            self._frontier.close()
            self._db.close()
        if error := self._error or self._writer.failure:
            raise error
        return self._exit if self._exit is not None else 5 if self.progress.n_owed else 0

    def interrupt(self, code: int = INTERRUPTED) -> bool:
        """First call: send nothing more, wait for what is on its way. Second: stop at once. Whether it waits."""
        if self._exit is None:
            self._exit = code
            self._drain()
            return True
        self._ended.set()
        return False

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
        ours = [c for c in missing if isinstance(c, Graded) or c.lane in self._lanes]
        owed = prompt.owed
        calls = [] if self._stopping else [c for c in ours if c.name not in owed] if owed else ours
        if not calls:
            complete = not missing and not is_open(self._plan, prompt.known)
            self._frontier.finish(prompt, self._writer.rows(), len(ours), complete=complete)
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
            lane.push(job.call.rank, job.prompt.line, job, job.prompt.work.hash, job.failed_at)

    async def _work(self, lane: Lane[Job]) -> None:
        while (taken := lane.take_now() or await lane.take()) is not None:
            what = await self._attempts.carry_out(lane, taken)
            if what is None or isinstance(what, Again):
                self._not_yet(taken.job, what)
            else:
                self._writer.put((taken.job.prompt, what))
            if lane.stopped:
                for other in lane.drop_all():
                    self._give_up(other)
            if not lane.n_in_flight:
                self._soon(self._flush_when_starved)
            if self._stopping:
                self._end_when_landed()
            if self._writer.behind:
                await self._writer.room()

    def _not_yet(self, job: Job, again: Again | None) -> None:
        self._writer.put()
        if again is None:
            self._give_up(job)
        elif again.delay_s:
            asyncio.get_running_loop().call_later(again.delay_s, self._guard, self._push, job)
        else:
            self._push(job)

    def _give_up(self, job: Job) -> None:
        job.prompt.owed.add(job.call.name)
        self._one_less(job.prompt)

    def _one_less(self, prompt: Open) -> None:
        prompt.pending -= 1
        if not prompt.pending:
            self._advance(prompt)

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

    def _on_flush(self, rows: Rows) -> Callable[[], None] | None:
        """The budget's part of a group; once it is committed, more may be sent."""
        if self.purse is None or (raised := self.purse.write(rows, closing=self._closing)) is None:
            return None

        def after() -> None:
            raised()
            for lane in self._lanes.values():
                lane.wake()

        return after

    def _look_at_money(self) -> None:
        """Some call waits for money: for what is out to come back, for the disk, or in vain."""
        heads = [(lane, lane.head) for lane in self._lanes.values()]
        mosts = [self._attempts.bound(lane, head) for lane, head in heads if head is not None]
        if self._stopping or self.purse is None:
            return
        if mosts and all(map(self.purse.reached, mosts)):
            self.interrupt(BUDGET_REACHED)
        else:
            self._writer.put()

    async def _close_purse(self) -> None:
        """Hold no more than what is still out."""
        await self._writer.drained()
        self._closing = True
        if self.purse is not None:
            self._writer.put()

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

    def _flush_when_starved(self) -> None:
        """Everything waits for a commit: a fuller group would only come late."""
        if not self._n_grading and not any(len(lane) or lane.n_in_flight for lane in self._lanes.values()):
            self._writer.flush()

    # -- stopping

    def _drain(self) -> None:
        self._stopping = True
        for lane in self._lanes.values():
            lane.drop_all()
        asyncio.get_running_loop().call_later(self._settings.grace_s + self._attempts.slowest_s, self._ended.set)
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
