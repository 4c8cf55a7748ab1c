"""One session: backends opened, the engine run over a view, signals heard, backends closed.

It knows processes and signals, and neither recipes' files nor exports.
"""

from __future__ import annotations

import asyncio
import gc
import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import partial
from itertools import groupby

import orjson

from prefsmith.abilities import Pool, Say, fitted
from prefsmith.attempts import Job
from prefsmith.engine import Engine, Settings
from prefsmith.errors import BUDGET_REACHED, INTERRUPTED, TERMINATED, ContextTooShort, UsageError
from prefsmith.judging.graders import GraderPool
from prefsmith.lanes import Lane, acquaint
from prefsmith.ledger.ledger import Ledger
from prefsmith.progress import Progress
from prefsmith.purse import Purse
from prefsmith.records import Json, Message
from prefsmith.stages.calls import Cell, Plan
from prefsmith.stages.most import shown_by, turns
from prefsmith.stages.view import View
from prefsmith.text import counted

OnProgress = Callable[[Progress], None]
_TICK_S = 0.25
_FENCES_TOKENS, _REPAIR_TOKENS = 128, 96
"""Of two fences, whose marks take a token a character; of the turn that quotes the format."""


async def session(
    ledger: Ledger, view: View, pools: Mapping[str, Pool], settings: Settings, on_progress: OnProgress | None,
    say: Say, purse: Purse | None = None,
) -> int:  # fmt: skip
    """Run the engine, once for each phase; returns the exit code. Raises PrefsmithError for what stopped it."""
    phases = phases_of(view.plan, pools) if settings.staged else [frozenset(pools)]
    for n, keys in enumerate(phases, 1):
        if len(phases) > 1:
            say(f"phase {n} of {len(phases)}: {', '.join(sorted(keys))}")
        held = {key: of for key, of in pools.items() if key in keys}
        if code := await _phase(ledger, view, held, settings, on_progress, say, purse):
            return code
    return 0


def phases_of(plan: Plan, pools: Mapping[str, Pool]) -> list[frozenset[str]]:
    """Which models are open at the same time when those of this machine take turns: in the order of the plan's
    stages, each with all that are served elsewhere."""
    elsewhere = {key for key, of in pools.items() if all(b.capabilities().remote for b, _ in of.members)}
    lanes = [*(c.lane for c in plan.cells), *(lane for stage in plan.stages for lane in turns(stage, len(plan.keys)))]
    lanes += [plan.confirm.lane] if plan.confirm else []
    order = [key for key, _ in groupby(key for key in lanes if key in pools and key not in elsewhere)]
    return [frozenset({key, *elsewhere}) for key in order] or [frozenset(pools)]


async def _phase(
    ledger: Ledger, view: View, pools: Mapping[str, Pool], settings: Settings, on_progress: OnProgress | None,
    say: Say, purse: Purse | None,
) -> int:  # fmt: skip
    async with AsyncExitStack() as stack:
        for key, of in pools.items():
            for backend, _ in of.members:
                stack.push_async_callback(backend.close)
                sized = backend.capabilities().n_ctx_tokens is not None
                try:
                    await backend.open(*(_load(ledger, view, key) if sized else ((), 0)))
                except ContextTooShort as short:
                    raise UsageError(_too_short(short, view.plan, key)) from None
                ledger.learn({f"backend.{backend.endpoint}.{n}": v for n, v in backend.facts().items()})
        pool = await stack.enter_async_context(GraderPool())
        for leaf in view.plan.leaves:
            if leaf.grader is not None and (error := await pool.load(leaf.grader)):
                raise UsageError(f"judge: {leaf.name} cannot be loaded: {error}; mend it, nothing was asked yet")
        view = await fitted(ledger, view, pools, probe=settings.probe, purse=purse, say=say)
        lanes = {
            key: Lane[Job](of.members, price=of.price, patience_s=settings.patience_s) for key, of in pools.items()
        }
        acquaint(lanes.values())
        for lane in lanes.values():
            lane.tell = say
            lane.proven = any(worked_before(ledger.db, line.backend.endpoint) for line in lane.lines)
        engine = Engine(view, ledger, lanes, pool, settings, purse)
        _catch_signals(engine, say)
        ticker = asyncio.create_task(_tick(engine, on_progress)) if on_progress else None
        try:
            with _rare_collections():
                code = await engine.run()
        finally:
            if ticker and on_progress:
                ticker.cancel()
                on_progress(engine.progress)
        ledger.learn({limits_fact(key): _limits(lane) for key, lane in lanes.items()})
        _tell_end(engine, lanes, settings, code, say)
    return code


