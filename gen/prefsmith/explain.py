"""The whole life of one prompt, and why each of its calls ran: which session and recipe asked, and what was new.

Reads a few rows by index, so it is as quick on a million prompts as on ten.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from prefsmith.errors import UsageError
from prefsmith.folder import Folder
from prefsmith.ledger.read import knowns, works
from prefsmith.records import Json
from prefsmith.stages.view import Seen, look

_NEAREST_MOST = 8


def explain(path: Path, ident: str) -> Json:
    """`ident`: an item's or prompt's hex id or the start of one (4 characters or more), a source id, or line:N.

    Raises UsageError when nothing, or more than one prompt, has that id.
    """
    with Folder(path) as folder:
        prompt = _found(folder, ident)
        work = works(folder.ledger.db, folder.view.selection, [prompt])[0]
        plan = folder.view.plan
        known = knowns(folder.ledger.db, [prompt], plan.samplers, plan.judges, bodies=True)[prompt]
        one = look(folder.view, work, known)
        return {
            "prompt": {"id": work.hash.hex(), "messages": list(work.prompt.messages), "tools": work.prompt.tools},
            "items": [_item(item, one) for item in work.items],
            "completions": _completions(folder, one),
            "calls": _calls(folder, prompt),
            "outside_view": _outside(folder, prompt, one),
        }


def _found(folder: Folder, ident: str) -> int:
    db, source = folder.ledger.db, folder.view.selection.source
    by_row = "SELECT DISTINCT i.prompt FROM row r JOIN item i ON i.id = r.item WHERE r.source = ? AND "
    if ident.startswith("line:") and ident[5:].isdigit():
        found = db.execute(by_row + "r.line = ?", (source, int(ident[5:]))).fetchall()
    else:
        found = []
        if len(ident) >= 4 and all(c in "0123456789abcdef" for c in ident):
            low, high = ident.ljust(32, "0"), ident.ljust(32, "f")
            span = (bytes.fromhex(low), bytes.fromhex(high))
            found = db.execute("SELECT prompt FROM item WHERE hash BETWEEN ? AND ?", span).fetchall()
            found += db.execute("SELECT id FROM prompt WHERE hash BETWEEN ? AND ?", span).fetchall()
        found = found or db.execute(by_row + "r.source_id = ?", (source, ident)).fetchall()
    prompts = sorted({p for (p,) in found})
    if not prompts:
        raise UsageError(
            f"{folder.path} has no item {ident!r}; give an id as `export` writes it, a source id, or line:N"
        )
    if len(prompts) > 1:
        raise UsageError(
            f"{ident!r} stands for {len(prompts)} prompts in {folder.path}; give more of the id, or line:N"
        )
    return int(prompts[0])


def _item(item: Any, one: Seen) -> Json:
    settled = one.settled[item.id]
    return {
        "id": item.hash.hex(),
        "line": item.line,
        "source_id": item.source_id,
        "reference": item.item.reference,
        "category": item.item.category,
        "columns": dict(item.item.columns),
        "reason": settled.reason,
        "pairs": [
            {"chosen": p.chosen, "rejected": p.rejected, "margin": p.margin, "rule": p.rule, "confirmed": p.confirmed}
            for p in settled.pairs
        ],
    }


def _completions(folder: Folder, one: Seen) -> list[Json]:
    described, names = folder.naming().samplers, folder.naming().judges
    out = []
    for key in folder.view.plan.ordered(one.known.completions):
        c = one.known.completions[key]
        verdicts = {
            names[judge]: [v.reason or getattr(v, "value", getattr(v, "position", None))]
            for (judge, _, shown, _), v in one.known.verdicts.items()
            if shown == (c.text,)
        }
        out.append(
            {
                "key": key,
                "temperature": described[key[0]]["temperature"],
                "text": one.known.text(c.text),
                "finish_reason": c.finish_reason,
                "gate": one.gates[key],
                "seed": c.seed,
                "verdicts": {name: found[0] for name, found in verdicts.items()},
            }
        )
    return out


def _calls(folder: Folder, prompt: int) -> list[Json]:
    db = folder.ledger.db
    sql = (
        "SELECT k.id, k.session, s.t_start, s.recipe, k.stage, k.sampler, k.judge, k.unit, k.status, k.reason, "
        "k.attempt, k.wall_s, k.n_prompt_tokens, k.n_completion_tokens, k.maybe_billed, k.reply FROM call k "
        "JOIN session s ON s.id = k.session WHERE k.prompt = ? ORDER BY k.id"
    )
    out, earlier = [], {"sampler": list[int](), "judge": list[int]()}
    for row in db.execute(sql, (prompt,)):
        table = "sampler" if row[5] is not None else "judge"
        who = row[5] if row[5] is not None else row[6]
        why = _why(db, table, who, earlier[table])
        if who not in earlier[table]:
            earlier[table].append(who)
        out.append(
            {
                "call": row[0],
                "session": row[1],
                "started": row[2],
                "recipe": row[3],
                "stage": row[4],
                "unit": orjson.loads(row[7]),
                "status": row[8],
                "reason": row[9],
                "attempt": row[10],
                "seconds": row[11],
                "tokens": [row[12], row[13]],
                "maybe_billed": bool(row[14]),
                "reply": None if row[15] is None else orjson.loads(row[15]),
                "why": why,
            }
        )
    return out


def _why(db: Any, table: str, who: int, earlier: list[int]) -> str:
    """What this sampler or judge has that the nearest earlier one of this prompt had not."""
    if who in earlier:
        return f"more of {table} {who}"
    if not earlier:
        return f"the first {table} of this prompt"
    load = {i: orjson.loads(t) for i, t in db.execute(f"SELECT id, json FROM {table}") if i == who or i in earlier}
    new = load[who]

    def differing(i: int) -> list[str]:
        return [k for k in {**new, **load[i]} if new.get(k) != load[i].get(k)]

    nearest = min(earlier, key=lambda i: (len(differing(i)), -i))
    changed = ", ".join(
        f"{k} {str(load[nearest].get(k))[:60]} -> {str(new.get(k))[:60]}" for k in differing(nearest)[:_NEAREST_MOST]
    )
    return f"new {table} {who}: against {table} {nearest}, {changed}"


def _outside(folder: Folder, prompt: int, one: Seen) -> Json:
    """What the ledger holds of this prompt that the present recipe does not select."""
    held = {
        table: folder.ledger.db.execute(f"SELECT count(*) FROM {table} WHERE prompt = ?", (prompt,)).fetchone()[0]
        for table in ("completion", "verdict")
    }
    return {
        "completions": held["completion"] - len(one.known.completions),
        "verdicts": held["verdict"] - len(one.known.verdicts),
    }
