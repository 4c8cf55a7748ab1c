"""`verify`: the ledger against itself, verdicts against their graders and replies, exported files against the ledger.

A verdict of a grader is graded again, a verdict of a model is read again from the reply that was kept, each file is
read back row by row. Asks no model; changes nothing.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import orjson

from prefsmith.errors import UsageError
from prefsmith.export import verify_file
from prefsmith.export.files import sha256_of
from prefsmith.folder import Folder, pairing_of, view_of
from prefsmith.judging.graders import Grader, GraderPool, is_grader, make_grader
from prefsmith.judging.leaf import reader_of
from prefsmith.judging.parse import READ_VERSION
from prefsmith.ledger.done import Done
from prefsmith.ledger.ids import digest, reads_hash
from prefsmith.ledger.ledger import Ledger
from prefsmith.ledger.read import as_generated, as_judged, shown_ids, works
from prefsmith.ledger.verify import verify
from prefsmith.outcomes import Score
from prefsmith.reasons import Reason
from prefsmith.records import Item, said
from prefsmith.stages.tree import leaf_specs
from prefsmith.stages.view import records, seen
from prefsmith.text import counted

_SAME = 1e-9
_Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """`damages`: one line each, none when all is whole; `lines`: what was looked at; `cures`: what to do now."""

    damages: tuple[str, ...]
    lines: tuple[str, ...]
    cures: tuple[str, ...] = ()


def verify_folder(path: Path, sample: int) -> Report:
    """Check a run, also a live one. `sample`: most grader verdicts to grade again, spread over the prompts."""
    lines: list[str] = []
    if damages := _ledger(path, lines):
        # What hangs together by ids cannot be judged on a ledger that is not whole.
        return Report(tuple(damages), tuple(lines), (_restore(path),))
    cures: list[str] = []
    with Folder(path) as folder:
        damages += _view(folder)
        graded = asyncio.run(_graded_again(folder, sample, lines))
        damages += graded
        readings = list(_read_again(folder))
        damages += [damage for damage in readings if damage]
        lines.append(f"judges: {counted(len(readings), 'verdict')} read again from their replies")
        if graded:
            cures.append(
                "a grader that says now what it did not say then may be drawing lots, or calls something that has "
                "changed: if it does, its pairs are not to be trusted; if not, its verdicts were changed in the ledger"
            )
        if damages:
            cures.append(_restore(path))
        files, broken = list(_files(folder)), list[str]()
        for format, line, found in files:
            lines.append(line)
            damages += found
            broken += [format] if found and format not in broken else []
        if folder.recipe.contests is not None:
            again = f"`prefsmith bench judge {folder.recipe.prompts.path} … -o {path}` writes them anew"
            lines.append(f"the benchmark's report and verdicts: not compared; {again}")
        if broken and not cures:
            cures.append(
                f"`prefsmith export {path} --to {','.join(broken)}` writes these files anew from the ledger, which is "
                "whole, and asks nothing (a file of other pairing flags: with those)"
            )
    return Report(tuple(damages), tuple(lines), tuple(cures))


def _restore(path: Path) -> str:
    return (
        f"a damaged ledger cannot be mended: neither go on with {path} nor export from it; put back a copy of the "
        "whole folder (ledger.db with its -wal, if there is one) and verify that; without a copy keep this one as it "
        "is and run into a new folder with -o"
    )


def _ledger(path: Path, lines: list[str]) -> list[str]:
    try:
        with Ledger.read(path) as ledger:
            damages = list(verify(ledger))
            if not damages:
                sql = "SELECT count(*) FROM "
                counts = {t: ledger.db.execute(sql + t).fetchone()[0] for t in ("call", "completion", "verdict")}
                lines.append("ledger: " + ", ".join(f"{n:,} {t}s" for t, n in counts.items()) + " checked")
            return damages
    except UsageError as e:
        if not isinstance(e.__cause__, sqlite3.DatabaseError):
            raise
        return [f"ledger.db cannot be read: {e.__cause__}"]


def _view(folder: Folder) -> Iterator[str]:
    """The last recipe has its items, and what is noted as finished is."""
    db, chosen = folder.ledger.db, folder.view.selection
    sql = "SELECT count(*) FROM row WHERE source = ? AND line <= ? AND item IS NOT NULL AND reason IS NULL"
    n_items = db.execute(sql, (chosen.source, chosen.last_line)).fetchone()[0]
    if n_items != chosen.n_items:
        yield f"source {chosen.source}: the recipe took {chosen.n_items} items, {n_items} are here"
    done = Done(db, folder.view.hash)
    for one in seen(db, folder.view, bodies=False):
        for item in one.work.items:
            if one.settled[item.id].reason is Reason.INCOMPLETE and item.line in done:
                yield f"item {item.hash.hex()} (line {item.line}): noted as finished, but something of it is missing"


async def _graded_again(folder: Folder, sample: int, lines: list[str]) -> list[str]:
    db, damages, n, n_all = folder.ledger.db, list[str](), 0, 0
    async with GraderPool() as pool:
        graders = [leaf for leaf in folder.view.plan.leaves if leaf.role == "grader"]
        specs = [spec for spec in leaf_specs(folder.recipe.judge) if spec.use and is_grader(spec.use)]
        for spec, leaf in zip(specs, graders, strict=True):
            try:
                grader = make_grader(spec)
            except UsageError as e:
                lines.append(f"grader {leaf.name}: cannot be graded again: {e}")
                continue
            if digest("judge", grader.described()) != leaf.hash:
                lines.append(f"grader {leaf.name}: its file has changed since, so its verdicts cannot be graded again")
                continue
            total = db.execute("SELECT count(*) FROM verdict WHERE judge = ?", (leaf.judge,)).fetchone()[0]
            n_all += total
            # By rank of the prompt, so that few prompts with many verdicts are not passed over.
            step = max(1, total // max(1, sample))
            sql = (
                "SELECT v.prompt, r.hash, v.shown, v.kind, v.value, v.p, v.choice, v.reason FROM verdict v "
                "JOIN reads r ON r.id = v.reads WHERE v.judge = ?1 AND v.prompt IN (SELECT prompt FROM "
                "(SELECT prompt, row_number() OVER (ORDER BY prompt) AS rank FROM "
                "(SELECT DISTINCT prompt FROM verdict WHERE judge = ?1)) WHERE (rank - 1) % ?2 = 0) "
                "ORDER BY v.prompt, v.reads"
            )
            for (prompt, of), rows in groupby(db.execute(sql, (leaf.judge, step)), itemgetter(0, 1)):
                items = [i.item for i in works(db, folder.view.selection, [prompt])[0].items]
                item = next((i for i in items if reads_hash(i, leaf.reads) == of), None)
                if item is not None:  # else an item outside the present view
                    held = list(rows)
                    damages += [d async for d in _regrade(db, pool, grader, item, held)]
                    n += len(held)
    lines.append(f"graders: {n:,} of {counted(n_all, 'verdict')} graded again (--sample says about how many)")
    return damages


async def _regrade(
    db: sqlite3.Connection, pool: GraderPool, grader: Grader, item: Item, held: list[_Row]
) -> AsyncIterator[str]:
    """Verdicts on texts of one prompt that read the same columns."""
    sql = "SELECT body FROM text WHERE id = ?"
    bodies = [db.execute(sql, (shown_ids(row[2])[0],)).fetchone()[0] for row in held]
    scores = await pool.grade(grader, [said(orjson.loads(body)) for body in bodies], item)
    for (prompt, _, shown, kind, value, p, choice, reason), again in zip(held, scores, strict=True):
        kept = as_judged(kind, value, p, choice, reason)
        # How long a text took says something about the machine, not about the ledger.
        timed_out = Reason.GRADER_TIMEOUT in (kept.reason, again.reason)
        if not timed_out and not _equal(again, kept):
            yield f"verdict of prompt {prompt} by {grader.name} on text {shown}: kept {kept}, graded again {again}"


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Score) and isinstance(b, Score) and a.value is not None and b.value is not None:
        return abs(a.value - b.value) <= _SAME
    if a.reason is not None or b.reason is not None:
        return bool(a.reason == b.reason and type(a) is type(b))
    return bool(a == b)


def _read_again(folder: Folder) -> Iterator[str | None]:
    db = folder.ledger.db
    described = {i: orjson.loads(text) for i, text in db.execute("SELECT id, json FROM judge")}
    sql = (
        "SELECT v.prompt, v.judge, v.shown, v.kind, v.value, v.p, v.choice, v.reason, v.ranking, v.read_version, "
        "k.reply FROM verdict v JOIN call k ON k.id = v.call WHERE k.reply IS NOT NULL"
    )
    for prompt, judge, shown, kind, value, p, choice, reason, ranking, version, reply in db.execute(sql):
        read = reader_of(described[judge])
        if version != READ_VERSION or read is None:
            yield None
            continue
        again = read(as_generated(reply), len(shown_ids(shown)))
        kept = as_judged(kind, value, p, choice, reason, ranking)
        if _equal(again, kept):
            yield None
        else:
            yield f"verdict of prompt {prompt} by judge {judge} on text {shown}: kept {kept}, its reply says {again}"


def _files(folder: Folder) -> Iterator[tuple[str, str, list[str]]]:
    """Of each exported file its format, what was looked at, and its damages."""
    kept = folder.ledger.db.execute("SELECT session, view, format, path, sha256, n_rows FROM export ORDER BY id")
    for session, of, form, path, sha256, n_rows in kept.fetchall():
        place = folder.path / path
        if not place.is_file():
            yield form, f"{path}: {counted(n_rows, 'row')} written", [f"{path}: the file is missing"]
            continue
        found, since = sha256_of(place), _since(folder, session, of)
        if since is not None and (found == sha256 or not _unfinished(folder)):
            damage = [] if found == sha256 else [f"{path}: sha256 is {found}, it was {sha256} when written"]
            again = f"`prefsmith export {folder.path}` writes it again"
            yield form, f"{path}: {counted(n_rows, 'row')}, {since}, so only its sum was checked; {again}", damage
            continue
        # A session that was killed, or goes on, may have written the file anew before it could note that.
        noted = sha256 if since is None else found
        pair = pairing_of(folder.ledger, of)
        view = folder.view if pair is None else folder.under(pair)
        damage = verify_file(place, form, noted, records(folder.ledger.db, view), folder.naming())
        yield form, f"{path}: {counted(n_rows, 'row')} read back", damage


def _since(folder: Folder, session: int | None, view: bytes) -> str | None:
    """Why a file need not hold what the folder holds now; None when it must."""
    db, pair = folder.ledger.db, pairing_of(folder.ledger, view)
    recipes = dict(db.execute("SELECT id, recipe FROM session"))
    if view != view_of(folder.view.hash, pair) or recipes.get(session) != recipes[max(recipes)]:
        return "written under an earlier recipe"
    last = db.execute("SELECT session FROM call ORDER BY id DESC LIMIT 1").fetchone()
    return "written before the run went on" if last and session is not None and last[0] > session else None


def _unfinished(folder: Folder) -> bool:
    """The last session was killed, or is running now."""
    last = folder.ledger.db.execute("SELECT t_end FROM session ORDER BY id DESC LIMIT 1").fetchone()
    return bool(last[0] is None)
