"""The ledger's writer: rows from the loop in, group commits out, by one thread.

Everything of one call (its row, texts, completions or verdict, counters) is in one transaction, and the loop is told
of it only after that transaction's commit returned. The thread knows rows, not their meaning.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any, Final, Generic, TypeVar

from prefsmith.errors import PrefsmithError
from prefsmith.ledger.ledger import Ledger

GROUP_CALLS: Final = 256
GROUP_S: Final = 0.05
_BATCHES_AHEAD: Final = 4
"""A full disk or a slow one must not let replies pile up in memory without end."""

_Row = tuple[Any, ...]
Call = TypeVar("Call")
_AT_ONCE: Final = 64
"""Rows of one statement. Each statement's step gives the interpreter's lock up, and a busy loop is slow to give it
back: row by row, that cost a third of the thread's time."""
_MARKS: Final = {n: ",".join("?" * n) for n in (2, 3, 8, 13, 14, 23, 28)}
_INTO: Final = {
    "reads": ("reads", _MARKS[2]),
    "text": ("text", _MARKS[3]),
    "call": ("call", _MARKS[28]),
    "answered": (
        "call(id, session, prompt, stage, sampler, judge, unit, attempt, target, endpoint, model_reported, "
        "fingerprint, http_status, request_id, t_sent, wall_s, n_prompt_tokens, n_cached_tokens, n_completion_tokens, "
        "n_reasoning_tokens, cost_nanousd, reply, reply_hash, status, maybe_billed)",
        f"{_MARKS[23]},'ok',0",
    ),
    "completion": ("completion", _MARKS[13]),
    "verdict": ("verdict", _MARKS[14]),
    "score": (
        "verdict(prompt, judge, reads, shown, value, parts, read_version, call, repeat, kind)",
        f"{_MARKS[8]},0,'score'",
    ),
}
"""Where the rows of each list go. What is the same in nearly all rows stands in the statement: a value that is bound,
NULL or not, costs more than a call of Python."""


def _insert(name: str, n_rows: int) -> str:
    table, values = _INTO[name]
    return f"INSERT INTO {table} VALUES{','.join([f'({values})'] * n_rows)}"


_ONE: Final = {name: _insert(name, 1) for name in _INTO}
_MANY: Final = {name: _insert(name, _AT_ONCE) for name in _INTO}


@dataclass(slots=True)
class Rows:
    """What one or more calls add, in the order in which it is written. `answered`: calls with a reply and nothing to
    say against it; `score`: verdicts with a value; each with fewer columns than `call` and `verdict`."""

    reads: list[_Row] = field(default_factory=list)
    text: list[_Row] = field(default_factory=list)
    call: list[_Row] = field(default_factory=list)
    answered: list[_Row] = field(default_factory=list)
    completion: list[_Row] = field(default_factory=list)
    verdict: list[_Row] = field(default_factory=list)
    score: list[_Row] = field(default_factory=list)
    counts: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    spans: list[_Row] = field(default_factory=list)
    """(view, first, last) of finished lines that replace the spans in `merged`."""
    merged: list[_Row] = field(default_factory=list)
    """(view, first) of spans that a larger one now covers."""
    cost: int = 0
    """What its calls cost, in the unit of the session's budget."""


class Writer(Generic[Call]):
    """Owned by the loop; `put` never blocks, `room` waits while the thread is behind. `on_landed` gets what was put
    beside the rows of a group, in its order, once the group is committed; `on_flush` may add to a group that is full,
    and what it returns is called after its commit."""

    def __init__(
        self,
        ledger: Ledger,
        on_landed: Callable[[list[Call]], None],
        on_flush: Callable[[Rows], Callable[[], None] | None] = lambda rows: None,
    ) -> None:
        self._ledger = ledger
        self._on_landed, self._on_flush = on_landed, on_flush
        self._loop = asyncio.get_running_loop()
        self._rows = Rows()
        self._landing: list[Call] = []
        self._n_calls = 0
        self._timer: asyncio.TimerHandle | None = None
        self._queue: queue.SimpleQueue[tuple[Rows, Callable[[], None]] | None] = queue.SimpleQueue()
        self._n_ahead = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.failure: PrefsmithError | Exception | None = None
        self.on_failure: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    @property
    def behind(self) -> bool:
        return self._n_ahead >= _BATCHES_AHEAD and self.failure is None

    def rows(self) -> Rows:
        """The open group: add rows to it, then call `put`."""
        return self._rows

    def put(self, call: Call | None = None) -> None:
        """The rows of a call are in the open group; None: nobody waits for their commit."""
        if call is not None:
            self._landing.append(call)
        self._n_calls += 1
        if self._n_calls >= GROUP_CALLS:
            self.flush()
        elif self._timer is None:
            self._timer = self._loop.call_later(GROUP_S, self.flush)

    def flush(self) -> None:
        """Hand the open group to the thread now."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._n_calls and self.failure is None:
            after = self._on_flush(self._rows)
            self._queue.put((self._rows, partial(self._committed, self._landing, after)))
            self._n_ahead += 1
            self._rows, self._landing, self._n_calls = Rows(), [], 0

    async def room(self) -> None:
        while self.behind:
            waiter = self._loop.create_future()
            self._waiting.append(waiter)
            await waiter

    async def drained(self) -> None:
        """Every row that was put is committed, or the writer has failed."""
        self.flush()
        while self._n_ahead and self.failure is None:
            waiter = self._loop.create_future()
            self._waiting.append(waiter)
            await waiter

    async def close(self) -> None:
        await self.drained()
        self._queue.put(None)
        await asyncio.to_thread(self._thread.join)

    def _committed(self, landed: list[Call], after: Callable[[], None] | None) -> None:
        self._n_ahead -= 1
        if after is not None:
            after()
        self._on_landed(landed)
        self._wake()

    def _failed(self, error: Exception) -> None:
        self.failure = error
        self._wake()
        self.on_failure()

    def _wake(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def _run(self) -> None:
        while (group := self._queue.get()) is not None:
            rows, committed = group
            try:
                self._commit(rows)
            except Exception as e:  # the thread's boundary: the loop raises it
                self._loop.call_soon_threadsafe(self._failed, e)
                return
            self._loop.call_soon_threadsafe(committed)

    def _commit(self, rows: Rows) -> None:
        with self._ledger.transaction() as db:
            for table in _INTO:
                values: list[_Row] = getattr(rows, table)
                n_even = len(values) - len(values) % _AT_ONCE
                for i in range(0, n_even, _AT_ONCE):
                    db.execute(_MANY[table], list(chain.from_iterable(values[i : i + _AT_ONCE])))
                if n_even < len(values):
                    db.executemany(_ONE[table], values[n_even:])
            if rows.counts:
                db.executemany(
                    "INSERT INTO counter VALUES(?, ?) ON CONFLICT(name) DO UPDATE SET value = value + excluded.value",
                    list(rows.counts.items()),
                )
            if rows.merged:
                db.executemany("DELETE FROM done WHERE view = ? AND first = ?", rows.merged)
            if rows.spans:
                db.executemany("INSERT OR REPLACE INTO done VALUES(?, ?, ?)", rows.spans)
