"""Stored replies of judges, read by today's reader: what it makes of them becomes the verdicts, and nothing is asked.

Replies of one question are looked at in the order in which they came, as a run would have met them: the first one that
can be read is the verdict. A question whose every reply is unreadable and that has a step left is owed again. All of it
is one transaction. It does not know who is asked next.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import orjson

from prefsmith.judging.leaf import reader_of
from prefsmith.judging.parse import READ_VERSION
from prefsmith.judging.verdicts import Step, next_step
from prefsmith.ledger.ids import text_hash
from prefsmith.ledger.ledger import Ledger
from prefsmith.ledger.read import as_generated
from prefsmith.outcomes import Artifact, Judged
from prefsmith.records import Generated, Json, canonical
from prefsmith.stages.landing import columns_of

Reader = Callable[[Generated, int], Judged]


class Told(NamedTuple):
    """Replies read, verdicts and lists that are others now, questions that are owed again, judges that only their
    package can read."""

    n_read: int
    n_changed: int
    n_owed: int
    n_foreign: int

    def __str__(self) -> str:
        owed = f"; {self.n_owed} questions are owed again, which `prefsmith judge` asks" if self.n_owed else ""
        foreign = f"; {self.n_foreign} judges come from packages and were left alone" if self.n_foreign else ""
        return f"{self.n_read} replies were read again, {self.n_changed} verdicts changed{owed}{foreign}"


class _Asked(NamedTuple):
    """A question: its verdict's key in the ledger."""

    prompt: int
    judge: int
    reads: int
    shown: str
    repeat: int


class _Came(NamedTuple):
    """A reply to it, and what was made of it then."""

    call: int
    step: Step
    reason: str | None
    result: Judged


def read_again(ledger: Ledger) -> Told:
    counts: Counter[str] = Counter()
    with ledger.transaction() as db:
        described: dict[int, Json] = {i: orjson.loads(text) for i, text in db.execute("SELECT id, json FROM judge")}
        readers = {i: reader_of(one) for i, one in described.items()}
        for asked, replies in _questions(db, readers):
            counts["read"] += len(replies)
            _settle(db, asked, replies, counts)
        if counts["changed"]:
            # What was finished may lack something now: another pair is to be confirmed, a question to be repaired.
            db.execute("DELETE FROM done")
            _recount(db)
        foreign = db.execute("SELECT DISTINCT judge FROM call WHERE judge IS NOT NULL AND reply IS NOT NULL")
        n_foreign = sum(readers[judge] is None for (judge,) in foreign)
    return Told(counts["read"], counts["changed"], counts["owed"], n_foreign)


def _questions(
    db: sqlite3.Connection, readers: dict[int, Reader | None]
) -> Iterator[tuple[_Asked, list[_Came]]]:  # fmt: skip
    sql = (
        "SELECT prompt, judge, id, unit, reason, reply FROM call WHERE judge IS NOT NULL AND status = 'ok' "
        "AND reply IS NOT NULL ORDER BY prompt, judge, id"
    )
    # Two cursors on one connection: what is written is only of questions that were read to their end.
    for (prompt, judge), rows in groupby(db.execute(sql), itemgetter(0, 1)):
        read, by_question = readers[judge], dict[_Asked, list[_Came]]()
        for _, _, call, unit_text, reason, reply in rows if read is not None else ():
            unit = orjson.loads(unit_text)
            shown = ",".join(map(str, unit["shown"]))
            assert read is not None
            result = read(as_generated(reply), len(unit["shown"]))
            asked = _Asked(prompt, judge, unit["reads"], shown, unit["repeat"])
            by_question.setdefault(asked, []).append(_Came(call, Step(unit["step"]), reason, result))
        yield from by_question.items()


def _settle(db: sqlite3.Connection, asked: _Asked, replies: Sequence[_Came], counts: Counter[str]) -> None:
    for came in replies:
        if came.result.reason != came.reason:
            db.execute("UPDATE call SET reason = ? WHERE id = ?", (came.result.reason, came.call))
    readable = next((came for came in replies if came.result.reason is None), None)
    steps = [(came.step, reason) for came in replies if (reason := came.result.reason) is not None]
    last = readable or (replies[-1] if next_step(steps) is None else None)
    where = "prompt = ? AND judge = ? AND reads = ? AND shown = ? AND repeat = ?"
    held = db.execute(
        f"SELECT kind, value, p, choice, ranking, parts, reason, call FROM verdict WHERE {where}", asked
    ).fetchone()
    if isinstance(replies[0].result, Artifact):
        held = held or _list_of(db, replies)
    if last is None:
        # A call that the server refused for good closed the question, whatever was said before.
        closed = held is not None and held[-1] not in {came.call for came in replies}
        if held is None or closed:
            return
        new = None
    else:
        new = (*_row(last.result), last.result.reason, last.call)
    if new == held:
        db.execute(f"UPDATE verdict SET read_version = {READ_VERSION} WHERE {where}", asked)
        return
    counts["changed"] += 1
    counts["owed"] += new is None
    db.execute(f"DELETE FROM verdict WHERE {where}", asked)
    db.execute("DELETE FROM artifact WHERE call IN (SELECT value FROM json_each(?))", (_ids(replies),))
    if last is not None and new is not None:
        _write(db, asked, last, new)


def _list_of(db: sqlite3.Connection, replies: Sequence[_Came]) -> tuple[object, ...] | None:
    """A list that was read, as `_row` gives it."""
    found = db.execute(
        "SELECT body, call FROM artifact WHERE call IN (SELECT value FROM json_each(?))", (_ids(replies),)
    ).fetchone()
    return None if found is None else ("list", None, None, None, None, found[0], None, found[1])


def _row(result: Judged) -> tuple[object, ...]:
    """A verdict's columns; of a list its body stands in the place of the parts."""
    if isinstance(result, Artifact) and result.lines is not None:
        return ("list", None, None, None, None, canonical(list(result.lines)).decode())
    return columns_of(result)


def _write(db: sqlite3.Connection, asked: _Asked, last: _Came, new: tuple[object, ...]) -> None:
    if isinstance(last.result, Artifact) and last.result.lines is not None:
        body = str(new[5])
        # Which item it stands under is no matter: its call says what was read for it.
        free = (
            "SELECT min(id) FROM item WHERE prompt = ? AND NOT EXISTS "
            "(SELECT 1 FROM artifact a WHERE a.item = item.id AND a.name = 'list' AND a.made_by = ?)"
        )
        item = db.execute(free, (asked.prompt, asked.judge)).fetchone()[0]
        values = (item, "list", asked.judge, body, text_hash(body.encode()), last.call)
        db.execute("INSERT INTO artifact VALUES(?, ?, ?, ?, ?, ?)", values)
        return
    *columns, reason, call = new
    db.execute(
        "INSERT INTO verdict VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*asked, *columns, reason, READ_VERSION, call),
    )


def _ids(replies: Sequence[_Came]) -> str:
    return orjson.dumps([came.call for came in replies]).decode()


def _recount(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM counter WHERE name = 'verdicts' OR name LIKE 'no_verdict.%'")
    db.execute("INSERT INTO counter SELECT 'verdicts', count(*) FROM verdict")
    db.execute(
        "INSERT INTO counter SELECT 'no_verdict.' || reason, count(*) FROM verdict WHERE reason NOTNULL GROUP BY reason"
    )
