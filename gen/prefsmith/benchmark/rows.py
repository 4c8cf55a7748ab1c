"""Rows of a file as objects with their line: JSONL, a JSON array, Parquet. What is no object is told with its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson

from prefsmith.errors import UsageError
from prefsmith.records import Json

Row = tuple[int, dict[str, Json]]
_BATCH_ROWS: Final = 256


def rows_of(path: Path) -> Iterator[Row]:
    """(line from 1, object); of an array or a table the place counts as the line. Raises UsageError."""
    try:
        if path.suffix == ".parquet":
            yield from _parquet(path)
        elif path.suffix == ".json":
            yield from _array(path)
        else:
            yield from _lines(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; give a .jsonl, .json or .parquet file") from None


def _lines(path: Path) -> Iterator[Row]:
    with path.open("rb") as stream:
        for line, raw in enumerate(stream, 1):
            try:
                row = orjson.loads(raw)
            except orjson.JSONDecodeError as error:
                if not raw.strip():
                    continue
                row = _lenient(raw, f"{path}:{line}", error)
            if not isinstance(row, dict):
                raise UsageError(f"{path}:{line}: got {type(row).__name__}, expected one JSON object a line")
            yield line, row


def _lenient(raw: bytes, place: str, error: orjson.JSONDecodeError) -> Json:
    """Python writes NaN, which is no JSON; it is read, so that whoever reads the field can say what is wrong."""
    try:
        return json.loads(raw)
    except ValueError:
        raise UsageError(f"{place}: not JSON ({error.msg}); mend or remove the line") from None


def _array(path: Path) -> Iterator[Row]:
    raw = path.read_bytes()
    try:
        values = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        if b"\n{" in raw.strip():
            yield from _lines(path)  # lines under a name that says array
            return
        values = _lenient(raw, str(path), error)
    values = [values] if isinstance(values, dict) else values
    if not isinstance(values, list):
        raise UsageError(f"{path}: got {type(values).__name__}, expected a JSON array of objects, or JSONL")
    for place, row in enumerate(values, 1):
        if not isinstance(row, dict):
            raise UsageError(f"{path}: entry {place} is {type(row).__name__}, expected an object")
        yield place, row


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(path)
        place = 0
        for batch in table.iter_batches(batch_size=_BATCH_ROWS):
            for row in batch.to_pylist():
                place += 1
                yield place, {name: _without_nulls(value) for name, value in row.items()}
    except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError) as error:
        raise UsageError(f"{path} is no readable Parquet file: {error}") from None


def _without_nulls(value: Json) -> Json:
    """Arrow gives every struct of a column the same keys and fills them with null; those nulls are nobody's."""
    if isinstance(value, dict):
        return {name: _without_nulls(inner) for name, inner in value.items() if inner is not None}
    return [_without_nulls(inner) for inner in value] if isinstance(value, list) else value
