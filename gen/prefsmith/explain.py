"""The whole life of one prompt, and why each of its calls ran: which session and recipe asked, and what was new.

Reads a few rows by index, so it is as quick on a million prompts as on ten; only a source's own id has no index, and is
looked for among the rows of the source.
"""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import orjson

from prefsmith.errors import UsageError
from prefsmith.folder import Folder
from prefsmith.ledger.ids import reads_hash
from prefsmith.ledger.known import OpenItem
from prefsmith.ledger.ledger import Ledger
from prefsmith.ledger.read import knowns, works
from prefsmith.outcomes import Key
from prefsmith.reasons import Reason
from prefsmith.records import Json
from prefsmith.stages.score import lacking
from prefsmith.stages.view import Seen, look

_NEAREST_MOST = 8
_HEX, _SHORTEST, _PAIR = 32, 4, 8
"""Characters of a whole id, the fewest of its start, and those that a pair's id adds."""
_UNSAID = ("target", "model", "max_tokens", "run_seed")
"""What does not tell samplers apart, or seldom."""


def explain(path: Path, ident: str) -> Json:
    """`ident`: line:N, an item's, prompt's or pair's whole hex id, a source id, or the first 4 or more of a hex id;
    what comes first in this list wins.

    `note` says so where that row is a duplicate of an earlier one. Raises UsageError when nothing, or more than one
    prompt, has that id.
    """
    with Folder(path) as folder:
        found, told = life(folder, _found(folder, ident)), _duplicate(folder, ident)
        return {"note": told, **found} if told else found


def life(folder: Folder, prompt: int) -> Json:
    """Everything that came of one prompt, by its number in this ledger."""
    work = works(folder.ledger.db, folder.view.selection, [prompt])[0]
    plan = folder.view.plan
    known = knowns(folder.ledger.db, [prompt], plan.samplers, plan.judges, bodies=True)[prompt]
    one, names = look(folder.view, work, known), _Names(folder)
    return {
        "prompt": {"id": work.hash.hex(), "messages": list(work.prompt.messages), "tools": work.prompt.tools},
        "items": [_item(item, one, names) for item in work.items],
        "completions": _completions(folder, one, names),
        "calls": _calls(folder, one, names),
        "outside_view": _outside(folder, prompt, one),
    }


class _Names:
    """What people call the samplers, judges and completions that are integers in the ledger."""

    def __init__(self, folder: Folder) -> None:
        db, leaves = folder.ledger.db, folder.judges()
        self.described = {
            table: {i: orjson.loads(text) for i, text in db.execute(f"SELECT id, json FROM {table}")}
            for table in ("sampler", "judge")
        }
        self._labels: dict[str, dict[int, str]] = {"sampler": {}, "judge": {}}
        for i, of in self.described["sampler"].items():
            settings = [f"{k} {str(v)[:40]}" for k, v in of.items() if k not in _UNSAID]
            self._labels["sampler"][i] = ", ".join([_model(folder.ledger, of), *settings])
        for i, of in self.described["judge"].items():
            by = f" ({_model(folder.ledger, of)})" if "model" in of else ""
            self._labels["judge"][i] = f"{leaves.get(i) or of.get('kind') or 'a judge'}{by}"

    def of(self, table: str, i: int) -> str:
        """With its number where the words alone would stand for two."""
        labels = self._labels[table]
        return labels[i] if list(labels.values()).count(labels[i]) == 1 else f"{labels[i]} [{table} {i}]"

    def completion(self, key: Key) -> str:
        return f"{self.of('sampler', key[0])} #{key[1]}"


def _model(ledger: Ledger, of: Json) -> str:
    """As the recipe wrote it, its identity behind it where that is another name: a file's is its content's."""
    target, model = of.get("target"), of.get("model")
    name = ledger.fact(f"backend.{target}.{model}.name")
    return f"{target}:{model}" if name is None else f"{target}:{name} [{model}]"