def limits_fact(key: str) -> str:
    """The name under which the ledger keeps what was learnt of a model's limits."""
    return f"limits.{key}"


def _limits(lane: Lane[Job]) -> Json:
    """What a model's endpoints were found to allow, all of them together, where that is less than what is declared."""
    out: dict[str, Json] = {}
    for name in ("rpm", "tpm", "concurrency"):
        can = [getattr(line.backend.capabilities(), name) for line in lane.lines]
        found = [line.limiter.limit if name == "concurrency" else getattr(line.limiter, name) for line in lane.lines]
        if None not in found and found != can:
            out[name] = sum(found)
    return out


def _tell_end(engine: Engine, lanes: Mapping[str, Lane[Job]], settings: Settings, code: int, say: Say) -> None:
    """What the user should know of a session that did not just work."""
    progress = engine.progress
    for lane in lanes.values():
        for line in lane.lines:
            if line.stopped:
                say(f"{line.backend.endpoint} was given up: {line.stopped.detail}; mend it and run again to go on")
            if line.limiter.capped_retry_after_s:
                asked_s = line.limiter.capped_retry_after_s
                say(f"{line.backend.endpoint} asked to wait {asked_s:,.0f} s; it was asked again after an hour")
    if progress.n_owed and code != BUDGET_REACHED:
        failed = ", ".join(f"{n} {why}" for why, n in progress.n_calls_failed.most_common())
        failed = f", after failed attempts: {failed}" if failed else ""
        for lane in lanes.values():
            if lane.last_error and not lane.stopped:
                say(f"{lane.name} failed last with: {lane.last_error.detail}")
        unseen = progress.n_items_unseen
        more = f"; not begun: {counted(unseen, 'item')}" if unseen else ""
        say(f"still owed: {counted(progress.n_owed, 'call')}{failed}{more}; run again to go on")
    n_all, n_without = progress.n_verdicts + progress.earlier.total(), progress.n_without
    if n_without > settings.max_no_verdict * n_all:
        say(f"warning: {n_without} of {n_all} verdicts have no result; `prefsmith explain RUN ID` shows why")
    done = f"{progress.n_items_done} of {progress.n_items} items"
    if code == BUDGET_REACHED:
        told = "" if engine.purse is None else f": {engine.purse.told()}"
        say(f"the budget is reached with {done} done{told}; run again with a larger one to go on")
    elif code in (INTERRUPTED, TERMINATED):
        say(f"stopped with {done} done; run again to go on")


