"""Where rows go: lines of JSON, or a Parquet table with explicit types. Memory does not grow with the file.

Invariant: what a sink has written is deterministic in the order of its rows, and nothing is visible before the
caller publishes it. It knows no records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import orjson

from prefsmith.export.files import Partial, settled_apart
from prefsmith.export.inference import DateRuns, leading
from prefsmith.export.rows import Row
from prefsmith.records import Json

Kind: TypeAlias = Literal["string", "float64", "int64", "bool", "messages", "json_messages"]
Columns: TypeAlias = Mapping[str, Kind]

GROUP_ROWS = 1000
GROUP_BYTES = 32 << 20
"""A row group ends at whichever comes first; long texts must not add up to gigabytes."""


class Sink(Protocol):
    """Rows in, one file out."""

    def add(self, row: Row) -> None: ...

    def settle(self) -> str:
        """Complete the file under its dot name; its sha256 in hex."""
        ...

    def publish(self) -> None: ...

    def discard(self) -> None: ...


class Lines:
    """One JSON object per line, UTF-8, nothing escaped that need not be, a newline at the end."""

    def __init__(self, place: Path) -> None:
        self._file = Partial(place)

    def add(self, row: Row) -> None:
        self._file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))

    def settle(self) -> str:
        self._file.settle()
        return self._file.sha256

    def publish(self) -> None:
        self._file.publish()

    def discard(self) -> None:
        self._file.discard()


class TrainerLines(Lines):
    """Lines for `datasets`, with a row in front that keeps it from misreading the rest, where that is needed.

    With tools, that is the first row that offers some: a `tools` column that is null in the first 10 MiB makes a later
    string an error. Which row it is, and whether texts are all dates, is known late: the file is then copied once.
    """

    def __init__(self, place: Path, has_tools: bool) -> None:
        super().__init__(place)
        self._has_tools = has_tools
        self._dates = DateRuns()
        self._head: Row | None = None
        self._head_at = (0, 0)
        self._n_bytes = 0

    def add(self, row: Row) -> None:
        line = orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)
        self._file.write(line)
        if self._head is None and (not self._has_tools or row["tools"] is not None):
            self._head, self._head_at = row, (self._n_bytes, self._n_bytes + len(line))
        self._n_bytes += len(line)
        self._dates.see(row, len(line))

    def settle(self) -> str:
        if self._head is not None and (self._has_tools or self._dates.misread):
            rest, self._file = self._file, self._file.successor()
            with settled_apart(rest):
                self._file.write(orjson.dumps(leading(self._head), option=orjson.OPT_APPEND_NEWLINE))
                self._file.copy_from(rest, 0, self._head_at[0])
                self._file.copy_from(rest, self._head_at[1], self._n_bytes)
        return super().settle()


class Table:
    """A Parquet file whose types are stated, never inferred, and which `datasets` reads as they are."""

    def __init__(self, place: Path, columns: Columns) -> None:
        from pyarrow import PythonFile
        from pyarrow.parquet import ParquetWriter

        self._columns = columns
        self._schema = arrow_schema(columns)
        self._rows: list[Row] = []
        self._n_bytes = 0
        self._file = Partial(place)
        self._writer: Any = ParquetWriter(
            PythonFile(self._file, mode="w"), self._schema, compression="zstd", write_page_checksum=True
        )

    def add(self, row: Row) -> None:
        self._rows.append(row)
        self._n_bytes += _weight(row)
        if len(self._rows) >= GROUP_ROWS or self._n_bytes >= GROUP_BYTES:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        if not self._rows:
            return
        arrays = [_array([row[f.name] for row in self._rows], f.type, self._columns[f.name]) for f in self._schema]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows, self._n_bytes = [], 0

    def settle(self) -> str:
        self._flush()
        self._writer.close()
        self._file.settle()
        return self._file.sha256

    def publish(self) -> None:
        self._file.publish()

    def discard(self) -> None:
        self._file.discard()
        self._writer.close()


def _weight(value: Json) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_weight, value.values()))
    return sum(map(_weight, value)) if isinstance(value, list) else 8


def _array(values: list[Json], type_: Any, kind: Kind) -> Any:
    import pyarrow as pa

    if kind != "json_messages":
        return pa.array(values, type_)
    offsets = [0]
    for messages in values:
        offsets.append(offsets[-1] + len(messages))
    texts = pa.array([orjson.dumps(m).decode() for messages in values for m in messages], pa.string())
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.ExtensionArray.from_storage(pa.json_(), texts))


def arrow_schema(columns: Columns) -> Any:
    """The pyarrow schema, with the note by which `datasets` knows the features that it stands for."""
    import pyarrow as pa

    message = pa.struct({"role": pa.string(), "content": pa.string()})
    types = {
        "string": pa.string(),
        "float64": pa.float64(),
        "int64": pa.int64(),
        "bool": pa.bool_(),
        "messages": pa.list_(message),
        "json_messages": pa.list_(pa.json_()),
    }
    note = {"info": {"features": {name: _feature(kind) for name, kind in columns.items()}}}
    schema = pa.schema([pa.field(name, types[kind]) for name, kind in columns.items()])
    return schema.with_metadata({"huggingface": orjson.dumps(note)})


def _feature(kind: Kind) -> Json:
    if kind == "messages":
        return {"feature": {"role": _feature("string"), "content": _feature("string")}, "_type": "List"}
    if kind == "json_messages":
        return {"feature": {"_type": "Json"}, "_type": "List"}
    return {"dtype": kind, "_type": "Value"}


@contextmanager
def discarded_on_error(sinks: list[Sink]) -> Iterator[None]:
    """Nothing half written stays when anything at all goes wrong, an interrupt included."""
    try:
        yield
    except BaseException:
        for sink in sinks:
            sink.discard()
        raise
