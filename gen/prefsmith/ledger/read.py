"""Reading a view: which prompts it has, in which order, and what is known of each.

Prompts come in blocks, each with a handful of queries, so that a million of them are read in constant memory. Rows
outside the view (other samplers, higher indices, other judges) are left where they are.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from math import isqrt
from typing import Any

import orjson

from prefsmith.ledger.ingest import Selection
from prefsmith.ledger.known import Completion, Known, OpenItem, Tried, Work
from prefsmith.outcomes import Artifact, Choice, Judged, Ranking, Score
from prefsmith.reasons import Reason
from prefsmith.records import Generated, Item, Prompt, Token, canonical
from prefsmith.text import TRIVIAL_CHARS

BLOCK = 128
"""Prompts read at a time."""
_IN = "IN (SELECT value FROM json_each(?))"


def lines_of(db: sqlite3.Connection, view: Selection, after: int = 0) -> Iterator[tuple[int, int]]:
    """(line, prompt id) of each item of the view, by line."""
    sql = (
        "SELECT r.line, i.prompt FROM row r JOIN item i ON i.id = r.item "
        "WHERE r.source = ? AND r.line > ? AND r.line <= ? AND r.reason IS NULL ORDER BY r.line LIMIT 4096"
    )
    only = view.prompts
    while chunk := db.execute(sql, (view.source, after, view.last_line)).fetchall():
        yield from chunk if only is None else (one for one in chunk if one[1] in only)
        after = chunk[-1][0]


def prompts_of(db: sqlite3.Connection, view: Selection) -> Iterator[list[int]]:
    """Blocks of the view's prompts, each prompt once, at its first line."""
    lines = lines_of(db, view)
    sql = (
        "SELECT i.prompt, min(r.line) FROM item i JOIN row r ON r.item = i.id "
        f"WHERE i.prompt {_IN} AND +r.source = ? AND r.reason IS NULL GROUP BY i.prompt"
    )
    while block := list(islice(lines, BLOCK)):
        wanted = orjson.dumps([prompt for _, prompt in block]).decode()
        first = dict(db.execute(sql, (wanted, view.source)))
        if prompts := [prompt for line, prompt in block if first[prompt] == line]:
            yield prompts


def spread(db: sqlite3.Connection, view: Selection, n: int) -> Selection:
    """About `n` prompts that stand for all: one of each of `n` equal parts of the source.

    The first ones would not do: sources are sorted, by subject or by how hard they are. So the source is cut into
    stretches, and each stretch by the length of its prompts, which is what requests cost by; of a part, the prompt with
    the least hash is taken: a draw that is the same in every folder and at every time, so that it is paid for once.
    """
    sql = (
        "WITH of AS (SELECT i.prompt AS id, min(r.line) AS line, count(*) AS n_items FROM row r "
        "JOIN item i ON i.id = r.item WHERE r.source = ? AND r.line <= ? AND r.reason IS NULL GROUP BY 1), "
        "cut AS (SELECT of.*, p.hash, length(p.messages) AS size, ntile(?) OVER (ORDER BY line) AS stretch "
        "FROM of JOIN prompt p ON p.id = of.id), "
        "parts AS (SELECT *, ntile(?) OVER (ORDER BY stretch, size, line) AS part FROM cut) "
        "SELECT id, n_items FROM (SELECT *, row_number() OVER (PARTITION BY part ORDER BY hash) AS place FROM parts) "
        "WHERE place = 1"
    )
    found = db.execute(sql, (view.source, view.last_line, isqrt(n), n)).fetchall()
    return replace(view, n_items=sum(k for _, k in found), prompts=frozenset(p for p, _ in found))


