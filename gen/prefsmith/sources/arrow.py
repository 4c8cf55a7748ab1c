"""Parquet files and data sets of the `datasets` library: tables with a schema, read in batches.

Values become JSON: dates their ISO text, decimals and UUIDs their text, NaN and null an absent cell. Arrow gives every
struct of a column the same keys and fills them with null; those nulls are nobody's, so they are dropped at all depths.
Bytes have no JSON text that anybody asked for, so such a column is refused until the user leaves it out. Rows are
numbered from 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias
from uuid import UUID

from prefsmith.errors import PrefsmithError, UsageError, did_you_mean
from prefsmith.reasons import Reason
from prefsmith.records import Json, Row, canonical
from prefsmith.sources.mapping import Mapper, set_aside

BATCH_ROWS = 256

Value: TypeAlias = dict[str, Json] | None
"""A row as JSON; None where a cell is not UTF-8."""


def parquet_rows(stream: BinaryIO, mapper: Mapper, max_bytes: int, uri: str) -> Iterator[Row]:
    """Raises UsageError for a file that cannot be read, or that lacks a column or holds bytes."""

    def values() -> Iterator[Value]:
        import pyarrow.parquet

        file = pyarrow.parquet.ParquetFile(stream)
        names = _columns(file.schema_arrow, mapper, uri)
        for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=names):
            yield from _batch_values(batch)

    return _rows(_readable(values(), uri), mapper, max_bytes)


def dataset_rows(dataset: Any, mapper: Mapper, max_bytes: int, uri: str) -> Iterator[Row]:
    """Raises UsageError as parquet_rows does."""
    return _rows(_readable(_dataset_values(dataset, mapper, uri), uri), mapper, max_bytes)


def dataset_hash(dataset: Any, mapper: Mapper, uri: str, settings: bytes) -> bytes:
    """16 bytes over the rows as JSON: the library's own fingerprint changes with the time of the cached files."""
    h = blake2b(settings, digest_size=16, person=b"source")
    for value in _readable(_dataset_values(dataset, mapper, uri), uri):
        h.update(b"\n" + (_json(value) if value is not None else b""))
    return h.digest()


def load_dataset(path: str, split: str) -> Any:
    """`hf:NAME` or `hf:NAME:CONFIG` of the hub, a folder that save_to_disk wrote, or a folder of data files.

    Raises UsageError.
    """
    import datasets

    try:
        if path.startswith("hf:"):
            name, _, config = path[3:].partition(":")
            return datasets.load_dataset(name, config or None, split=split)
        if not any((Path(path) / name).is_file() for name in ("state.json", "dataset_dict.json")):
            return datasets.load_dataset(path, split=split)
        loaded = datasets.load_from_disk(path)
    except Exception as e:  # the boundary to a library that raises whatever its parts raise
        raise _unreadable(path, e) from e
    if not isinstance(loaded, datasets.DatasetDict):
        return loaded
    if split not in loaded:
        raise UsageError(f"{path!r} has no split {split!r}; {did_you_mean(split, loaded)}. Set `prompts.split`.")
    return loaded[split]


def _unreadable(uri: str, e: Exception) -> UsageError:
    first = next(iter(str(e).splitlines()), "")
    return UsageError(f"{uri!r} cannot be read: {type(e).__name__}: {first}")


def _readable(values: Iterator[Value], uri: str) -> Iterator[Value]:
    """The boundary to pyarrow and datasets: what they raise becomes a UsageError with its cause."""
    try:
        yield from values
    except PrefsmithError:
        raise
    except Exception as e:  # pyarrow alone raises OSError, ValueError, KeyError, NotImplementedError by design
        raise _unreadable(uri, e) from e


def _columns(schema: Any, mapper: Mapper, uri: str) -> list[str]:
    """The columns to read, checked."""
    existing = list(schema.names)
    mapper.require(existing, "in its schema")
    mapper.require_prompt(existing)
    wanted = mapper.wanted(existing)
    for name in wanted:
        if _holds_bytes(schema.field(name).type):
            raise UsageError(
                f"column {name!r} of {uri!r} holds bytes, which no model, grader or judge can read. "
                f"List the columns to carry, without it, under `prompts.columns`, or store it as text."
            )
    return wanted


def _holds_bytes(kind: Any) -> bool:
    import pyarrow

    if isinstance(kind, pyarrow.BaseExtensionType):
        return not isinstance(kind, pyarrow.UuidType) and _holds_bytes(kind.storage_type)
    if pyarrow.types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    tests = (
        pyarrow.types.is_binary,
        pyarrow.types.is_large_binary,
        pyarrow.types.is_fixed_size_binary,
        pyarrow.types.is_binary_view,
    )
    return any(test(kind) for test in tests) or any(_holds_bytes(kind.field(i).type) for i in range(kind.num_fields))


def _batch_values(batch: Any) -> Iterator[Value]:
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:
        # One bad cell refuses its whole batch, so the batch is taken apart.
        for i in range(batch.num_rows):
            try:
                rows = batch.slice(i, 1).to_pylist()
            except UnicodeDecodeError:
                yield None
            else:
                yield _plain(rows[0], "row")
        return
    for row in rows:
        yield _plain(row, "row")


def _dataset_values(dataset: Any, mapper: Mapper, uri: str) -> Iterator[Value]:
    # A saved format (torch, numpy) would give tensors; the schema tells images and sounds by their bytes.
    plain = dataset.with_format(None)
    names = _columns(plain.features.arrow_schema, mapper, uri)
    for batch in plain.select_columns(names).iter(batch_size=BATCH_ROWS):
        for cells in zip(*(batch[name] for name in names), strict=True):
            yield _plain(dict(zip(names, cells, strict=True)), "row")


_TEXT_OF: Mapping[type, Callable[[Any], Json]] = {
    datetime: datetime.isoformat,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: timedelta.total_seconds,
    Decimal: lambda value: format(value, "f"),
    UUID: str,
}


def _plain(value: Any, where: str) -> Any:
    """The value as JSON, None for NaN. Raises UsageError for a type that has no JSON form."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        cells = ((str(key), _plain(inner, str(key))) for key, inner in value.items())
        return {key: inner for key, inner in cells if inner is not None}
    if isinstance(value, list | tuple):
        return [_plain(inner, where) for inner in value]
    for kind, text_of in _TEXT_OF.items():
        if isinstance(value, kind):
            return text_of(value)
    raise UsageError(
        f"column {where!r} holds {type(value).__name__}, which has no JSON form. "
        f"List the columns to carry, without it, under `prompts.columns`."
    )


def _json(value: dict[str, Json]) -> bytes:
    try:
        return canonical(value)
    except TypeError:
        return b""


def _rows(values: Iterable[Value], mapper: Mapper, max_bytes: int) -> Iterator[Row]:
    for line, value in enumerate(values, 1):
        if value is None:
            yield set_aside(line, Reason.BAD_ENCODING, b"", "a cell is not UTF-8")
            continue
        raw = _json(value)
        if not raw:
            yield set_aside(line, Reason.BAD_JSON, b"", "nested too deeply, or an integer of more than 64 bits")
        elif len(raw) > max_bytes:
            yield set_aside(line, Reason.TOO_LARGE, raw, f"{len(raw):,} bytes")
        else:
            yield mapper.row(line, value, raw)