def _load(ledger: Ledger, view: View, lane: str) -> tuple[Sequence[tuple[Message, ...]], int]:
    """The longest conversations that a backend will see, and the tokens to add for what is answered."""
    plan, chosen = view.plan, (view.selection.source, view.selection.last_line)
    described = {i: orjson.loads(text) for i, text in ledger.db.execute("SELECT id, json FROM sampler")}
    extra = answer = max(described[c.sampler].get("max_tokens") or _longest(ledger, c) for c in plan.cells)
    taken = (
        "FROM prompt WHERE id IN (SELECT i.prompt FROM row r JOIN item i ON i.id = r.item "
        "WHERE r.source = ? AND r.line <= ? AND r.reason IS NULL)"
    )
    sql = f"SELECT messages {taken} ORDER BY length(messages) DESC LIMIT 4"
    rows = ledger.db.execute(sql, chosen).fetchall()
    longest: list[tuple[Message, ...]] = [tuple(orjson.loads(m)) for (m,) in rows]
    # Tool definitions stand in the context too; two bytes a token is more than any JSON takes.
    extra += (ledger.db.execute(f"SELECT max(length(tools)) {taken}", chosen).fetchone()[0] or 0) // 2
    systems = [described[c.sampler].get("system") or "" for c in plan.cells if c.lane == lane]
    if any(systems):
        longest = [({"role": "system", "content": max(systems, key=len)}, *m) for m in longest]
    for leaf in plan.leaves:
        if leaf.asks is not None and leaf.lane == lane:
            # A judge's text, the prompt, its candidates in their fences, and twice its own cap (step `longer`), which
            # may stand beside a reply that could not be read and the turn that asks again.
            longest += [({"role": "user", "content": leaf.asks.prompt}, *m) for m in longest[:1]]
            shown = max(shown_by(leaf, 2 if plan.contests else len(plan.keys)), 2) * answer
            extra = max(extra, shown + 2 * leaf.asks.sampling.max_tokens + _FENCES_TOKENS + _REPAIR_TOKENS)
    return longest, extra


def _too_short(error: ContextTooShort, plan: Plan, lane: str) -> str:
    """Where a judge asks the model, its text and the answers that it is shown take the room."""
    judges = [leaf for leaf in plan.leaves if leaf.asks is not None and leaf.lane == lane]
    if not judges:
        return str(error)
    judge = max(judges, key=lambda leaf: len(leaf.asks.prompt) if leaf.asks else 0)
    shorter = " (such as pairwise-short)" if judge.gives == "choice" and judge.name != "pairwise-short" else ""
    more = "; a lower max_tokens of `sample:` also helps" if plan.samples else ""
    return (
        f"judge {judge.name!r} is too long for {error.model}, which holds {error.n_ctx} tokens: its text and the "
        f"longest prompt have {error.n_prompt}, and {error.n_answer} are wanted for the answers shown and its reply; "
        f"take a judge with a shorter text{shorter} or a model with a longer context{more}"
    )


def _longest(ledger: Ledger, cell: Cell) -> int:
    """Tokens of the longest imported answer: two bytes a token is more than texts take."""
    sql = "SELECT max(length(CAST(t.body AS BLOB))) FROM completion c JOIN text t ON t.id = c.text WHERE c.sampler = ?"
    return int(ledger.db.execute(sql, (cell.sampler,)).fetchone()[0] or 0) // 2


def worked_before(db: sqlite3.Connection, endpoint: str) -> bool:
    """An earlier session got an answer there, so a 400 is about its prompt."""
    sql = "SELECT 1 FROM call WHERE status = 'ok' AND endpoint = ? LIMIT 1"
    return db.execute(sql, (endpoint,)).fetchone() is not None


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Thousands of live values of open prompts are no garbage: looking them through at the usual pace costs an eighth
    of the engine's time."""
    usual = gc.get_threshold()
    gc.set_threshold(50_000, 20, 50)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


async def _tick(engine: Engine, on_progress: OnProgress) -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    while True:
        engine.progress.elapsed_s = loop.time() - started
        on_progress(engine.progress)
        await asyncio.sleep(_TICK_S)


def _catch_signals(engine: Engine, say: Say) -> None:
    """Signals reach only the main thread; elsewhere the caller stops the loop itself."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()

    def caught(code: int) -> None:
        if engine.interrupt(code):
            say("stopping: waiting for replies on their way; once more to stop at once")
        else:
            say("stopping at once")

    loop.add_signal_handler(signal.SIGINT, partial(caught, INTERRUPTED))
    loop.add_signal_handler(signal.SIGTERM, partial(caught, TERMINATED))