def utc(t: float | None) -> str | None:
    """A time of the ledger as ISO 8601."""
    return None if t is None else datetime.fromtimestamp(t, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _found(folder: Folder, ident: str) -> int:
    db, source = folder.ledger.db, folder.view.selection.source
    by_row = "SELECT DISTINCT i.prompt FROM row r JOIN item i ON i.id = r.item WHERE r.source = ? AND "
    if ident.startswith("line:") and ident[5:].isdigit():
        found = db.execute(by_row + "r.line = ?", (source, int(ident[5:]))).fetchall()
        aside = "SELECT reason, excerpt FROM row WHERE source = ? AND line = ? AND item IS NULL"
        if row := db.execute(aside, (source, int(ident[5:]))).fetchone():
            raise UsageError(f"line {ident[5:]} of the source was set aside as {row[0]}: {row[1]!r}; it has no item")
    else:
        item, dash, of_pair = ident.partition("-")
        if dash and len(item) == _HEX and len(of_pair) == _PAIR:
            ident = item  # a pair's id, as files name it: its item's, and which of its pairs
        found = _by_hash(db, ident) if len(ident) == _HEX else []
        # A source's ids are often numbers, and those look like the start of a hash.
        found = found or db.execute(by_row + "r.source_id = ?", (source, ident)).fetchall()
        found = found or (_by_hash(db, ident) if len(ident) >= _SHORTEST else [])
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


def _duplicate(folder: Folder, ident: str) -> str | None:
    """Whose place an earlier row takes: what is told is of that one."""
    if not (ident.startswith("line:") and ident[5:].isdigit()):
        return None
    sql = (
        "SELECT f.line FROM row r JOIN row f ON f.item = r.item AND f.source = r.source AND f.reason IS NULL "
        "WHERE r.source = ? AND r.line = ? AND r.reason = ?"
    )
    line = int(ident[5:])
    first = folder.ledger.db.execute(sql, (folder.view.selection.source, line, Reason.DUPLICATE)).fetchone()
    return first and f"line {line} of the source is a duplicate of line {first[0]}, which is told here"


def _by_hash(db: sqlite3.Connection, start: str) -> list[tuple[int]]:
    if len(start) > _HEX or not set(start) <= set("0123456789abcdef"):
        return []
    span = tuple(bytes.fromhex(start.ljust(_HEX, end)) for end in "0f")
    found = db.execute("SELECT prompt FROM item WHERE hash BETWEEN ? AND ?", span).fetchall()
    return found + db.execute("SELECT id FROM prompt WHERE hash BETWEEN ? AND ?", span).fetchall()


def _item(item: OpenItem, one: Seen, names: _Names) -> Json:
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
            {
                "chosen": names.completion(p.chosen),
                "rejected": names.completion(p.rejected),
                "margin": p.margin,
                "judge": names.of("judge", p.judge),
                "rule": p.rule,
                "confirmed": p.confirmed,
            }
            for p in settled.pairs
        ],
    }


def _completions(folder: Folder, one: Seen, names: _Names) -> list[Json]:
    leaves, out = folder.view.plan.leaves, []
    errors = _errors(folder, one.work.id)
    for key in (k for k in folder.view.plan.keys if k in one.known.completions):
        c = one.known.completions[key]
        verdicts: dict[str, Json] = {}
        for leaf, item in product(leaves, one.work.items):
            reads = reads_hash(item.item, leaf.reads)
            found = one.known.verdicts.get((leaf.judge, reads, (c.text,), 0))
            # Items of one prompt that this judge reads alike have one verdict; others have each their own.
            alike = len({reads_hash(i.item, leaf.reads) for i in one.work.items}) == 1
            name = leaf.name if alike else f"{leaf.name}, line {item.line}"
            if found is not None:
                error = errors.get((leaf.judge, c.text))
                verdicts[name] = f"{found.reason}: {error}" if error else found.reason or getattr(found, "value", None)
            elif leaf.gives == "score" and (why := lacking(leaf, item.item)):
                verdicts[name] = f"not asked: {why}"
        for item in one.work.items:
            # What rankings, lists, duels and rules make of an answer is no verdict of its own.
            for judge, value in one.settled[item.id].scores.get(key, {}).items():
                name = folder.view.plan.names[judge]
                if name not in verdicts and f"{name}, line {item.line}" not in verdicts:
                    verdicts[name if len(one.work.items) == 1 else f"{name}, line {item.line}"] = value
        out.append(
            {
                "completion": names.completion(key),
                "text": one.known.text(c.text),
                "finish_reason": c.finish_reason,
                "gate": one.gates[key],
                "seed": c.seed,
                "verdicts": verdicts,
            }
        )
    return out


