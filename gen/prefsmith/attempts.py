"""One attempt of a call: sent to an endpoint, its row written, its cost settled, and told what is to be done next.

It decides how a failure is counted, and neither what is asked nor when it may be sent.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from prefsmith.errors import CallFailed
from prefsmith.frontier import Open
from prefsmith.lanes import Lane, Taken
from prefsmith.ledger.writer import Rows
from prefsmith.limits import Outcome, TokenEstimate
from prefsmith.lines import Line
from prefsmith.prices import cost_nanousd
from prefsmith.progress import Progress, Spending
from prefsmith.purse import Purse
from prefsmith.reasons import FINAL_CALL, Reason
from prefsmith.records import Reply, Request
from prefsmith.stages.asking import request
from prefsmith.stages.calls import Asked, Sampled
from prefsmith.stages.landing import Desk, Landed, Sent

FIRST_BACKOFF_S: Final = 0.5
LONGEST_BACKOFF_S: Final = 30.0
STRAY_S: Final = 0.5
"""After a 429; when it was not just this call's bad luck, its endpoint's limiter waits longer."""
PROBED_S: Final = 2.0
"""A call that failed while its endpoint was down goes to the back for so long: it may be what brings it down."""

_OK: Final = Outcome.OK


@dataclass(slots=True)
class Job:
    """A call of an open prompt on its way. `n_failed`: attempts that count against it, and not against its endpoint;
    `most`: what it has reserved, or would, of the budget; `failed_at`: the endpoint that failed it last."""

    prompt: Open
    call: Sampled | Asked
    n_failed: int = 0
    most: int = 0
    asked: Request | None = None
    failed_at: Line[Job] | None = None


class Again(NamedTuple):
    """To be tried again after so long."""

    delay_s: float


@dataclass(slots=True)
class Attempts:
    """`rows`: the open group of the ledger's writer. `short`: lanes whose next call waits for money."""

    run_seed: int
    most_failed: int
    desk: Desk
    rows: Callable[[], Rows]
    progress: Progress
    purse: Purse | None = None
    on_short: Callable[[], None] = lambda: None
    short: set[Lane[Job]] = field(default_factory=set)
    slowest_s: float = 0.0
    _estimate: TokenEstimate = field(default_factory=TokenEstimate)

    def __post_init__(self) -> None:
        if self.purse is not None:
            self._money_came()

    def cost(self, job: Job) -> float:
        """About how many tokens a call will take."""
        asked = self._asked(job)
        n_chars = sum(len(m["content"] or "") for m in asked.messages)
        return self._estimate.tokens(_sampler(job.call), n_chars, asked.n, asked.sampling.max_tokens)

    def may_spend(self, lane: Lane[Job], job: Job) -> bool:
        """Reserve what a call can cost."""
        if self.purse is None or self.purse.take(self.bound(lane, job)):
            return True
        self.short.add(lane)
        self.on_short()
        return False

    def bound(self, lane: Lane[Job], job: Job) -> int:
        """The most that a call can take of the budget."""
        if self.purse is not None and not job.most:
            job.most = self.purse.most(self._asked(job), lane.price)
        return job.most

    async def carry_out(self, lane: Lane[Job], taken: Taken[Job]) -> Landed | Again | None:
        """What is to be done after the commit, or Again, or None for a call that is given up in this session."""
        job, line = taken.job, taken.line
        asked = self._asked(job) if job.asked is None else job.asked
        job.asked = None
        t_sent, started = time.time(), time.monotonic()
        try:
            reply: Reply | CallFailed = await line.backend.send(asked)
        except CallFailed as e:
            reply = e
        except Exception:
            lane.back(taken, Outcome.REFUSED)  # a bug: it ends the run, which must not wait for this call
            raise
        wall_s = time.monotonic() - started
        backend, price = line.backend, lane.price
        cost = None if price is None or isinstance(reply, CallFailed) else cost_nanousd(price, reply.usage)
        sent = Sent(backend.target, backend.endpoint, job.n_failed + 1, t_sent, wall_s, cost)
        if isinstance(reply, CallFailed):
            return self._failed(lane, taken, reply, sent)
        if wall_s > self.slowest_s:
            self.slowest_s = wall_s
        return self._answered(lane, taken, asked, reply, sent)

    def _answered(self, lane: Lane[Job], taken: Taken[Job], asked: Request, reply: Reply, sent: Sent) -> Landed:
        job, rows, usage = taken.job, self.rows(), reply.usage
        work, known, n_new = job.prompt.work, job.prompt.known, usage.n_completion_tokens or 0
        n_tokens = None if usage.n_prompt_tokens is None else usage.n_prompt_tokens + n_new
        lane.back(taken, _OK, n_tokens=n_tokens, quota=reply.quota)
        if taken.line.limiter.tpm is not None:
            self._estimate.observe(_sampler(job.call), usage, len(reply.choices))
        if self.purse is not None:
            self.purse.came(rows, job.most, usage, lane.price)
            self._money_came()
        progress = self.progress
        progress.n_calls_ok += 1
        progress.n_tokens += n_new
        if sent.cost_nanousd is None:
            progress.n_unpriced += 1
        else:
            progress.spent_nanousd += sent.cost_nanousd
        if isinstance(job.call, Sampled):
            progress.n_completions += len(reply.choices)
            return self.desk.sampled(rows, work, known, job.call, reply, sent, asked.seed)
        return self.desk.judged(rows, work, known, job.call, reply, sent)

    def _failed(self, lane: Lane[Job], taken: Taken[Job], error: CallFailed, sent: Sent) -> Landed | Again | None:
        """A 429 is the endpoint's alone; a final reason closes its units; the rest is tried again or left owed."""
        job, line, rows, error = taken.job, taken.line, self.rows(), lane.doubted(error)
        final = error.reason in FINAL_CALL and not error.stops_endpoint
        outcome = outcome_of(error)
        lane.back(taken, outcome, quota=error.quota, error=error)
        if self.purse is not None:
            self.purse.failed(job.most, maybe_billed=error.maybe_billed)
            self._money_came()
        self.progress.n_calls_failed[error.reason] += 1
        if outcome is Outcome.LIMITED:
            rows.counts[f"http.429.{line.backend.endpoint}.{int(sent.t_sent) // 60}"] += 1
            return Again(STRAY_S * random.uniform(0.5, 1))
        landed = self.desk.failed(rows, job.prompt.work, job.prompt.known, job.call, error, sent)
        if final:
            return landed
        if lane.stopped:
            return None
        job.failed_at = line
        if error.stops_endpoint or outcome is Outcome.OVERLOADED or line.limiter.down:
            # The endpoint's fault, not the call's: its limiter says when.
            return Again((PROBED_S if line.limiter.down else STRAY_S) * random.uniform(0.5, 1))
        job.n_failed += 1
        if job.n_failed >= self.most_failed:
            return None
        return Again(min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** (job.n_failed - 1)) * random.uniform(0.5, 1))

    def _money_came(self) -> None:
        assert self.purse is not None
        of = self.purse.budget
        self.progress.budget = Spending(self.purse.unit, of.spent + of.maybe, of.cap)
        for lane in self.short:
            lane.wake()
        self.short.clear()

    def _asked(self, job: Job) -> Request:
        if job.asked is None:
            job.asked = request(job.call, job.prompt.work, job.prompt.known, self.run_seed)
        return job.asked


def outcome_of(error: CallFailed) -> Outcome:
    """What a failure says of its endpoint."""
    if error.reason is Reason.RATE_LIMITED:
        return Outcome.LIMITED
    if error.http_status == 503:
        return Outcome.OVERLOADED
    return Outcome.REFUSED if error.reason in FINAL_CALL or error.stops_endpoint else Outcome.FAILED


def _sampler(call: Sampled | Asked) -> int:
    return call.cell.sampler if isinstance(call, Sampled) else -call.leaf.judge
