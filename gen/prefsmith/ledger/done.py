"""Which lines of a view are finished: disjoint spans, so that a resume does not walk a million complete prompts.

A line's span reaches back to the end of the view's line before it, so that set-aside rows and duplicates between two
items do not keep spans apart.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_right

from prefsmith.ledger.ingest import Selection
from prefsmith.ledger.read import lines_of
from prefsmith.ledger.writer import Rows


class Done:
    """Spans [first, last] of one view; changes go into Rows as they happen."""

    def __init__(self, db: sqlite3.Connection, view: bytes) -> None:
        self._view = view
        self._last: dict[int, int] = {}
        for first, last in db.execute("SELECT first, last FROM done WHERE view = ? ORDER BY first", (view,)):
            # A span inside another one may have been left behind; it must not stand in the way of its neighbours.
            start = next(reversed(self._last), None)
            if start is not None and first <= self._last[start]:
                self._last[start] = max(last, self._last[start])
            else:
                self._last[first] = last
        self._first = {last: first for first, last in self._last.items()}
        self._starts, self._ends = sorted(self._last), sorted(self._last.values())

    def __contains__(self, line: int) -> bool:
        """Finished before this session: the engine knows what it finished itself, and spans that grow meanwhile must
        not hide what they swallow."""
        i = bisect_right(self._starts, line) - 1
        return i >= 0 and line <= self._ends[i]

    def n_items(self, db: sqlite3.Connection, view: Selection) -> int:
        """How many of the view's items were finished before this session; to be asked before `add`."""
        if view.prompts is not None:
            return sum(line in self for line, _ in lines_of(db, view))
        sql = "SELECT count(*) FROM row WHERE source = ? AND line BETWEEN ? AND ? AND reason IS NULL"
        spans = ((view.source, first, min(last, view.last_line)) for first, last in self._last.items())
        return sum(db.execute(sql, span).fetchone()[0] for span in spans)

    def add(self, before: int, line: int, rows: Rows) -> None:
        """`line` is finished; `before` is the view's line before it, 0 for the first."""
        first, last = before + 1, line
        if (touching := self._first.pop(before, None)) is not None:
            del self._last[touching]
            first = touching
        if (following := self._last.pop(line + 1, None)) is not None:
            del self._first[following]
            rows.merged.append((self._view, line + 1))
            rows.spans[:] = [span for span in rows.spans if span[1] != line + 1]  # added in this very group
            last = following
        self._last[first], self._first[last] = last, first
        rows.spans.append((self._view, first, last))
