"""The writer's thread: group commits, callbacks after them, and errors that surface."""

import asyncio
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from prefsmith.errors import MachineError
from prefsmith.ledger.ledger import NAME, Ledger
from prefsmith.ledger.writer import GROUP_CALLS, Writer


def call_each(landed: list[Callable[[], None]]) -> None:
    for one in landed:
        one()


def with_writer(folder: Path, body: Callable[[Ledger, Writer[Callable[[], None]]], Awaitable[None]]) -> None:
    async def run() -> None:
        with Ledger.create(folder) as ledger:
            writer = Writer(ledger, call_each)
            try:
                await body(ledger, writer)
            finally:
                await writer.close()

    asyncio.run(run())


def add_text(ledger: Ledger, writer: Writer[Callable[[], None]], landed: Callable[[], None]) -> None:
    i = ledger.take_id("text")
    writer.rows().text.append((i, b"h", f"{i}"))
    writer.rows().counts["texts"] += 1
    writer.put(landed)


def test_what_has_landed_is_committed_and_seen_by_others(tmp_path: Path) -> None:
    async def body(ledger: Ledger, writer: Writer[Callable[[], None]]) -> None:
        other, seen = ledger.reader(), list[tuple[int, int]]()

        def landed() -> None:
            seen.append(other.execute("SELECT (SELECT count(*) FROM text), value FROM counter").fetchone())

        for _ in range(3 * GROUP_CALLS):
            add_text(ledger, writer, landed)
        assert seen == []
        await writer.drained()
        assert len(seen) == 3 * GROUP_CALLS
        assert all(n >= i and n == counted for i, (n, counted) in enumerate(seen, 1))
        other.close()

    with_writer(tmp_path, body)


def test_a_full_group_goes_at_once_and_a_started_one_after_its_time(tmp_path: Path) -> None:
    async def body(ledger: Ledger, writer: Writer[Callable[[], None]]) -> None:
        commits = list[float]()
        ledger.db.set_trace_callback(lambda sql: commits.append(time.monotonic()) if sql == "COMMIT" else None)
        done = asyncio.Event()
        for i in range(2 * GROUP_CALLS + 1):
            add_text(ledger, writer, done.set if i == 2 * GROUP_CALLS else lambda: None)
        await done.wait()
        assert len(commits) == 3, "two full groups and the one that its time ended"
        ledger.db.set_trace_callback(None)

    with_writer(tmp_path, body)


def test_rows_and_counters_of_a_group_are_one_transaction(tmp_path: Path) -> None:
    async def body(ledger: Ledger, writer: Writer[Callable[[], None]]) -> None:
        add_text(ledger, writer, lambda: None)
        writer.rows().reads.append((1, b"taken"))  # id 1 is there already: the whole group must be refused
        await writer.drained()
        assert isinstance(writer.failure, sqlite3.IntegrityError)
        assert ledger.db.execute("SELECT count(*) FROM text").fetchone() == (0,)
        assert ledger.counters() == {}

    with_writer(tmp_path, body)


def test_a_failed_commit_lands_nothing_is_told_once_and_stops_nobody_from_closing(tmp_path: Path) -> None:
    async def body(ledger: Ledger, writer: Writer[Callable[[], None]]) -> None:
        told, landed = list[str](), list[int]()
        writer.on_failure = lambda: told.append("failed")
        pages = ledger.db.execute("PRAGMA page_count").fetchone()[0]
        ledger.db.execute(f"PRAGMA max_page_count = {pages}")
        for i in range(5):
            writer.rows().text.append((ledger.take_id("text"), b"h", "x" * 100_000))
            writer.put(partial(landed.append, i))
        await writer.drained()
        assert isinstance(writer.failure, MachineError)
        assert "full" in str(writer.failure)
        assert told == ["failed"] and landed == []
        add_text(ledger, writer, lambda: landed.append(9))
        await asyncio.wait_for(writer.drained(), 5)
        await asyncio.wait_for(writer.room(), 5)
        assert landed == []

    with_writer(tmp_path, body)
    assert not any(t.name == "ledger-writer" for t in threading.enumerate())


def test_whoever_is_far_ahead_of_the_disk_waits(tmp_path: Path) -> None:
    async def body(ledger: Ledger, writer: Writer[Callable[[], None]]) -> None:
        blocker = sqlite3.connect(tmp_path / NAME, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        for _ in range(6):
            add_text(ledger, writer, lambda: None)
            writer.flush()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.room(), 0.2)
        blocker.execute("ROLLBACK")
        blocker.close()
        await asyncio.wait_for(writer.room(), 10)

    with_writer(tmp_path, body)


def test_spans_replace_those_that_they_cover(tmp_path: Path) -> None:
    async def body(ledger: Ledger, writer: Writer[Callable[[], None]]) -> None:
        view = b"v" * 16
        writer.rows().spans += [(view, 1, 3), (view, 5, 9)]
        writer.put(lambda: None)
        await writer.drained()
        writer.rows().merged.append((view, 5))
        writer.rows().spans.append((view, 1, 9))
        writer.put(lambda: None)
        await writer.drained()
        assert ledger.db.execute("SELECT first, last FROM done").fetchall() == [(1, 9)]

    with_writer(tmp_path, body)
