"""Is the ledger whole? Everything that it can say about itself, without models, judges or files.

SQLite's own check; every stored hash against what it stands for; every id joins; every call has exactly what it
bought; every count closes. Each damage is one line that names the table and the row. Works while a run writes: all
queries see one snapshot. Large tables are read once each, side by side in the order of a shared id.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from typing import Any

import orjson

from prefsmith.ledger.ids import SIZE, text_hash
from prefsmith.ledger.ledger import Ledger
from prefsmith.reasons import FINAL_CALL, Reason

_Row = tuple[Any, ...]
_JOINS = {
    "row": (("item", "item"), ("source", "source")),
    "item": (("prompt", "prompt"),),
    "session": (("recipe", "recipe"),),
    "call": (("session", "session"), ("prompt", "prompt"), ("sampler", "sampler"), ("judge", "judge")),
    "completion": (("prompt", "prompt"), ("sampler", "sampler"), ("text", "text"), ("call", "call")),
    "verdict": (("prompt", "prompt"), ("judge", "judge"), ("reads", "reads"), ("call", "call")),
    "artifact": (("item", "item"), ("made_by", "judge"), ("call", "call")),
    "export": (("session", "session"),),
}
"""(column, the table whose id it holds) of each table."""
_NAMES = {
    "row": "source || ' line ' || line",
    "completion": "prompt || ' sampler ' || sampler || ' index ' || idx",
    "artifact": "item || ' by judge ' || made_by",
    "verdict": "prompt || ' judge ' || judge || ' text ' || shown",
}
_ODD = (
    ("item {}: no row holds it", "SELECT id FROM item i WHERE NOT EXISTS (SELECT 1 FROM row WHERE item = i.id)"),
    ("prompt {}: no item has it", "SELECT id FROM prompt p WHERE NOT EXISTS (SELECT 1 FROM item WHERE prompt = p.id)"),
    (
        "source {}: {} rows are neither an item nor set aside",
        "SELECT source, count(*) FROM row WHERE item IS NULL AND reason IS NULL GROUP BY source",
    ),
    (
        "source {}: its item {} stands {} times, its duplicates apart",
        "SELECT source, item, sum(reason IS NULL) AS n FROM row WHERE item IS NOT NULL GROUP BY 1, 2 HAVING n <> 1",
    ),
    (
        "source {}: {} lines were read, its last row is {}",
        "SELECT id, n_rows, (SELECT coalesce(max(line), 0) FROM row WHERE source = s.id) AS last FROM source s "
        "WHERE n_rows <> last",
    ),
    ("call {}: its status is {!r}", "SELECT id, status FROM call WHERE status NOT IN ('ok', 'failed', 'submitted')"),
    (
        "call {}: names both a sampler and a judge, or neither",
        "SELECT id FROM call WHERE (sampler IS NULL) = (judge IS NULL)",
    ),
    (
        "completion of prompt {} sampler {} index {}: its origin is {!r}",
        "SELECT prompt, sampler, idx, origin FROM completion "
        "WHERE origin NOT IN ('sampled', 'revised', 'imported', 'human')",
    ),
    (
        "verdict of prompt {} by judge {} on text {}: not exactly one of a result that fits its kind and a reason",
        "SELECT prompt, judge, shown FROM verdict WHERE NOT coalesce(CASE kind "
        "WHEN 'score' THEN choice IS NULL AND ranking IS NULL AND (value IS NULL) <> (reason IS NULL) "
        "WHEN 'choice' THEN value IS NULL AND ranking IS NULL AND (choice IS NULL) <> (reason IS NULL) "
        "AND (choice IS NULL OR choice IN ('-1', '0', '1')) "
        "WHEN 'label' THEN (choice IS NULL) <> (reason IS NULL) "
        "WHEN 'ranking' THEN value IS NULL AND choice IS NULL AND (ranking IS NULL) <> (reason IS NULL) "
        "WHEN 'list' THEN reason IS NOT NULL AND shown = '' END, 0)",
    ),
)
_COUNTS = (
    (("completions",), "SELECT count(*) FROM completion WHERE origin = 'sampled'"),
    (("verdicts",), "SELECT count(*) FROM verdict"),
    (
        ("calls.ok", "tokens.prompt", "tokens.completion"),
        "SELECT count(*), coalesce(sum(n_prompt_tokens), 0), coalesce(sum(n_completion_tokens), 0) FROM call "
        "WHERE status = 'ok'",
    ),
)
_ANSWERED = (
    "SELECT 1 FROM verdict WHERE prompt = ? AND judge = ? AND reads = ? AND shown = ? AND repeat = ? "
    "AND call IS NOT NULL"
)
"""By an earlier reply, which a newer reader could read after all."""
_REASONS = frozenset(Reason)
_FINAL = f"IN {tuple(str(reason) for reason in sorted(FINAL_CALL))}"
_MOST_OF_A_KIND = 20


def verify(ledger: Ledger) -> Iterator[str]:
    """One line per damage; none when the ledger is whole."""
    db = ledger.db
    try:
        db.execute("BEGIN")
        yield from _limited("sqlite", (f"sqlite: {m}" for (m,) in db.execute("PRAGMA integrity_check") if m != "ok"))
        for check in (_hashes, _texts, _dangling, _sampled, _judged, _shown, _odd, _reasons, _counted):
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


def _of(raw: bytes, kind: bytes) -> bytes:
    """Like `ids.digest`, of a value that is stored as its canonical JSON."""
    return blake2b(raw, digest_size=SIZE, person=kind).digest()


def _blob(column: str) -> str:
    """Damaged UTF-8 must become a finding, not an error of the driver."""
    return f"CAST({column} AS BLOB)"


def _hashes(db: sqlite3.Connection) -> Iterator[str]:
    for table in ("sampler", "judge", "recipe"):
        for i, of, raw in db.execute(f"SELECT id, hash, {_blob('json')} FROM {table}"):
            if _of(raw, table.encode()) != of:
                yield f"{table} {i}: json does not match its hash"
    for item, of, raw in db.execute(f"SELECT item, body_hash, {_blob('body')} FROM artifact"):
        if text_hash(raw) != of:
            yield f"artifact of item {item}: body does not match its hash"
    sql = f"SELECT id, hash, {_blob('messages')}, {_blob('tools')}, parallel_tool_calls FROM prompt"
    for i, of, messages, tools, parallel in db.execute(sql):
        flag = b"null" if parallel is None else b"true" if parallel else b"false"
        if _of(b"[%b,%b,%b]" % (messages, tools or b"null", flag), b"prompt") != of:
            yield f"prompt {i}: its messages do not match its hash"
    sql = (
        f"SELECT i.id, i.hash, p.hash, {_blob('i.reference')}, {_blob('i.category')}, {_blob('i.columns')} "
        "FROM item i JOIN prompt p ON p.id = i.prompt"
    )
    for i, of, of_prompt, reference, category, columns in db.execute(sql):
        parts = (of_prompt.hex().encode(), _quoted(reference), _quoted(category), columns or b"{}")
        if _of(b'["%b",%b,%b,%b]' % parts, b"item") != of:
            yield f"item {i}: its columns do not match its hash"


def _quoted(raw: bytes | None) -> bytes:
    return b"null" if raw is None else orjson.dumps(raw.decode(errors="replace"))


def _beside(rows: Iterator[_Row], others: Iterator[_Row]) -> Iterator[tuple[_Row, list[_Row]]]:
    """Each row with the others of its first column; both come in its order."""
    other = next(others, None)
    for row in rows:
        i, found = row[0], []
        while other is not None and (of := other[0]) <= i:
            if of == i:
                found.append(other)
            other = next(others, None)
        yield row, found


def _texts(db: sqlite3.Connection) -> Iterator[str]:
    """A text is what its hash says, belongs to one prompt, and was bought by the call of its place among the texts.

    Texts get their ids in the order of the calls that brought them: two that changed places are out of order.
    """
    texts = db.execute(f"SELECT id, hash, {_blob('body')} FROM text ORDER BY id")
    holders = db.execute("SELECT text, prompt, coalesce(call, 0), n_chars FROM completion ORDER BY text")
    latest = 0
    for (text, of, body), held in _beside(texts, holders):
        if text_hash(body) != of:
            yield f"text {text}: body does not match its hash"
            continue
        if not held:
            yield f"text {text}: no completion holds it"
            continue
        n_chars = len(orjson.loads(body).get("content") or "")
        _, prompt, first, _ = held[0]
        for _, other, call, n in held:
            first = min(first, call)
            if other != prompt:
                yield f"text {text}: stands under prompts {prompt} and {other}"
            if n != n_chars:
                yield f"text {text}: {n} characters by its completion's row, {n_chars} by its body {body[:40]!r}"
        if 0 < first < latest:
            yield f"text {text} of prompt {prompt}: held by call {first}, but texts before it came with call {latest}"
        latest = max(latest, first)


def _dangling(db: sqlite3.Connection) -> Iterator[str]:
    for table, joins in _JOINS.items():
        # NOT IN, which is never true of NULL, keeps one cursor on a table of ids; NOT EXISTS opens one for each row.
        lost = [f"{column} NOT IN (SELECT id FROM {target})" for column, target in joins]
        named = ", ".join(f"CASE WHEN {no} THEN {column} END" for no, (column, _) in zip(lost, joins, strict=True))
        sql = f"SELECT {_NAMES.get(table, 'id')}, {named} FROM {table} WHERE {' OR '.join(lost)}"
        for i, *missing in db.execute(sql):
            for (_, target), one in zip(joins, missing, strict=True):
                if one is not None:
                    yield f"{table} {i}: names {target} {one}, which is missing"


def _sampled(db: sqlite3.Connection) -> Iterator[str]:
    """Every good sampling call has the completions that it bought, under its own prompt and sampler; a failed none."""
    calls = db.execute(
        f"SELECT id, prompt, sampler, status, {_blob('unit')} FROM call WHERE sampler IS NOT NULL ORDER BY id"
    )
    kept = db.execute("SELECT call, prompt, sampler, idx FROM completion WHERE call IS NOT NULL ORDER BY call")
    for (call, prompt, sampler, status, unit), found in _beside(calls, kept):
        bought = _unit(unit).get("idx") if status == "ok" else []
        for _, of_prompt, of_sampler, idx in found:
            if (of_prompt, of_sampler) != (prompt, sampler):
                yield (
                    f"completion of prompt {of_prompt} sampler {of_sampler} index {idx}: its call {call} was made for "
                    f"prompt {prompt} sampler {sampler}"
                )
        indices = [one[3] for one in found]
        if bought is None or (indices != bought and sorted(indices) != sorted(bought)):
            yield f"call {call} of prompt {prompt}: bought completions {bought}, {sorted(indices)} are here"


def _judged(db: sqlite3.Connection) -> Iterator[str]:
    """Every judge call that ended its question has its verdict, about just what it showed."""
    calls = db.execute(
        f"SELECT id, prompt, judge, CASE WHEN status = 'ok' THEN reason IS NULL ELSE reason {_FINAL} END, "
        f"{_blob('unit')}, {_blob('reply')}, reply_hash FROM call WHERE judge IS NOT NULL ORDER BY id"
    )
    kept = db.execute(
        "SELECT call, prompt, judge, reads, shown, repeat FROM verdict WHERE call IS NOT NULL UNION ALL "
        "SELECT a.call, i.prompt, a.made_by, CASE WHEN json_valid(k.unit) THEN k.unit ->> '$.reads' END, '', 0 "
        "FROM artifact a JOIN item i ON i.id = a.item JOIN call k ON k.id = a.call ORDER BY 1"
    )
    for (call, prompt, judge, ended, unit, reply, of), found in _beside(calls, kept):
        if reply is not None and text_hash(reply) != of:
            yield f"call {call}: reply does not match its hash"
        asked = _unit(unit)
        shown = ",".join(map(str, asked.get("shown", ())))
        said = (prompt, judge, asked.get("reads"), shown, asked.get("repeat"))
        for verdict in found:
            if verdict[1:] != said:
                of_prompt, by, _, text, _ = verdict[1:]
                yield f"verdict of prompt {of_prompt} by judge {by} on text {text}: its call {call} asked otherwise"
        if ended and not found and db.execute(_ANSWERED, said).fetchone() is None:
            yield f"call {call} of prompt {prompt}: its verdict is missing"


def _unit(raw: bytes) -> dict[str, Any]:
    try:
        unit = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return unit if isinstance(unit, dict) else {}


def _shown(db: sqlite3.Connection) -> Iterator[str]:
    """A verdict is about texts of its own prompt."""
    by_prompt = itemgetter(0)
    texts = (
        (prompt, {str(t) for _, t in rows})
        for prompt, rows in groupby(db.execute("SELECT prompt, text FROM completion ORDER BY prompt"), by_prompt)
    )
    verdicts = (
        (prompt, list(rows))
        for prompt, rows in groupby(db.execute("SELECT prompt, judge, shown FROM verdict ORDER BY prompt"), by_prompt)
    )
    for (prompt, rows), found in _beside(verdicts, texts):
        own = found[0][1] if found else frozenset()
        for _, judge, shown in rows:
            if shown and shown not in own and not own.issuperset(shown.split(",")):
                yield f"verdict of prompt {prompt} by judge {judge}: text {shown} is no completion of that prompt"


def _odd(db: sqlite3.Connection) -> Iterator[str]:
    for told, sql in _ODD:
        yield from (told.format(*row) for row in db.execute(sql))


def _reasons(db: sqlite3.Connection) -> Iterator[str]:
    for table in ("row", "call", "verdict"):
        # Few rows have one: those without are not sorted with them.
        for reason, n in db.execute(f"SELECT reason, count(*) FROM {table} WHERE reason IS NOT NULL GROUP BY reason"):
            if reason not in _REASONS:
                yield f"{table}: {n} have the reason {reason!r}, which does not exist"


def _counted(db: sqlite3.Connection) -> Iterator[str]:
    counters = dict(db.execute("SELECT name, value FROM counter"))
    found = {name: n for names, sql in _COUNTS for name, n in zip(names, db.execute(sql).fetchone(), strict=True)}
    lost = "SELECT reason, count(*) FROM verdict WHERE reason IS NOT NULL GROUP BY reason"
    found |= {name: 0 for name in counters if name.startswith("no_verdict.")}
    found |= {f"no_verdict.{reason}": n for reason, n in db.execute(lost)}
    for name, n in found.items():
        if n != counters.get(name, 0):
            yield f"counter {name}: {counters.get(name, 0)} were written, {n} are here"
    failed = dict(db.execute("SELECT reason, count(*) FROM call WHERE status = 'failed' GROUP BY reason"))
    for name, n in counters.items():
        reason = name.removeprefix("calls.failed.")
        # More are here where a provider filtered single choices: their rows close indices and count as no call.
        if reason != name and failed.get(reason, 0) < n:
            yield f"counter {name}: {n} were written, {failed.get(reason, 0)} are here"
