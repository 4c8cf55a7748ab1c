"""A written file read back as numbered rows, without trusting it: what cannot be read is told, not raised.

Invariant: memory does not grow with the file. It knows no records.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from prefsmith.export.rows import Row

_BATCH_ROWS = 500


@dataclass(frozen=True, slots=True)
class Read:
    """One line of JSONL or row of Parquet, counted from 1: the row, or what is wrong with it."""

    line: int
    row: Row | None
    damage: str | None = None


def read_rows(path: Path) -> Iterator[Read]:
    return _parquet(path) if path.suffix == ".parquet" else _lines(path)


def _lines(path: Path) -> Iterator[Read]:
    # A binary file ends its lines at \n only; U+2028 and the like inside a text end none.
    with path.open("rb") as file:
        for line, raw in enumerate(file, 1):
            if not raw.endswith(b"\n"):
                yield Read(line, None, "the final newline is missing")
            if not raw.strip():
                yield Read(line, None, "is blank")
                continue
            try:
                row = orjson.loads(raw)
            except orjson.JSONDecodeError as err:
                yield Read(line, None, f"is not JSON ({err})")
                continue
            yield Read(line, row) if isinstance(row, dict) else Read(line, None, "is not a JSON object")


def _parquet(path: Path) -> Iterator[Read]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    n_rows = 0
    try:
        with ParquetFile(path, page_checksum_verification=True) as file:
            for batch in file.iter_batches(_BATCH_ROWS):
                for row in batch.to_pylist():
                    n_rows += 1
                    yield Read(n_rows, {name: _decoded(name, value) for name, value in row.items()})
    # pyarrow reports a broken file as ValueError, OSError or one of its own, by which part of it is broken.
    except (ArrowException, OSError, ValueError) as err:
        yield Read(n_rows + 1, None, f"cannot be read, nor can the rest of the file ({err})")


def _decoded(name: str, value: object) -> object:
    """Messages that are stored as JSON texts, because of calls among them, as objects."""
    if name in ("prompt", "chosen", "rejected") and isinstance(value, list):
        return [orjson.loads(m) if isinstance(m, str) else m for m in value]
    return value
