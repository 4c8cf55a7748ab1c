"""The open prompts of a session: which come next, and which are finished for good.

A window bounds them, so memory does not grow with the source. What is finished is a span of lines in the ledger; a
prompt with something owed leaves no span and is opened again by the next session.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import orjson

from prefsmith.ledger.done import Done
from prefsmith.ledger.known import Known, Work
from prefsmith.ledger.read import BLOCK, knowns, lines_of, works
from prefsmith.ledger.writer import Rows
from prefsmith.progress import Progress
from prefsmith.reasons import Reason
from prefsmith.stages.view import View, look

LOOKED_AT: Final = 512
LOOK_EVERY: Final = 16
"""For the display, pairs are counted in the first so many finished prompts and in every so many-th after them: settling
a prompt once more costs an eighth of all that is done for it."""


@dataclass(slots=True)
class Open:
    """A prompt in work. `spans`: (line before, line) of its items; `pending`: calls that are not back; `owed`: names
    of calls given up for this session."""

    work: Work
    known: Known
    spans: list[tuple[int, int]]
    pending: int = 0
    owed: set[object] = field(default_factory=set)
    line: int = field(init=False)

    def __post_init__(self) -> None:
        self.line = self.work.items[0].line


class Frontier:
    def __init__(self, db: sqlite3.Connection, view: View, window: int, progress: Progress) -> None:
        self._db, self._view, self._progress = db, view, progress
        # Small blocks in a small window: one that only opens when it is empty would wait for its slowest prompt.
        self._window, self._block = window, max(1, min(BLOCK, window // 4))
        self._done = Done(db, view.hash)
        self._coming = self._unfinished()
        self._open: dict[int, Open] = {}
        self._left: set[int] = set()
        self._counted: set[int] = set()
        """Prompts of several items, which may stand on distant lines."""
        self._n_finished = 0
        progress.n_items_done = progress.n_items_before = self._done.n_items(db, view.selection)
        progress.earlier.update(_verdicts_of(db, view))
        progress.makes_pairs = not view.plan.arms

    def __len__(self) -> int:
        return len(self._open)

    def _unfinished(self) -> Iterator[tuple[int, int, int]]:
        """(line before, line, prompt) of what no earlier session finished."""
        before = 0
        for line, prompt in lines_of(self._db, self._view.selection):
            if line not in self._done:
                yield before, line, prompt
            before = line

    def admit(self) -> list[Open]:
        """The next block of prompts, as long as the window has room for one; [] when there is none."""
        while len(self._open) <= self._window - self._block:
            coming = list(islice(self._coming, self._block))
            if not coming:
                break
            spans: dict[int, list[tuple[int, int]]] = {}
            for before, line, prompt in coming:
                if prompt in self._left:
                    continue
                holder = self._open.get(prompt)
                (holder.spans if holder else spans.setdefault(prompt, [])).append((before, line))
            if spans:
                return self._opened(spans)
        return []

    def _opened(self, spans: dict[int, list[tuple[int, int]]]) -> list[Open]:
        ids = list(spans)
        plan = self._view.plan
        held = knowns(self._db, ids, plan.samplers, plan.judges, bodies=True)
        opened = [Open(w, held[w.id], spans[w.id]) for w in works(self._db, self._view.selection, ids)]
        self._open.update({o.work.id: o for o in opened})
        return opened

    def finish(self, prompt: Open, rows: Rows, n_owed: int, *, complete: bool) -> None:
        """Close a prompt; when nothing of it is missing, the next session need not look at it."""
        del self._open[prompt.work.id]
        if complete:
            for before, line in prompt.spans:
                self._done.add(before, line, rows)
            rows.counts["items.done"] += len(prompt.spans)
        else:
            self._left.add(prompt.work.id)
        self._count(prompt, complete=complete)
        seen = self._progress
        seen.n_items_settled += len(prompt.spans)
        seen.n_owed += n_owed
        self._n_finished += 1
        if seen.makes_pairs and (self._n_finished <= LOOKED_AT or self._n_finished % LOOK_EVERY == 0):
            settled = look(self._view, prompt.work, prompt.known).settled
            lines = {line for _, line in prompt.spans}
            seen.n_items_looked += len(lines)
            seen.n_pairs += sum(len(settled[i.id].pairs) for i in prompt.work.items if i.line in lines)

    def close(self) -> None:
        """The session ends: count what is done of the prompts that it leaves open."""
        for prompt in self._open.values():
            self._count(prompt, complete=False)

    def _count(self, prompt: Open, *, complete: bool) -> None:
        """A prompt's items at all of their lines, once; nothing may be owed to some of them, though something is to
        others."""
        items, id = prompt.work.items, prompt.work.id
        if len(items) > 1:
            if id in self._counted:
                return
            self._counted.add(id)
        ours = [item for item in items if item.line not in self._done]
        n = len(ours) if complete else 0
        if len(items) > 1 and not complete:
            settled = look(self._view, prompt.work, prompt.known).settled
            n = sum(settled[item.id].reason is not Reason.INCOMPLETE for item in ours)
        self._progress.n_items_done += n
        self._progress.n_items_left += len(ours) - n


def _verdicts_of(db: sqlite3.Connection, view: View) -> dict[str, int]:
    """How many verdicts the view's judges have on its prompts, by reason; those with a result under "". Nothing when
    all have one: only bad ones are worth the longer look."""
    judges = orjson.dumps(list(view.plan.judges)).decode()
    ours = "FROM verdict WHERE judge IN (SELECT value FROM json_each(?))"
    if db.execute(f"SELECT 1 {ours} AND reason IS NOT NULL LIMIT 1", (judges,)).fetchone() is None:
        return {}
    sql = (
        f"SELECT coalesce(reason, ''), count(*) {ours} AND prompt IN (SELECT i.prompt FROM row r "
        "JOIN item i ON i.id = r.item WHERE r.source = ? AND r.line <= ? AND r.reason IS NULL) GROUP BY 1"
    )
    return dict(db.execute(sql, (judges, view.selection.source, view.selection.last_line)))
