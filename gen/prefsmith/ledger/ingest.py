"""A source read once into rows, prompts and items.

Every line becomes a row: an item, a duplicate of one, or set aside with its reason. An unchanged source is known by
its stamp and not read again; an edited one is a new source whose equal items are the old ones.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from prefsmith.ledger.ids import item_hash, prompt_hash
from prefsmith.ledger.ledger import Ledger
from prefsmith.reasons import Reason
from prefsmith.records import Item, Row, canonical

_BATCH_ROWS = 5_000
STREAM_STAMP = "stream"
"""The stamp of standard input and other streams."""


class Source(Protocol):
    @property
    def uri(self) -> str: ...

    def stamp(self) -> str: ...

    def hash(self) -> bytes: ...

    def rows(self) -> Iterator[Row]: ...


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows of a source that a view takes: those up to `last_line` that hold an item.

    `prompts`: only these of them are opened, with all of their items, for a session that tries a few before the whole;
    what a recipe remembers has None.
    """

    source: int
    hash: bytes
    last_line: int
    n_items: int
    prompts: frozenset[int] | None = None


def ingest(ledger: Ledger, source: Source, mapping: str, limit: int | None) -> Selection:
    """Read what is not yet in the ledger of this source, up to `limit` items.

    `mapping`: a digest of what turns a line into an item; the same file mapped otherwise is another source.
    """
    stamp = f"{source.stamp()} {mapping}"
    # A stream's stamp does not tell one content from another: it is always hashed.
    found = None if source.stamp() == STREAM_STAMP else _stored(ledger, source.uri, stamp)
    if found is None:
        of = source.hash()
        found = ledger.db.execute("SELECT id, hash, n_rows, complete FROM source WHERE hash = ?", (of,)).fetchone()
        with ledger.transaction() as db:
            if found is None:
                cur = db.execute("INSERT INTO source VALUES(NULL, ?, ?, ?, 0, 0)", (of, source.uri, stamp))
                found = (int(cur.lastrowid or 0), of, 0, 0)
            else:
                db.execute("UPDATE source SET uri = ?, stamp = ? WHERE id = ?", (source.uri, stamp, found[0]))
    source_id, of, last_read, complete = found
    if not complete and (limit is None or _n_items(ledger, source_id) < limit):
        _read(ledger, source, source_id, last_read, limit)
    return _select(ledger, source_id, of, limit)


def _stored(ledger: Ledger, uri: str, stamp: str) -> tuple[int, bytes, int, int] | None:
    """(id, hash, rows read, complete) of the source that was last read under this name and stamp."""
    sql = "SELECT id, hash, n_rows, complete FROM source WHERE uri = ? AND stamp = ? ORDER BY id DESC"
    found: tuple[int, bytes, int, int] | None = ledger.db.execute(sql, (uri, stamp)).fetchone()
    return found


def stored_stream(ledger: Ledger, mapping: str, limit: int | None) -> Selection | None:
    """The standard input that this folder has read whole, if it has: a stream cannot be read twice."""
    found = _stored(ledger, "-", f"{STREAM_STAMP} {mapping}")
    return _select(ledger, found[0], found[1], limit) if found and found[3] else None


def _n_items(ledger: Ledger, source: int) -> int:
    sql = "SELECT count(*) FROM row WHERE source = ? AND item IS NOT NULL AND reason IS NULL"
    return int(ledger.db.execute(sql, (source,)).fetchone()[0])


def _read(ledger: Ledger, source: Source, source_id: int, last_read: int, limit: int | None) -> None:
    n_items = _n_items(ledger, source_id)
    rows = iter(source.rows())
    while batch := list(islice(rows, _BATCH_ROWS)):
        with ledger.transaction() as db:
            kept: list[tuple[int, int, int | None, str | None, Reason | None, str | None]] = []
            here: set[int] = set()
            for row in batch:
                if row.line <= last_read:
                    continue
                item, reason = None, row.reason
                if row.item is not None:
                    item, is_new = _keep(db, row.item, source_id, here)
                    reason = None if is_new else Reason.DUPLICATE
                    n_items += is_new
                kept.append((source_id, row.line, item, row.source_id, reason, row.excerpt))
                last_read = row.line
                if limit is not None and n_items >= limit:
                    break
            db.executemany("INSERT INTO row VALUES(?, ?, ?, ?, ?, ?)", kept)
            db.execute("UPDATE source SET n_rows = ? WHERE id = ?", (last_read, source_id))
        if limit is not None and n_items >= limit:
            return
    with ledger.transaction() as db:
        db.execute("UPDATE source SET complete = 1 WHERE id = ?", (source_id,))


def _keep(db: sqlite3.Connection, item: Item, source: int, here: set[int]) -> tuple[int, bool]:
    """Id of the item, and whether this source has it for the first time; `here`: items whose rows are not written yet.

    Tries to insert before it looks: nearly every row of a source is new, and a look costs as much as a write.
    """
    p, of_prompt = item.prompt, prompt_hash(item.prompt)
    tools = None if p.tools is None else canonical(p.tools).decode()
    head = (of_prompt, canonical(p.messages).decode(), tools, p.parallel_tool_calls)
    prompt, _ = _inserted(db, "prompt", "NULL, ?, ?, ?, ?", head)
    columns = canonical(dict(item.columns)).decode() if item.columns else None
    values = (item_hash(item, of_prompt), prompt, item.category, item.reference, columns)
    i, is_new = _inserted(db, "item", "NULL, ?, ?, ?, ?, ?", values)
    if i in here:
        return i, False
    here.add(i)
    return i, is_new or not _has(db, source, i)


def _has(db: sqlite3.Connection, source: int, item: int) -> bool:
    sql = "SELECT 1 FROM row WHERE item = ? AND source = ? LIMIT 1"
    return db.execute(sql, (item, source)).fetchone() is not None


def _inserted(db: sqlite3.Connection, table: str, marks: str, values: tuple[Any, ...]) -> tuple[int, bool]:
    """Id of the row with this hash, its first value, and whether it is new."""
    cur = db.execute(f"INSERT INTO {table} VALUES({marks}) ON CONFLICT DO NOTHING", values)
    if cur.rowcount:
        return int(cur.lastrowid or 0), True
    return int(db.execute(f"SELECT id FROM {table} WHERE hash = ?", values[:1]).fetchone()[0]), False


def _select(ledger: Ledger, source: int, of: bytes, limit: int | None) -> Selection:
    where = "FROM row WHERE source = ? AND item IS NOT NULL AND reason IS NULL"
    if limit is not None:
        sql = f"SELECT line {where} ORDER BY line LIMIT 1 OFFSET ?"
        last = ledger.db.execute(sql, (source, limit - 1)).fetchone()
        if last is not None:
            return Selection(source, of, int(last[0]), limit)
    top = ledger.db.execute("SELECT coalesce(max(line), 0) FROM row WHERE source = ?", (source,)).fetchone()[0]
    return Selection(source, of, int(top), _n_items(ledger, source))