def works(db: sqlite3.Connection, view: Selection, prompts: Sequence[int]) -> list[Work]:
    """The prompts with their items, in the order asked for."""
    wanted = orjson.dumps(prompts).decode()
    items: dict[int, list[OpenItem]] = {p: [] for p in prompts}
    heads: dict[int, tuple[bytes, Prompt]] = {}
    for i, of, messages, tools, parallel in db.execute(f"SELECT * FROM prompt WHERE id {_IN}", (wanted,)):
        p = Prompt(
            tuple(orjson.loads(messages)),
            None if tools is None else tuple(orjson.loads(tools)),
            None if parallel is None else bool(parallel),
        )
        heads[i] = (of, p)
    sql = (
        "SELECT i.prompt, i.id, i.hash, i.category, i.reference, i.columns, r.line, r.source_id FROM item i "
        f"JOIN row r ON r.item = i.id WHERE i.prompt {_IN} AND +r.source = ? AND r.line <= ? AND r.reason IS NULL "
        "ORDER BY r.line"
    )
    for prompt, i, of, category, reference, columns, line, source_id in db.execute(
        sql, (wanted, view.source, view.last_line)
    ):
        item = Item(heads[prompt][1], reference, category, orjson.loads(columns) if columns else {})
        items[prompt].append(OpenItem(i, of, line, source_id, item))
    return [Work(p, *heads[p], tuple(items[p])) for p in prompts]


def knowns(
    db: sqlite3.Connection,
    prompts: Sequence[int],
    samplers: Mapping[int, int],
    judges: Collection[int],
    *,
    bodies: bool,
) -> dict[int, Known]:
    """What is known of each prompt. `samplers`: id -> n of the view; `bodies` False reads only short texts."""
    out = {p: Known() for p in prompts}
    wanted = orjson.dumps(prompts).decode()
    # The gates look into a text exactly when its content is this short.
    body = "CAST(t.body AS BLOB)"
    cap = body if bodies else f"CASE WHEN c.n_chars <= {TRIVIAL_CHARS} THEN {body} END"
    sql = (
        "SELECT c.prompt, c.sampler, c.idx, c.text, c.n_chars, c.finish_reason, c.n_tokens, c.seed, c.reasoning, "
        f"{cap} FROM completion c JOIN text t ON t.id = c.text WHERE c.prompt {_IN}"
    )
    for prompt, sampler, idx, text, n_chars, finish, n_tokens, seed, reasoning, body in db.execute(sql, (wanted,)):
        known = out[prompt]
        if body is not None:
            known.bodies[text] = body
        if idx < samplers.get(sampler, 0):
            known.completions[sampler, idx] = Completion(text, n_chars, finish, n_tokens, seed, reasoning)
    _add_verdicts(db, wanted, judges, out)
    _add_artifacts(db, wanted, judges, out)
    _add_calls(db, wanted, samplers, judges, out)
    return out


def _add_verdicts(db: sqlite3.Connection, wanted: str, judges: Collection[int], out: dict[int, Known]) -> None:
    sql = (
        "SELECT prompt, judge, reads, shown, repeat, kind, value, p, choice, reason, ranking FROM verdict "
        f"WHERE prompt {_IN}"
    )
    rows = db.execute(sql, (wanted,)).fetchall()
    hashes = _reads_hashes(db, {row[2] for row in rows})
    for prompt, judge, reads, shown, repeat, kind, value, p, choice, reason, ranking in rows:
        if (of := hashes.get(reads)) is None:
            continue  # damage, which `verify` tells: as if it had never been judged
        known = out[prompt]
        known.reads[of] = reads
        if judge in judges:
            key = (judge, of, shown_ids(shown), repeat)
            known.verdicts[key] = as_judged(kind, value, p, choice, reason, ranking)


def _reads_hashes(db: sqlite3.Connection, ids: Collection[int]) -> dict[int, bytes]:
    """Looked up apart from the rows that name them: nearly all rows of a block name the same few."""
    if not ids:
        return {}
    return dict(db.execute(f"SELECT id, hash FROM reads WHERE id {_IN}", (orjson.dumps(list(ids)).decode(),)))


