"""Is the ledger whole? Everything that it can say about itself, without models, judges or files.

SQLite's own check; every stored hash against what it stands for; every id joins; every count closes. Each damage is
one line that names the table and the row. Works while a run writes: all queries see one snapshot.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from hashlib import blake2b

import orjson

from prefsmith.ledger.ids import SIZE, digest
from prefsmith.ledger.ledger import Ledger

_JOINS = (
    ("row", "item", "item"),
    ("item", "prompt", "prompt"),
    ("session", "recipe", "recipe"),
    ("call", "session", "session"),
    ("call", "prompt", "prompt"),
    ("call", "sampler", "sampler"),
    ("call", "judge", "judge"),
    ("completion", "prompt", "prompt"),
    ("completion", "sampler", "sampler"),
    ("completion", "text", "text"),
    ("completion", "call", "call"),
    ("verdict", "prompt", "prompt"),
    ("verdict", "judge", "judge"),
    ("verdict", "reads", "reads"),
    ("verdict", "call", "call"),
    ("export", "session", "session"),
)
_NAMES = {
    "row": "source || ' line ' || line",
    "completion": "prompt || ' sampler ' || sampler || ' index ' || idx",
    "verdict": "prompt || ' judge ' || judge || ' text ' || shown",
}
_COUNTS = (
    ("completions", "SELECT count(*) FROM completion WHERE origin = 'sampled'"),
    ("verdicts", "SELECT count(*) FROM verdict"),
    ("calls.ok", "SELECT count(*) FROM call WHERE status = 'ok'"),
)
_MOST_OF_A_KIND = 20


def verify(ledger: Ledger) -> Iterator[str]:
    """One line per damage; none when the ledger is whole."""
    db = ledger.db
    try:
        db.execute("BEGIN")
        yield from _limited("sqlite", (f"sqlite: {m}" for (m,) in db.execute("PRAGMA integrity_check") if m != "ok"))
        for check in (_hashes, _dangling, _glued, _closed, _counted):
            yield from _limited(check.__name__.strip("_"), check(db))
    except sqlite3.DatabaseError as e:
        yield f"sqlite: {e}"
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


def _limited(kind: str, damages: Iterator[str]) -> Iterator[str]:
    """The first damages of a kind in words, the rest as a number: one broken page can be a million lines."""
    n = 0
    for n, damage in enumerate(damages, 1):
        if n <= _MOST_OF_A_KIND:
            yield damage
    if n > _MOST_OF_A_KIND:
        yield f"{kind}: and {n - _MOST_OF_A_KIND} more"


def _hashes(db: sqlite3.Connection) -> Iterator[str]:
    for table, body, of in (
        ("text", "body", "hash"),
        ("call", "reply", "reply_hash"),
        ("artifact", "body", "body_hash"),
    ):
        key = "item" if table == "artifact" else "id"
        for i, text, kept in db.execute(f"SELECT {key}, {body}, {of} FROM {table} WHERE {body} IS NOT NULL"):
            if blake2b(text.encode(), digest_size=SIZE).digest() != kept:
                yield f"{table} {i}: {body} does not match its hash"
    for table in ("sampler", "judge", "recipe"):
        for i, of_row, text in db.execute(f"SELECT id, hash, json FROM {table}"):
            if digest(table, _loaded(text)) != of_row:
                yield f"{table} {i}: json does not match its hash"
    prompts = "SELECT id, hash, messages, tools, parallel_tool_calls FROM prompt"
    for i, of_row, messages, tools, parallel in db.execute(prompts):
        value = [_loaded(messages), _loaded(tools), None if parallel is None else bool(parallel)]
        if digest("prompt", value) != of_row:
            yield f"prompt {i}: its messages do not match its hash"
    items = (
        "SELECT i.id, i.hash, p.hash, i.reference, i.category, i.columns FROM item i JOIN prompt p ON p.id = i.prompt"
    )
    for i, of_row, of_prompt, reference, category, columns in db.execute(items):
        if digest("item", [of_prompt.hex(), reference, category, _loaded(columns) or {}]) != of_row:
            yield f"item {i}: its columns do not match its hash"


def _loaded(text: str | None) -> object:
    try:
        return None if text is None else orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


def _dangling(db: sqlite3.Connection) -> Iterator[str]:
    for table, column, target in _JOINS:
        name = _NAMES.get(table, "id")
        sql = (
            f"SELECT {name}, {column} FROM {table} WHERE {column} IS NOT NULL "
            f"AND NOT EXISTS (SELECT 1 FROM {target} t WHERE t.id = {table}.{column})"
        )
        for i, missing in db.execute(sql):
            yield f"{table} {i}: names {target} {missing}, which is missing"
    texts = (
        "SELECT v.prompt, v.judge, v.shown FROM verdict v WHERE EXISTS ("
        "SELECT 1 FROM json_each('[' || v.shown || ']') j "
        "WHERE NOT EXISTS (SELECT 1 FROM completion c WHERE c.prompt = v.prompt AND c.text = j.value))"
    )
    for prompt, judge, shown in db.execute(texts):
        yield f"verdict of prompt {prompt} by judge {judge}: text {shown} is no completion of that prompt"


def _glued(db: sqlite3.Connection) -> Iterator[str]:
    """A text belongs to one prompt, a completion to the prompt of its call."""
    sql = "SELECT text, min(prompt), max(prompt) FROM completion GROUP BY text HAVING min(prompt) <> max(prompt)"
    for text, a, b in db.execute(sql):
        yield f"text {text}: stands under prompts {a} and {b}"
    for table in ("completion", "verdict"):
        sql = f"SELECT t.prompt, c.id, c.prompt FROM {table} t JOIN call c ON c.id = t.call WHERE c.prompt <> t.prompt"
        for prompt, call, of_call in db.execute(sql):
            yield f"{table} of prompt {prompt}: its call {call} was made for prompt {of_call}"
    for text, body, n in db.execute(
        "SELECT t.id, t.body, c.n_chars FROM completion c JOIN text t ON t.id = c.text "
        "WHERE coalesce(length(t.body ->> '$.content'), 0) <> c.n_chars"
    ):
        yield f"text {text}: {n} characters by its completion's row, otherwise by its body {body[:40]!r}"


def _closed(db: sqlite3.Connection) -> Iterator[str]:
    """Every good call has what it bought: its completions, or its verdict."""
    sql = (
        "SELECT k.id, k.prompt, json_array_length(k.unit, '$.idx') AS bought, "
        "(SELECT count(*) FROM completion c WHERE c.prompt = k.prompt AND c.call = k.id) AS kept "
        "FROM call k WHERE k.status = 'ok' AND k.sampler IS NOT NULL AND bought <> kept"
    )
    for call, prompt, bought, kept in db.execute(sql):
        yield f"call {call} of prompt {prompt}: bought {bought} completions, {kept} are here"
    sql = (
        "SELECT k.id, k.prompt FROM call k WHERE k.status = 'ok' AND k.judge IS NOT NULL AND k.reason IS NULL "
        "AND NOT EXISTS (SELECT 1 FROM verdict v WHERE v.prompt = k.prompt AND v.call = k.id)"
    )
    for call, prompt in db.execute(sql):
        yield f"call {call} of prompt {prompt}: its verdict is missing"
    rows = (
        "SELECT id, (SELECT count(*) FROM row WHERE source = source.id AND item IS NULL AND reason IS NULL) AS n "
        "FROM source WHERE n > 0"
    )
    for source, n in db.execute(rows):
        yield f"source {source}: {n} rows are neither an item nor set aside"


def _counted(db: sqlite3.Connection) -> Iterator[str]:
    counters = dict(db.execute("SELECT name, value FROM counter"))
    for name, sql in _COUNTS:
        found = db.execute(sql).fetchone()[0]
        if found != counters.get(name, 0):
            yield f"counter {name}: {counters.get(name, 0)} were written, {found} are here"
    for reason, found in db.execute("SELECT reason, count(*) FROM verdict WHERE reason IS NOT NULL GROUP BY reason"):
        written = counters.get(f"no_verdict.{reason}", 0)
        if found != written:
            yield f"counter no_verdict.{reason}: {written} were written, {found} are here"
