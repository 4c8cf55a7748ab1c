"""Does a written file still say what the run said? Every damage is named with file, line and what is wrong.

Invariant: rows are matched to records by what they hold, never by position, so one missing row is one finding and
not a shift of all that follow. It does not trust the sum of the file: whoever changed a row may have fixed that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from prefsmith.export.contents import Content, misfit, of_completion, of_pair, of_row, unscored
from prefsmith.export.files import sha256_of
from prefsmith.export.formats import Format, format_named
from prefsmith.export.naming import Naming
from prefsmith.export.reading import Read, read_rows
from prefsmith.export.rows import Row, index_row
from prefsmith.export.selection import Selection
from prefsmith.outcomes import Pair, Record

LIMIT = 1000
"""Most rows and pairs without a counterpart; beyond it the file is another run's, and every row would be told."""
TOLD = 3
"""Lines of a sidecar that are told one by one: a line missing there shifts all that follow."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One row that the file must hold. `pair` is None for a completion's row; `index` is its line in the sidecar."""

    content: Content
    row: Row
    record: Record
    pair: Pair | None
    index: Row | None

    @property
    def label(self) -> str:
        if self.pair is not None:
            return f"pair {self.content.id}"
        return f"completion {self.row['idx']} of item {self.record.id} ({self.row['sampler']})"


def verify_file(path: Path, format: str, sha256: str, expected: Iterable[Record], names: Naming) -> list[str]:
    """One sentence per damage of this file, in the order of its lines; empty when it is whole.

    `expected`: the records that it was written from, in the same order. Raises UsageError for an unknown format.
    """
    target = format_named(format)
    name = f"{path.parent.name}/{path.name}"
    if not path.is_file():
        return [f"{name}: the file is missing"]
    found = sha256_of(path)
    damage = [] if found == sha256 else [f"{name}: sha256 is {found}, it was {sha256} when written"]
    return damage + _Join(target, path, name).run(_expected(expected, target, names))


def _expected(records: Iterable[Record], target: Format, names: Naming) -> Iterator[Expected]:
    selection, n_rows = Selection([target], names), 0
    for record in records:
        kept = [pair for pair, (reason,) in selection.judged(record) if reason is None]
        rows = list(target.rows(record, kept, names))
        pairs: list[Pair | None] = list(kept) if target.name != "parquet" else [None] * len(rows)
        for row, pair in zip(rows, pairs, strict=True):
            n_rows += 1
            index = index_row(record, pair, n_rows) if pair is not None and target.sidecar is not None else None
            yield Expected(of_completion(row) if pair is None else of_pair(record, pair), row, record, pair, index)


class _Join:
    """Walks the file and the records side by side; whichever comes first waits for its counterpart."""

    def __init__(self, target: Format, path: Path, name: str) -> None:
        self._name = name
        self._path = path
        # Both paths of a format are below one folder.
        below = path.parents[len(Path(target.file).parts) - 1]
        self._side = below / target.sidecar if target.sidecar is not None else None
        self._found: dict[bytes, tuple[Content, Read, Read | None]] = {}
        self._owed: dict[bytes, Expected] = {}
        self._line_of: dict[bytes, int] = {}
        self._damage: list[tuple[int, str]] = []
        self._n_sidecar = 0

    def run(self, expected: Iterator[Expected]) -> list[str]:
        for both, owed in zip_longest(self._numbered(), expected):
            if both is not None:
                self._take(*both)
            if owed is not None:
                self._owe(owed)
            if len(self._found) + len(self._owed) > LIMIT:
                self._tell(0, f"more than {LIMIT} rows do not match this run; looked no further")
                break
        else:
            self._explain()
        return [f"{self._name}{f' line {line}' if line else ''}: {what}" for line, what in sorted(self._damage)]

    def _numbered(self) -> Iterator[tuple[Read, Read | None]]:
        """Rows of the file, each with the line of the sidecar that has its number."""
        if self._side is None or not self._side.is_file():
            if self._side is not None:
                self._tell(0, f"its sidecar {self._side.name} is missing")
            yield from ((read, None) for read in read_rows(self._path))
            return
        sidecar = read_rows(self._side)
        entry, line = next(sidecar, None), 0
        for read in read_rows(self._path):
            line = read.line
            while entry is not None and entry.line < line:
                entry = next(sidecar, None)
            yield read, entry or Read(line, None, "is missing")
        while entry is not None and entry.line <= line:
            entry = next(sidecar, None)
        if entry is not None:
            self._tell(0, f"its sidecar {self._side.name} has more lines than the file")

    def _take(self, read: Read, entry: Read | None) -> None:
        if read.row is None:
            self._tell(read.line, read.damage or "cannot be read")
            return
        try:
            content = of_row(read.row)
        # A row of any shape may stand there; one that does not even hold the layout's parts is told as such.
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as err:
            self._tell(read.line, f"is not a row of this format ({type(err).__name__}: {err})")
            return
        if content.key in self._line_of:
            self._tell(read.line, f"repeats line {self._line_of[content.key]}")
            return
        self._line_of[content.key] = read.line
        if (expected := self._owed.pop(content.key, None)) is not None:
            self._compare(read, entry, expected)
        else:
            self._found[content.key] = (content, read, entry)

    def _owe(self, expected: Expected) -> None:
        found = self._found.pop(expected.content.key, None)
        if found is None:
            self._owed[expected.content.key] = expected
        else:
            self._compare(*found[1:], expected)

    def _compare(self, read: Read, entry: Read | None, expected: Expected) -> None:
        for what in misfit(read.row or {}, expected.row):
            self._tell(read.line, what)
        if expected.pair is not None:
            for what in unscored(expected.record, expected.pair):
                self._tell(read.line, what)
        if entry is not None and entry.row != expected.index:
            self._n_sidecar += 1
            if self._n_sidecar <= TOLD:
                self._tell(read.line, f"its line in the sidecar {entry.damage or 'is not as written for this pair'}")

    def _explain(self) -> None:
        """What is left on both sides: find for each row the pair that it was once made from."""
        for content, read, _ in self._found.values():
            origin = max(self._owed.values(), key=lambda e: content.likeness(e.content), default=None)
            if origin is None or content.likeness(origin.content) == 0:
                self._tell(read.line, "belongs to nothing that this run exports")
                continue
            del self._owed[origin.content.key]
            for what in content.differences(origin.content, origin.record):
                self._tell(read.line, what)
        for expected in self._owed.values():
            self._tell(0, f"{expected.label} is missing")
        if self._n_sidecar > TOLD:
            self._tell(0, f"{self._n_sidecar - TOLD} more lines of the sidecar are not as written for their pairs")

    def _tell(self, line: int, what: str) -> None:
        self._damage.append((line, what))
