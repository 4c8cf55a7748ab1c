"""`verify`: the ledger against itself, verdicts against their graders and replies, exported files against the ledger.

A verdict of a grader is graded again, a verdict of a model is read again from the reply that was kept, each file is
read back row by row. Asks no model; changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from prefsmith.errors import UsageError
from prefsmith.export import verify_file
from prefsmith.folder import Folder
from prefsmith.judging.graders import Grader, GraderPool, make_grader
from prefsmith.judging.parse import READ_VERSION, read_choice, read_score
from prefsmith.ledger.ids import digest
from prefsmith.ledger.read import as_generated, as_judged, shown_ids, works
from prefsmith.ledger.verify import verify
from prefsmith.outcomes import Score
from prefsmith.recipe import Pairing
from prefsmith.records import Json

_SAME = 1e-9


@dataclass(frozen=True, slots=True)
class Report:
    """`damages`: one line each, none when all is whole; `lines`: what was looked at."""

    damages: tuple[str, ...]
    lines: tuple[str, ...]


def verify_folder(path: Path, sample: int) -> Report:
    """Check a run, also a live one. `sample`: most grader verdicts to grade again, spread over the prompts."""
    with Folder(path) as folder:
        db = folder.ledger.db
        damages = list(verify(folder.ledger))
        counts = {t: db.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("call", "completion", "verdict")}
        lines = ["ledger: " + ", ".join(f"{n:,} {t}s" for t, n in counts.items()) + " checked"]
        if damages:
            # What hangs together by ids cannot be judged on a ledger that is not whole.
            return Report(tuple(damages), tuple(lines))
        n_graded, found = asyncio.run(_graded_again(folder, sample, lines))
        damages += found
        lines.append(f"graders: {n_graded:,} verdicts graded again")
        readings = list(_read_again(folder))
        damages += [damage for damage in readings if damage]
        lines.append(f"judges: {len(readings):,} verdicts read again from their replies")
        for line, found in _files(folder):
            lines.append(line)
            damages += found
    return Report(tuple(damages), tuple(lines))


async def _graded_again(folder: Folder, sample: int, lines: list[str]) -> tuple[int, list[str]]:
    db, plan, damages, n = folder.ledger.db, folder.view.plan, list[str](), 0
    async with GraderPool() as pool:
        for spec, leaf in zip(folder.recipe.judge, plan.leaves, strict=False):
            if leaf.role != "grader":
                continue
            try:
                grader = make_grader(spec)
            except UsageError as e:
                lines.append(f"grader {leaf.name}: cannot be graded again: {e}")
                continue
            if digest("judge", grader.described()) != leaf.hash:
                lines.append(f"grader {leaf.name}: its file has changed since, so its verdicts cannot be graded again")
                continue
            total = db.execute("SELECT count(*) FROM verdict WHERE judge = ?", (leaf.judge,)).fetchone()[0]
            step = max(1, total // max(1, sample))
            for prompt, chosen in _spread(db, leaf.judge, step):
                damages += [d async for d in _regrade(folder, pool, grader, leaf.reads, prompt, chosen)]
                n += len(chosen)
    return n, damages


def _spread(db: Any, judge: int, step: int) -> Iterator[tuple[int, list[tuple[Any, ...]]]]:
    """Verdicts of every so many prompts, by prompt."""
    sql = (
        "SELECT v.prompt, r.hash, v.shown, v.kind, v.value, v.p, v.choice, v.reason FROM verdict v "
        "JOIN reads r ON r.id = v.reads WHERE v.judge = ? AND v.prompt % ? = 0 ORDER BY v.prompt"
    )
    held: list[tuple[Any, ...]] = []
    for row in db.execute(sql, (judge, step)):
        if held and held[0][0] != row[0]:
            yield held[0][0], held
            held = []
        held.append(row)
    if held:
        yield held[0][0], held


async def _regrade(
    folder: Folder, pool: GraderPool, grader: Grader, reads: tuple[str, ...] | None, prompt: int, held: list[Any]
) -> Any:
    db = folder.ledger.db
    items = {}
    for item in works(db, folder.view.selection, [prompt])[0].items:
        items[digest("reads", item.item.read(reads))] = item.item
    for _, of, shown, kind, value, p, choice, reason in held:
        if of not in items:
            continue  # an item outside the present view
        body = db.execute("SELECT body FROM text WHERE id = ?", (shown_ids(shown)[0],)).fetchone()[0]
        text = orjson.loads(body).get("content") or ""
        again = (await pool.grade(grader, [text], items[of]))[0]
        kept = as_judged(kind, value, p, choice, reason)
        if not _equal(again, kept):
            yield f"verdict of prompt {prompt} by {grader.name} on text {shown}: kept {kept}, graded again {again}"


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Score) and isinstance(b, Score) and a.value is not None and b.value is not None:
        return abs(a.value - b.value) <= _SAME
    same = a.reason == b.reason and type(a) is type(b)
    return bool(same and getattr(a, "position", None) == getattr(b, "position", None))


def _read_again(folder: Folder) -> Iterator[str | None]:
    db = folder.ledger.db
    labels = {i: orjson.loads(text).get("choices") for i, text in db.execute("SELECT id, json FROM judge")}
    sql = (
        "SELECT v.prompt, v.judge, v.shown, v.kind, v.value, v.p, v.choice, v.reason, v.read_version, k.reply "
        "FROM verdict v JOIN call k ON k.id = v.call WHERE k.reply IS NOT NULL"
    )
    for prompt, judge, shown, kind, value, p, choice, reason, version, reply in db.execute(sql):
        if version != READ_VERSION:
            yield None
            continue
        generated = as_generated(reply)
        read = read_choice if kind == "choice" else read_score
        again, kept = read(generated, labels[judge]), as_judged(kind, value, p, choice, reason)
        if _equal(again, kept):
            yield None
        else:
            yield f"verdict of prompt {prompt} by judge {judge} on text {shown}: kept {kept}, its reply says {again}"


def _files(folder: Folder) -> Iterator[tuple[str, list[str]]]:
    kept = folder.ledger.db.execute("SELECT view, format, path, sha256, n_rows FROM export ORDER BY id").fetchall()
    for view, form, path, sha256, n_rows in kept:
        pair, of = _pairing(folder), folder.view.hash
        if view not in (of, _view_with(of, pair)):
            yield f"{path}: written by an earlier recipe; `prefsmith export {folder.path}` writes it again", []
            continue
        with Folder(folder.path, pair if view != of else None) as f:
            found = verify_file(folder.path / path, form, sha256, f.records(), f.naming())
        yield f"{path}: {n_rows:,} rows read back", found


def _pairing(folder: Folder) -> Pairing | None:
    row = folder.ledger.db.execute("SELECT json FROM fact WHERE name = 'export.pair' ORDER BY t DESC").fetchone()
    kept: Json = orjson.loads(row[0]) if row else None
    return None if kept is None else Pairing.model_validate(kept)


def _view_with(of: bytes, pair: Pairing | None) -> bytes:
    return of if pair is None else digest("view", [of.hex(), pair.model_dump(mode="json")])
