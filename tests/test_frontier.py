"""Which prompts are open: a window of them, each line once, and what is finished stays so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from prefsmith.frontier import Frontier, Open
from prefsmith.ledger.ingest import ingest
from prefsmith.ledger.ledger import Ledger
from prefsmith.ledger.writer import Rows
from prefsmith.progress import Progress
from prefsmith.recipe import Prompts, Recipe
from prefsmith.sources import open_source
from prefsmith.stages.build import bind, resolve
from prefsmith.stages.view import View

RECIPE = {"sample": {"model": "scripted:fake"}, "judge": {"use": "contains", "text": "x"}}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """300 lines; every tenth holds the same prompt with another reference."""
    lines = ({"question": "again" if i % 10 == 0 else f"q{i}", "answer": str(i)} for i in range(300))
    (tmp_path / "p.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    with Ledger.create(tmp_path / "out") as it:
        yield it


def view_of(ledger: Ledger, limit: int | None = None) -> View:
    source = open_source(Prompts(path=str(ledger.folder.parent / "p.jsonl")), frozenset())
    plan = bind(resolve(Recipe.model_validate(RECIPE)), ledger)
    with closing(source):
        return View(ingest(ledger, source, "m", limit), plan, b"v" * 16)


def walked(ledger: Ledger, window: int, owed: frozenset[int] = frozenset()) -> tuple[list[int], int, Progress]:
    """Opens and finishes everything, oldest first, leaving prompts at the lines `owed` incomplete: the first lines of
    what was opened, the most that was open, and the progress."""
    progress, order, most = Progress(), list[int](), 0
    with closing(ledger.reader()) as db:
        frontier = Frontier(db, view_of(ledger), window, progress)
        waiting: list[Open] = []
        while True:
            while opened := frontier.admit():
                order += [one.line for one in opened]
                waiting += opened
            most = max(most, len(frontier))
            assert len(frontier) == len(waiting)
            if not waiting:
                return order, most, progress
            one, rows = waiting.pop(0), Rows()
            frontier.finish(one, rows, int(one.line in owed), complete=one.line not in owed)
            with ledger.transaction() as write:
                write.executemany("DELETE FROM done WHERE view = ? AND first = ?", rows.merged)
                write.executemany("INSERT OR REPLACE INTO done VALUES(?, ?, ?)", rows.spans)


def spans(ledger: Ledger) -> list[tuple[int, int]]:
    return ledger.db.execute("SELECT first, last FROM done ORDER BY first").fetchall()


@pytest.mark.parametrize("window", [1, 2, 3, 7, 128, 129, 512])
def test_the_window_bounds_what_is_open_and_is_used(window: int, ledger: Ledger) -> None:
    order, most, progress = walked(ledger, window)
    assert most <= window and most >= min(window * 3 // 4, 200)
    assert len(set(order)) == 271
    assert (progress.n_items_done, spans(ledger)) == (300, [(1, 300)])


@pytest.mark.parametrize("window", [4, 20, 100])
def test_room_in_a_window_is_filled_before_it_is_empty(window: int, ledger: Ledger) -> None:
    """Else every block would wait for the slowest prompt of the last one."""
    with closing(ledger.reader()) as db:
        frontier = Frontier(db, view_of(ledger), window, Progress())
        opened = [one for block in iter(frontier.admit, []) for one in block]
        for one in opened[: window // 2]:
            frontier.finish(one, Rows(), 0, complete=True)
        assert frontier.admit() != []


def test_what_was_finished_is_not_opened_again_and_what_is_owed_is(ledger: Ledger) -> None:
    first, _, progress = walked(ledger, 8, owed=frozenset({6, 7, 99, 300}))
    assert (progress.n_items_before, progress.n_items_done, progress.n_items_left) == (0, 296, 4)
    assert {6, 7, 99, 300} <= set(first)
    again, _, progress = walked(ledger, 8)
    assert again == [6, 7, 99, 300] and progress.n_items_before == 296
    assert (progress.n_items_done, spans(ledger)) == (300, [(1, 300)])
    assert walked(ledger, 8)[0] == []


def test_a_prompt_left_owed_waits_for_the_next_session_at_all_of_its_lines(ledger: Ledger) -> None:
    order, _, progress = walked(ledger, 8, owed=frozenset({1}))
    assert order.count(1) == 1 and (progress.n_items_done, progress.n_items_left) == (270, 30)
    assert walked(ledger, 8)[0] == [1]
    assert spans(ledger) == [(1, 300)]


def test_a_raised_limit_opens_the_lines_behind_it_only(ledger: Ledger) -> None:
    with closing(ledger.reader()) as db:
        frontier = Frontier(db, view_of(ledger, 25), 512, Progress())
        for one in iter(frontier.admit, []):
            for prompt in one:
                rows = Rows()
                frontier.finish(prompt, rows, 0, complete=True)
                with ledger.transaction() as write:
                    write.executemany("DELETE FROM done WHERE view = ? AND first = ?", rows.merged)
                    write.executemany("INSERT OR REPLACE INTO done VALUES(?, ?, ?)", rows.spans)
    assert spans(ledger) == [(1, 25)]
    order, _, _ = walked(ledger, 512)
    # The prompt of every tenth line is opened again for its further items, once.
    assert [line for line in order if line <= 25] == [1] and len(order) == 300 - 25 - 27 + 1