def _add_artifacts(db: sqlite3.Connection, wanted: str, judges: Collection[int], out: dict[int, Known]) -> None:
    """Lists that judges wrote, as verdicts about no text; which columns they read, their calls say."""
    sql = (
        "SELECT c.prompt, a.made_by, a.body, r.id, r.hash FROM artifact a JOIN call c ON c.id = a.call "
        f"JOIN reads r ON r.id = c.unit ->> '$.reads' WHERE a.item IN (SELECT id FROM item WHERE prompt {_IN})"
    )
    for prompt, judge, body, reads, of in db.execute(sql, (wanted,)):
        if judge in judges:
            out[prompt].reads[of] = reads
            out[prompt].verdicts[judge, of, (), 0] = Artifact(tuple(orjson.loads(body)))


def _add_calls(
    db: sqlite3.Connection, wanted: str, samplers: Mapping[int, int], judges: Collection[int], out: dict[int, Known]
) -> None:
    """Units closed by a final reason, judge replies that could not be read, and damaged texts."""
    sql = (
        f"SELECT prompt, sampler, judge, unit, status, reason, reply, extra FROM call WHERE prompt {_IN} "
        "AND (reason IS NOT NULL OR extra IS NOT NULL) ORDER BY id"
    )
    pending: list[tuple[Known, dict[str, Any], int, Tried]] = []
    for prompt, sampler, judge, unit_text, status, reason, reply, extra in db.execute(sql, (wanted,)):
        known, unit = out[prompt], orjson.loads(unit_text)
        if extra is not None:
            known.damaged.update(orjson.loads(extra).get("damaged", ()))
        if reason is None:
            continue
        why = Reason(reason)
        if sampler is not None and not why.owed:
            known.closed.update({(sampler, i): why for i in unit["idx"] if i < samplers.get(sampler, 0)})
        elif judge in judges and status == "ok":
            pending.append((known, unit, judge, Tried(unit["step"], why, as_generated(reply))))
    hashes = _reads_hashes(db, {unit["reads"] for _, unit, _, _ in pending})
    for known, unit, judge, tried in pending:
        of = hashes[unit["reads"]]
        known.reads[of] = unit["reads"]
        known.tried.setdefault((judge, of, tuple(unit["shown"]), unit["repeat"]), []).append(tried)


def shown_ids(shown: str) -> tuple[int, ...]:
    if not shown:
        return ()
    # Nearly all verdicts are about one text, and a reader meets millions of them.
    return tuple(map(int, shown.split(","))) if "," in shown else (int(shown),)


def as_judged(
    kind: str, value: float | None, p: float | None, choice: str | None, reason: str | None, ranking: str | None = None
) -> Judged:
    why = None if reason is None else Reason(reason)
    if kind == "choice":
        return Choice(None if choice is None else int(choice), why, p)
    if kind == "ranking":
        return Ranking(None if ranking is None else tuple(map(tuple, orjson.loads(ranking))), why)
    if kind == "list":
        return Artifact(reason=why)
    return _score(value, why, p)


@lru_cache(maxsize=4096)
def _score(value: float | None, why: Reason | None, p: float | None) -> Score:
    """Most verdicts of a run are one of a few values."""
    return Score(value, why, p=p)


def as_generated(reply: str) -> Generated:
    """A judge's stored reply, as it was read the first time."""
    kept = orjson.loads(reply)
    tokens = tuple(Token(text, p, tuple(map(tuple, top))) for text, p, top in kept.get("tokens", ())) or None
    return Generated(0, kept["message"], kept["finish_reason"], tokens=tokens, value=kept.get("value"))


def as_kept(generated: Generated) -> bytes:
    """A judge's reply as it is stored: what its reader needs to read it again."""
    kept: dict[str, Any] = {"message": generated.message, "finish_reason": generated.finish_reason}
    if generated.tokens:
        kept["tokens"] = [(t.text, t.logprob, [tuple(a) for a in t.top]) for t in generated.tokens]
    if generated.value is not None:
        kept["value"] = generated.value
    return canonical(kept)
