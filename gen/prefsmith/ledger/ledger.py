"""The ledger of one run folder: opening it, its identities, sessions, facts, counters and transactions.

One process writes (run.lock); any number read while it does. A call counts when its commit returned. This module
knows tables, not what a call means.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import orjson

from prefsmith.errors import MachineError, UsageError
from prefsmith.ledger.ids import NO_READS, digest
from prefsmith.ledger.lock import RunLock
from prefsmith.records import Json, canonical

SCHEMA_VERSION = 1
NAME = "ledger.db"
_CHECKPOINT_WAIT_MS = 1_000
_RUN_CACHE_KIB, _LOOK_CACHE_KIB = 1_000, 8_000
"""Of a connection. A run goes by the order of its prompts: a larger one only fills up. A look has use for it."""
NO_READS_ID = 1
"""The reads row of judges that read nothing of the item: one for all items."""


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's and the system's errors about this machine, as MachineError."""
    try:
        yield
    except sqlite3.DatabaseError as e:
        code = getattr(e, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise MachineError(f"the disk that holds {path} is full; free some space and run again to go on") from e
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            raise MachineError(f"{path} cannot be written ({e}); make it writable or choose -o elsewhere") from e
        if code == sqlite3.SQLITE_IOERR:
            raise MachineError(f"reading or writing {path} failed ({e}); is the disk full or gone?") from e
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise UsageError(f"{path} is damaged or no ledger ({e}); `prefsmith verify` names the damage") from e
        raise
    except OSError as e:
        raise MachineError(f"{path}: {e.strerror or e}; choose another folder with -o or mend this one") from e


class Ledger:
    """Open with `Ledger.create` to write or `Ledger.read` to look.

    `db` is the connection of the thread that owns the ledger; a writer thread gets `db` handed over and the loop
    reads through its own (`reader`).
    """

    def __init__(self, folder: Path, db: sqlite3.Connection, lock: RunLock | None, copy: Path | None = None) -> None:
        self.folder = folder
        self.db = db
        self._lock = lock
        self._copy = copy
        self.session: int | None = None
        self.next_id = {t: self._top(t) + 1 for t in ("text", "call", "reads")} if lock else {}

    @classmethod
    def create(cls, folder: Path) -> Ledger:
        """Open for writing, make it when it is not there. Raises MachineError, UsageError (a newer schema)."""
        path = folder / NAME
        _know_none_and_bytes()
        with translated(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = RunLock(folder)
        with ExitStack() as undo:
            undo.callback(lock.close)
            with translated(path):
                db = _connect(f"file:{_quoted(path)}?mode=rwc", _RUN_CACHE_KIB)
                undo.callback(db.close)
                _prepare(db, path)
                ledger = cls(folder, db, lock)
            undo.pop_all()
            return ledger

    @classmethod
    def read(cls, folder: Path) -> Ledger:
        """Open to look, also while a run writes, also on a read-only medium. Raises UsageError when none is there."""
        path = folder / NAME
        with ExitStack() as undo, translated(path):
            if not path.is_file():
                raise UsageError(f"{folder} holds no run (no {NAME}); name the folder that `prefsmith run -o` wrote")
            copy: Path | None = None
            try:
                db = _connect(f"file:{_quoted(path)}?mode=ro")
            except sqlite3.OperationalError:
                db, copy = _opened_without_writing(path, undo)
            undo.callback(db.close)
            _check_version(db, path)
            ledger = cls(folder, db, None, copy)
            undo.pop_all()
            return ledger

    def reader(self) -> sqlite3.Connection:
        """Another connection that sees what has been committed."""
        return _connect(f"file:{_quoted(self.folder / NAME)}?mode=ro", _RUN_CACHE_KIB)

    def close(self) -> None:
        if self._lock is not None:
            # What was committed is safe in the -wal: a reader that does not go away, or a full disk, is no error here.
            with suppress(sqlite3.Error):
                self.db.execute(f"PRAGMA busy_timeout = {_CHECKPOINT_WAIT_MS}")
                self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.db.close()
        if self._lock is not None:
            self._lock.close()
        if self._copy is not None:
            shutil.rmtree(self._copy, ignore_errors=True)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        with translated(self.folder / NAME):
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield self.db
                self.db.execute("COMMIT")
            except BaseException:
                self.db.execute("ROLLBACK") if self.db.in_transaction else None
                raise

    def take_id(self, table: str) -> int:
        """The next integer of text, call or reads: this process is the only writer, so it counts by itself."""
        i = self.next_id[table]
        self.next_id[table] = i + 1
        return i

    def identity(self, table: str, value: Json) -> tuple[int, bytes]:
        """Id and hash of a sampler, judge or recipe; written when it is new."""
        of = digest(table, value)
        with self.transaction() as db:
            db.execute(
                f"INSERT INTO {table}(hash, json) VALUES(?, ?) ON CONFLICT DO NOTHING", (of, canonical(value).decode())
            )
            return int(db.execute(f"SELECT id FROM {table} WHERE hash = ?", (of,)).fetchone()[0]), of

    def begin_session(self, recipe: int, version: str) -> int:
        with self.transaction() as db:
            cur = db.execute(
                "INSERT INTO session(recipe, t_start, version) VALUES(?, ?, ?)", (recipe, time.time(), version)
            )
        self.session = int(cur.lastrowid or 0)
        return self.session

    def end_session(self, exit_code: int) -> None:
        with self.transaction() as db:
            db.execute("UPDATE session SET t_end = ?, exit = ? WHERE id = ?", (time.time(), exit_code, self.session))

    def learn(self, facts: Mapping[str, Json]) -> None:
        """Keep what was learnt of backends and machine; an unchanged fact is not written again."""
        with self.transaction() as db:
            for name, value in facts.items():
                text = canonical(value).decode()
                last = db.execute("SELECT json FROM fact WHERE name = ? ORDER BY t DESC LIMIT 1", (name,)).fetchone()
                if last is None or last[0] != text:
                    db.execute("INSERT OR REPLACE INTO fact VALUES(?, ?, ?)", (name, time.time(), text))

    def fact(self, name: str) -> Json:
        """What was learnt last under this name; None for nothing."""
        last = self.db.execute("SELECT json FROM fact WHERE name = ? ORDER BY t DESC LIMIT 1", (name,)).fetchone()
        return None if last is None else orjson.loads(last[0])

    def add(self, counts: Mapping[str, int]) -> None:
        """Add to counters, on disk when it returns."""
        with self.transaction() as db:
            db.executemany(
                "INSERT INTO counter VALUES(?, ?) ON CONFLICT(name) DO UPDATE SET value = value + excluded.value",
                list(counts.items()),
            )

    def counters(self) -> dict[str, int]:
        return dict(self.db.execute("SELECT name, value FROM counter"))

    def _top(self, table: str) -> int:
        return int(self.db.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()[0])


def _opened_without_writing(path: Path, undo: ExitStack) -> tuple[sqlite3.Connection, Path | None]:
    """A ledger on a medium that takes no -shm beside it: in place when it is whole, else a copy with its -wal."""
    wal = path.with_name(NAME + "-wal")
    if not wal.exists() or wal.stat().st_size == 0:
        return _connect(f"file:{_quoted(path)}?mode=ro&immutable=1"), None
    copy = Path(tempfile.mkdtemp(prefix="prefsmith-"))
    undo.callback(shutil.rmtree, copy, ignore_errors=True)
    for part in (path, wal):
        shutil.copyfile(part, copy / part.name)
    return _connect(f"file:{_quoted(copy / NAME)}?mode=rw"), copy


def _know_none_and_bytes() -> None:
    """Adapters that change nothing: for each None and each hash that is written, CPython 3.11's sqlite3 otherwise looks
    for one in vain, by way of two errors that it makes and drops. That was half of the writer's time."""
    sqlite3.register_adapter(bytes, bytes)
    sqlite3.register_adapter(type(None), dict[None, None]().get)  # gives None for None, and is no function of Python's


def _quoted(path: Path) -> str:
    return str(path.resolve()).replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _connect(uri: str, cache_kib: int = _LOOK_CACHE_KIB) -> sqlite3.Connection:
    db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30, cached_statements=64)
    try:
        db.execute(f"PRAGMA cache_size = -{cache_kib}")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()  # what cannot be opened is told here
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
        db.execute("PRAGMA page_size = 8192")
        db.execute("PRAGMA journal_mode = WAL")
        schema = (Path(__file__).parent / "schema.sql").read_text()
        db.executescript(
            f"BEGIN;\n{schema}\nINSERT INTO meta VALUES('schema', '{SCHEMA_VERSION}');\n"
            f"INSERT INTO reads VALUES({NO_READS_ID}, x'{NO_READS.hex()}');\nCOMMIT;"
        )
    _check_version(db, path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    # mkdir and the first commit survive a power cut only when the folder itself is on disk.
    for folder in (path.parent, path.parent.resolve().parent):
        fd = os.open(folder, os.O_RDONLY)
        os.fsync(fd)
        os.close(fd)


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    try:
        found = int(db.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone()[0])
    except (sqlite3.OperationalError, TypeError, ValueError) as e:
        raise UsageError(f"{path} is no ledger of prefsmith; choose another folder with -o") from e
    if found > SCHEMA_VERSION:
        raise UsageError(
            f"{path} has schema {found}, this prefsmith knows {SCHEMA_VERSION}: it was written by a newer version; "
            "upgrade prefsmith, nothing was changed"
        )