def _errors(folder: Folder, prompt: int) -> dict[tuple[int, int], str]:
    """What graders said when they could not grade, by judge and text."""
    sql = "SELECT judge, shown, parts ->> '$.error' FROM verdict WHERE prompt = ? AND reason NOTNULL AND parts NOTNULL"
    return {(judge, int(shown)): error for judge, shown, error in folder.ledger.db.execute(sql, (prompt,)) if error}


def _calls(folder: Folder, one: Seen, names: _Names) -> list[Json]:
    sql = (
        "SELECT k.sampler, k.judge, k.unit, k.session, s.t_start, s.recipe, k.stage, k.endpoint, k.status, k.reason, "
        "k.attempt, k.t_sent, k.wall_s, k.n_prompt_tokens, k.n_completion_tokens, k.maybe_billed, k.reply, k.extra "
        "FROM call k JOIN session s ON s.id = k.session WHERE k.prompt = ? ORDER BY k.id"
    )
    out, earlier = [], {"sampler": list[int](), "judge": list[int]()}
    shown = {c.text: names.completion(key) for key, c in reversed(one.known.completions.items())}
    for (
        sampler,
        judge,
        unit,
        session,
        began,
        recipe,
        stage,
        endpoint,
        status,
        reason,
        attempt,
        *rest,
    ) in folder.ledger.db.execute(sql, (one.work.id,)):
        t_sent, wall_s, n_in, n_out, maybe_billed, reply, extra = rest
        table, who = ("judge", judge) if sampler is None else ("sampler", sampler)
        why = _why(names, table, who, earlier[table])
        if who not in earlier[table]:
            earlier[table].append(who)
        asked = orjson.loads(unit)
        out.append(
            {
                "stage": stage,
                "by": names.of(table, who),
                "about": [f"#{i}" for i in asked["idx"]]
                if sampler is not None
                else [shown.get(text, "a text that the recipe does not take") for text in asked["shown"]],
                "step": asked.get("step"),
                "sent": utc(t_sent),
                "seconds": None if wall_s is None else round(wall_s, 3),
                "endpoint": folder.ledger.fact(f"backend.{endpoint}.url") or endpoint,
                "session": session,
                "session_began": utc(began),
                "recipe": recipe,
                "status": status,
                "reason": reason,
                "attempt": attempt,
                "prompt_tokens": n_in,
                "answer_tokens": n_out,
                "maybe_billed": bool(maybe_billed),
                "detail": orjson.loads(extra).get("detail") if extra else None,
                "reply": None if reply is None else orjson.loads(reply),
                "why": why,
            }
        )
    return out


def _why(names: _Names, table: str, who: int, earlier: list[int]) -> str:
    """What this sampler or judge has that the nearest earlier one of this prompt had not."""
    if who in earlier:
        return f"more of this {table}"
    if not earlier:
        return f"the first {table} of this prompt"
    load = names.described[table]
    new = load[who]

    def differing(i: int) -> list[str]:
        return [k for k in {**new, **load[i]} if new.get(k) != load[i].get(k)]

    nearest = min(earlier, key=lambda i: (len(differing(i)), -i))
    changed = ", ".join(
        f"{k} {str(load[nearest].get(k))[:60]} -> {str(new.get(k))[:60]}" for k in differing(nearest)[:_NEAREST_MOST]
    )
    return f"a new {table}: against {names.of(table, nearest)}, {changed}"


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
