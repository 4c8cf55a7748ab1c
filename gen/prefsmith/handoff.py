"""Files for trainers, from one run or several: written from the ledger, noted in it, and never asking anything."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import orjson

from prefsmith.errors import UsageError
from prefsmith.export import Naming, Written, write
from prefsmith.folder import ID_SHIFT, Folder, pairing_fact, pairing_of, view_of
from prefsmith.ledger.done import Done
from prefsmith.ledger.ledger import NAME, Ledger
from prefsmith.recipe import Pairing


def export_job(
    folders: Sequence[Path], formats: Sequence[str], pair: Pairing | None, out: Path | None
) -> list[Written]:
    """Write files of one run, or of several into one. Asks nothing."""
    if out is None and len(folders) > 1:
        raise UsageError("several runs into one file: say where with -o FOLDER")
    if out is not None:
        _check_free(out)
    if out is None:
        with Ledger.create(folders[0]) as ledger:
            return export_into(ledger, folders[0], formats, pair)
    with ExitStack() as stack:
        opened = [stack.enter_context(Folder(path, pair)) for path in folders]
        names = [f.naming(i * ID_SHIFT) for i, f in enumerate(opened)]
        merged = Naming(
            {k: v for n in names for k, v in n.samplers.items()},
            {k: v for n in names for k, v in n.judges.items()},
            any(n.has_tools for n in names),
            joined=len(opened) > 1,
            control_tokens=tuple(sorted({token for n in names for token in n.control_tokens})),
        )
        stream = (record for i, f in enumerate(opened) for record in f.records(i * ID_SHIFT))
        return write(stream, formats, out, merged)


def _check_free(out: Path) -> None:
    """Raises UsageError for a place where a run keeps files of its own, or for a file."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder with -o")
    place = out.resolve()
    for folder in (place, *place.parents):
        if (folder / NAME).is_file() and place.relative_to(folder).parts[:1] in ((), ("export",), ("eval",)):
            raise UsageError(
                f"{folder} holds a run, which keeps its own files there; without -o they are written, others go into "
                "another folder"
            )


def n_open(path: Path) -> int:
    """Items of a folder that are not finished under its last recipe."""
    with Folder(path) as f:
        db, chosen = f.ledger.db, f.view.selection
        return chosen.n_items - Done(db, f.view.hash).n_items(db, chosen)


def formats_in(ledger: Ledger, formats: Sequence[str]) -> list[str]:
    """A recipe's formats, and those that `export` has added to the folder under the run's own pairing: what is written
    anew is written in all of them."""
    kept = ledger.db.execute("SELECT format, view FROM export ORDER BY id").fetchall()
    added = [form for form, view in kept if form not in formats and pairing_of(ledger, view) is None]
    return [*formats, *dict.fromkeys(added)]


def export_into(ledger: Ledger, folder: Path, formats: Sequence[str], pair: Pairing | None = None) -> list[Written]:
    """Write files below the run's folder, and note them under the last session whose rows they can hold."""
    with Folder(folder, pair) as f:
        written = write(f.records(), formats, folder / "export", f.naming())
        view = view_of(f.view.hash, pair)
    with ledger.transaction() as db:
        last = db.execute("SELECT max(id) FROM session").fetchone()[0]
        for one in written:
            path = one.path.relative_to(folder).as_posix()
            db.execute("DELETE FROM export WHERE path = ?", (path,))
            db.execute(
                "INSERT INTO export VALUES(NULL, ?, ?, ?, ?, ?, ?)",
                (last, view, one.format, path, one.n_rows, one.sha256),
            )
        if pair is not None:
            kept = orjson.dumps(pair.model_dump(mode="json")).decode()
            db.execute("INSERT OR REPLACE INTO fact VALUES(?, 0, ?)", (pairing_fact(view), kept))
    return written
