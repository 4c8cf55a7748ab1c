"""Records in, files out: one pass, every format at once, all of it or nothing.

Invariant: an error or a kill leaves the files of the last export as they were, until the moment when all new ones are
complete on the disk. It knows no layouts and no guards, and asks the caller for the order of the records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefsmith.export.files import remove_stale
from prefsmith.export.formats import FORMATS, Format, format_named
from prefsmith.export.naming import Naming
from prefsmith.export.rows import index_row
from prefsmith.export.selection import Selection
from prefsmith.export.sinks import Lines, Sink, discarded_on_error
from prefsmith.outcomes import Pair, Record


@dataclass(frozen=True, slots=True)
class Written:
    """One file that is there now. `skipped`: pairs that it does not hold, by reason; n_rows counts its rows."""

    format: str
    path: Path
    n_rows: int
    sha256: str
    skipped: Mapping[str, int]


class _Target:
    """One format being written: its file, its sidecar, its counts."""

    def __init__(self, format: Format, folder: Path, names: Naming, sinks: list[Sink]) -> None:
        self.format = format
        self._names = names
        self._path = folder / format.file
        self._sink = format.open(self._path, names)
        sinks.append(self._sink)
        self._index: Sink | None = None
        if format.sidecar is not None:
            self._index = Lines(folder / format.sidecar)
            sinks.append(self._index)
        self._n_rows = 0
        self._skipped: Counter[str] = Counter()

    def take(self, record: Record, pairs: Sequence[tuple[Pair, str | None]]) -> None:
        kept = [pair for pair, reason in pairs if reason is None]
        self._skipped.update(str(reason) for _, reason in pairs if reason is not None)
        if self._index is not None:
            for i, pair in enumerate(kept, self._n_rows + 1):
                self._index.add(index_row(record, pair, i))
        for row in self.format.rows(record, kept, self._names):
            self._sink.add(row)
            self._n_rows += 1

    def settle(self) -> Written:
        if self._index is not None:
            self._index.settle()
        sha256 = self._sink.settle()
        return Written(self.format.name, self._path, self._n_rows, sha256, dict(sorted(self._skipped.items())))


def write(records: Iterable[Record], formats: Sequence[str], folder: Path, names: Naming) -> list[Written]:
    """Write the files of these formats below `folder`, in the order of the records; one `Written` per format.

    Raises UsageError for an unknown format and MachineError when this machine cannot hold the files.
    """
    chosen = [format_named(name) for name in dict.fromkeys(formats)]
    remove_stale(folder / file for f in FORMATS.values() for file in f.files)
    sinks: list[Sink] = []
    with discarded_on_error(sinks):
        targets = [_Target(f, folder, names, sinks) for f in chosen]
        selection = Selection(chosen, names)
        for record in records:
            judged = selection.judged(record)
            for i, target in enumerate(targets):
                target.take(record, [(pair, reasons[i]) for pair, reasons in judged])
        written = [target.settle() for target in targets]
        for sink in sinks:
            sink.publish()
    return written
