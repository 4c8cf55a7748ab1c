"""What a folder takes in: its source opened and read, held against what it was run on before, told where it lacks.

Everything here happens before a session: nothing is asked yet, and what cannot work is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import orjson

from prefsmith.abilities import Pool, Say
from prefsmith.errors import UsageError, at
from prefsmith.folder import Folder, kind_of
from prefsmith.ledger.ids import digest
from prefsmith.ledger.ingest import Selection, ingest, stored_stream
from prefsmith.ledger.ledger import NAME, Ledger
from prefsmith.ledger.lock import LOCK
from prefsmith.recipe import Recipe
from prefsmith.records import Json
from prefsmith.sources import CONTROL_TOKENS, Source, open_source
from prefsmith.stages.view import View
from prefsmith.text import counted


@contextmanager
def begun(folder: Path) -> Iterator[Ledger]:
    """The folder's ledger, made when it is not there. A command that is refused before it asked anything leaves none
    that it made itself."""
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    fresh = not (folder / NAME).exists()
    with Ledger.create(folder) as ledger:
        try:
            yield ledger
        except UsageError:
            if fresh and not ledger.counters() and ledger.db.execute("SELECT 1 FROM call LIMIT 1").fetchone() is None:
                _vanish(folder, made)
            raise


def _vanish(folder: Path, made: Sequence[Path]) -> None:
    """While the lock is held, so that nobody else has begun here."""
    for name in (NAME, f"{NAME}-wal", f"{NAME}-shm", LOCK):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # somebody keeps something else there
        for place in made:
            place.rmdir()


def same_prompts(ledger: Ledger, recipe: Recipe, folder: Path, change: bool, say: Say) -> None:
    """The same prompts go on, and what differs is told; others need another folder or a word."""
    if ledger.db.execute("SELECT count(*) FROM session").fetchone()[0] == 0:
        return
    with Folder(folder) as before:
        old = before.recipe
    if kind_of(old) != kind_of(recipe):
        raise UsageError(f"{folder} holds {kind_of(old)}, not {kind_of(recipe)}; choose another folder with -o")
    if old.prompts.path != recipe.prompts.path and not change:
        raise UsageError(
            f"{folder} was run on {old.prompts.path!r}, not {recipe.prompts.path!r}: choose another folder with -o, "
            "or --change to use other prompts here"
        )
    differing = _differences(old.model_dump(mode="json"), recipe.model_dump(mode="json"))
    say(f"going on in {folder}" + (": " + "; ".join(differing) if differing else ""))


def _differences(old: Json, new: Json, place: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(k for k in new if k not in old)]
        return [d for k in keys for d in _differences(old.get(k), new.get(k), f"{place}.{k}" if place else k)]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [d for i, (a, b) in enumerate(zip(old, new, strict=True)) for d in _differences(a, b, f"{place}.{i}")]
    return [] if old == new else [f"{place} {_brief(old)} -> {_brief(new)}"]


def _brief(value: Json) -> str:
    if isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        # Entries of `sample:` and `judge:` by the first thing that they say: a model, a judge, a panel.
        first = [next(((k, v) for k, v in one.items() if v is not None), ("", "")) for one in value]
        return f"[{', '.join(v if isinstance(v, str) else k for k, v in first)}]"
    text = orjson.dumps(value).decode()
    return text if len(text) <= 60 else text[:57] + "…"


class Prompts(NamedTuple):
    """The opened source, None for a standard input that this folder has read before and nobody types again.

    `mapping`: digest of what turns its lines into items.
    """

    source: Source | None
    mapping: str


@contextmanager
def prompts_of(recipe: Recipe, folder: Path, pools: Mapping[str, Pool]) -> Iterator[Prompts]:
    spec = recipe.prompts
    tokens = CONTROL_TOKENS.union(*(b.capabilities().control_tokens for of in pools.values() for b, _ in of.members))
    mapping = digest("mapping", [spec.model_dump(mode="json", exclude={"path", "limit"}), sorted(tokens)]).hex()
    if spec.path == "-" and sys.stdin.isatty() and (folder / NAME).exists():
        yield Prompts(None, mapping)
        return
    with at("prompts"):
        source = open_source(spec, frozenset(tokens))
    with closing(source):
        yield Prompts(source, mapping)


def selected(ledger: Ledger, recipe: Recipe, prompts: Prompts) -> Selection:
    """Read the source, or what is not yet read of it."""
    spec = recipe.prompts
    if prompts.source is not None:
        with at("prompts"):
            selection = ingest(ledger, prompts.source, prompts.mapping, spec.limit)
    elif (kept := stored_stream(ledger, prompts.mapping, spec.limit)) is not None:
        selection = kept
    else:
        raise UsageError(f"{ledger.folder} has read no standard input; pipe the prompts in, or name their file")
    if selection.n_items == 0:
        reasons = ledger.db.execute(
            # Of each reason the first row: SQLite takes the other columns from where the least line is.
            "SELECT reason, count(*), min(line), excerpt FROM row WHERE source = ? GROUP BY reason",
            (selection.source,),
        ).fetchall()
        told = ", ".join(_first_of(*one) for one in reasons) or "it is empty"
        raise UsageError(
            f"{spec.path!r} holds no usable prompt: {told}; name the column with --prompt if it has another",
            ("prompts",),
        )
    return selection


def _first_of(why: str, n: int, line: int, excerpt: str | None) -> str:
    told = f": {excerpt[:80]}" if excerpt else ""
    return f"{n} {why} (first at line {line}{told})"


def tell_set_aside(ledger: Ledger, selection: Selection, say: Say) -> None:
    """The first bad rows in words; the summary counts them all."""
    where = "FROM row WHERE source = ? AND line <= ? AND item IS NULL"
    chosen = (selection.source, selection.last_line)
    n = ledger.db.execute(f"SELECT count(*) {where}", chosen).fetchone()[0]
    for line, why, excerpt in ledger.db.execute(f"SELECT line, reason, excerpt {where} ORDER BY line LIMIT 5", chosen):
        say(f"set aside line {line}: {why}: {excerpt or ''}"[:160])
    if n > 5:
        say(f"set aside {counted(n - 5, 'more row')}; `prefsmith summary {ledger.folder} --set-aside` names all")


def check_columns(ledger: Ledger, view: View, say: Say) -> None:
    """A judge that no item can satisfy is an error of the recipe; one that some cannot is told."""
    where = "FROM row r JOIN item i ON i.id = r.item WHERE r.source = ? AND r.line <= ? AND r.reason IS NULL"
    chosen = (view.selection.source, view.selection.last_line)
    for i, leaf in enumerate(view.plan.leaves):
        for name in leaf.needs:
            have = f"i.{name} IS NOT NULL" if name in ("reference", "category") else "instr(i.columns, ?) > 0"
            values = chosen if name in ("reference", "category") else (*chosen, f'"{name}":')
            n = ledger.db.execute(f"SELECT count(*) {where} AND {have}", values).fetchone()[0]
            if n == 0:
                how = f"map it (prompts.{name}: COLUMN)" if name in ("reference", "category") else "name a column so"
                raise UsageError(
                    f"{leaf.role} {leaf.name!r} needs the column {name!r}, which no item has; {how}, "
                    "or take another judge",
                    ("judge", i),
                )
            if n < view.selection.n_items:
                say(
                    f"{view.selection.n_items - n} of {view.selection.n_items} items lack {name!r}, which "
                    f"{leaf.name!r} needs: it gives them no verdict"
                )
