"""Spans of finished lines against the plain set that they stand for."""

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from prefsmith.ledger.done import Done
from prefsmith.ledger.ledger import Ledger
from prefsmith.ledger.writer import Rows

VIEW = b"v" * 16


@dataclass
class Book:
    """What a session does with Done: finish lines, commit, and begin again."""

    lines: list[int]
    """Lines of the view; those between them are duplicates or set aside."""
    db: sqlite3.Connection = field(default_factory=lambda: sqlite3.connect(":memory:"))

    def __post_init__(self) -> None:
        self.db.execute("CREATE TABLE done(view BLOB, first INTEGER, last INTEGER, PRIMARY KEY(view, first))")

    def finish(self, done: Done, line: int) -> None:
        i, rows = self.lines.index(line), Rows()
        done.add(self.lines[i - 1] if i else 0, line, rows)
        self.db.executemany("DELETE FROM done WHERE view = ? AND first = ?", rows.merged)
        self.db.executemany("INSERT OR REPLACE INTO done VALUES(?, ?, ?)", rows.spans)

    def spans(self) -> list[tuple[int, int]]:
        return self.db.execute("SELECT first, last FROM done ORDER BY first").fetchall()


def naive(lines: list[int], finished: set[int]) -> list[tuple[int, int]]:
    out: list[tuple[int, int]] = []
    before = 0
    for line in lines:
        if line in finished:
            if out and out[-1][1] == before:
                out[-1] = (out[-1][0], line)
            else:
                out.append((before + 1, line))
        before = line
    return out


@given(st.data())
def test_any_order_of_finishing_over_any_sessions_gives_the_right_spans(data: st.DataObject) -> None:
    lines = sorted(data.draw(st.sets(st.integers(1, 30), min_size=1)))
    order = data.draw(st.permutations(lines))
    book, finished, done = Book(lines), set[int](), None
    for line in order:
        if done is None or data.draw(st.booleans()):
            done, at_start = Done(book.db, VIEW), set(finished)
            assert {x for x in lines if x in done} == at_start
        book.finish(done, line)
        finished.add(line)
        assert book.spans() == naive(lines, finished)
        # Spans that grow during the session must not hide what was finished before it.
        assert at_start <= {x for x in lines if x in done}
    assert book.spans() == [(1, lines[-1])]


def test_a_million_finished_lines_are_one_span() -> None:
    book = Book(list(range(1, 2001)))
    done = Done(book.db, VIEW)
    for line in range(2000, 0, -1):
        book.finish(done, line)
    assert book.spans() == [(1, 2000)]


def test_views_do_not_share_what_is_finished(tmp_path: Path) -> None:
    with Ledger.create(tmp_path) as ledger:
        ledger.db.execute("INSERT INTO done VALUES(?, 1, 5)", (VIEW,))
        assert 3 in Done(ledger.db, VIEW)
        assert 3 not in Done(ledger.db, b"w" * 16)


def test_a_span_left_inside_another_one_does_not_stand_in_the_way(tmp_path: Path) -> None:
    with Ledger.create(tmp_path) as ledger:
        with ledger.transaction() as db:
            db.executemany("INSERT INTO done VALUES(?, ?, ?)", [(b"v", 1, 9), (b"v", 4, 9), (b"v", 11, 12)])
        done, rows = Done(ledger.db, b"v"), Rows()
        done.add(9, 10, rows)
    assert rows.spans == [(b"v", 1, 12)]
    assert rows.merged == [(b"v", 11)]


def test_a_span_that_is_added_and_swallowed_in_one_group_is_not_left_behind(tmp_path: Path) -> None:
    with Ledger.create(tmp_path) as ledger:
        done, rows = Done(ledger.db, b"v"), Rows()
        done.add(1, 2, rows)
        done.add(0, 1, rows)
        written: dict[int, int] = {}
        for _, first in rows.merged:
            written.pop(first, None)
        written.update({first: last for _, first, last in rows.spans})
    assert written == {1: 2}
