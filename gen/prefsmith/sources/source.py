"""A source: where prompts come from, as rows that can be read from the start any number of times.

`stamp` changes whenever `hash` may have changed, at the price of a stat; `hash` names the content together with
everything in the recipe and here that makes rows of it. Neither knows how many rows a run takes.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from difflib import get_close_matches
from hashlib import blake2b
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO, Protocol

from prefsmith.errors import MachineError, UsageError, did_you_mean
from prefsmith.recipe import Prompts
from prefsmith.records import Row, canonical
from prefsmith.shelf import shelf
from prefsmith.sources.arrow import dataset_hash, dataset_rows, load_dataset, parquet_rows
from prefsmith.sources.delimited import delimited_rows
from prefsmith.sources.lines import BOM, jsonl_rows, text_rows
from prefsmith.sources.mapping import Mapper

READING = 1
"""Version of how bytes become rows; raise it when the same file and recipe give other rows than before."""

ENDINGS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".txt": "text",
}
STREAM_STAMP = "stream"
_BLOCK_BYTES = 1 << 20


class Source(Protocol):
    @property
    def uri(self) -> str:
        """What the user named."""
        ...

    def stamp(self) -> str:
        """Cheap: equal stamps mean equal rows, streams apart, whose stamp is always STREAM_STAMP."""
        ...

    def hash(self) -> bytes:
        """16 bytes of blake2b over the content and the settings that make rows of it."""
        ...

    def rows(self) -> Iterator[Row]:
        """Every row, from the start, in constant memory. Raises UsageError, before the first row, for a column that
        the user named and that does not exist."""
        ...

    def close(self) -> None: ...


def open_source(spec: Prompts, control_tokens: frozenset[str]) -> Source:
    """The source that a recipe names; `control_tokens` in a prompt set it aside.

    Raises UsageError for a path or format that cannot be read, MachineError when stdin cannot be kept.
    """
    path = spec.path
    if path == "-":
        return _spooled(sys.stdin.buffer, spec, control_tokens)
    if path.startswith("demo:"):
        return _File(path, _demo(path[5:]), "jsonl", spec, control_tokens)
    if path.startswith("hf:"):
        return _Dataset(spec, control_tokens)
    place = Path(path)
    if not place.exists():
        raise _missing(place)
    if place.is_dir():
        if spec.format not in ("auto", "datasets"):
            raise UsageError(f"{path!r} is a folder; `format: {spec.format}` reads a file.")
        return _Dataset(spec, control_tokens)
    if spec.format == "datasets":
        raise UsageError(f"{path!r} is a file; `format: datasets` reads a folder. Leave `format` out.")
    if not place.is_file():
        with _opened(path) as stream:
            return _spooled(stream, spec, control_tokens)
    return _File(path, place, _file_format(place, spec), spec, control_tokens)


class _File:
    """A file on disk."""

    def __init__(self, uri: str, place: Path, kind: str, spec: Prompts, control_tokens: frozenset[str]) -> None:
        self.uri = uri
        self._place = place
        self._kind = kind
        self._max_bytes = spec.max_bytes
        self._settings = _settings(spec, kind, control_tokens)
        self._mapper = Mapper(spec, control_tokens, uri, json_cells=kind in ("csv", "tsv"))
        if kind == "text":
            self._mapper.require((), "a text file has none")

    def stamp(self) -> str:
        try:
            found = self._place.stat()
        except OSError as e:
            raise _unreadable(self.uri, e) from e
        return _stamp(f"{found.st_size}:{found.st_mtime_ns}", self._settings)

    def hash(self) -> bytes:
        h = blake2b(self._settings, digest_size=16, person=b"source")
        with self._open() as stream:
            while block := stream.read(_BLOCK_BYTES):
                h.update(block)
        return h.digest()

    def rows(self) -> Iterator[Row]:
        with self._open() as stream:
            match self._kind:
                case "jsonl":
                    yield from jsonl_rows(stream, self._mapper, self._max_bytes)
                case "text":
                    yield from text_rows(stream, self._mapper, self._max_bytes)
                case "parquet":
                    yield from parquet_rows(stream, self._mapper, self._max_bytes, self.uri)
                case _:
                    delimiter = "\t" if self._kind == "tsv" else ","
                    yield from delimited_rows(stream, self._mapper, self._max_bytes, delimiter, self.uri)

    def close(self) -> None:
        pass

    def _open(self) -> BinaryIO:
        return _opened(str(self._place))


class _Stream(_File):
    """What came through stdin or a pipe, kept in a file without a name, which no crash can leave behind."""

    def __init__(self, kept: BinaryIO, kind: str, spec: Prompts, control_tokens: frozenset[str]) -> None:
        super().__init__(spec.path, Path(spec.path), kind, spec, control_tokens)
        self._kept = kept

    def stamp(self) -> str:
        return STREAM_STAMP

    def close(self) -> None:
        self._kept.close()

    def _open(self) -> BinaryIO:
        return io.BufferedReader(_From(self._kept.fileno()))


class _From(io.RawIOBase):
    """The content of an open file from its start, with a position of its own: two readers do not disturb each other."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: os.fstat(self._fd).st_size}[whence]
        self._at = start + offset
        return self._at

    def readinto(self, buffer: Any) -> int:
        n = os.preadv(self._fd, [buffer], self._at)
        self._at += n
        return n


class _Dataset:
    """A data set of the `datasets` library, loaded when it is opened."""

    def __init__(self, spec: Prompts, control_tokens: frozenset[str]) -> None:
        self.uri = spec.path
        self._max_bytes = spec.max_bytes
        self._settings = _settings(spec, "datasets", control_tokens)
        self._mapper = Mapper(spec, control_tokens, spec.path)
        place = Path(spec.path)
        # What is loaded here is read later, so the stamp is of now, and of before: a folder that changes while it is
        # loaded must look changed.
        listing = _listing(place.rglob("*")) if place.is_dir() else None
        self._dataset = load_dataset(spec.path, spec.split)
        self._listing = listing or _listing(Path(cached["filename"]) for cached in self._dataset.cache_files)

    def stamp(self) -> str:
        return _stamp(self._listing, self._settings)

    def hash(self) -> bytes:
        return dataset_hash(self._dataset, self._mapper, self.uri, self._settings)

    def rows(self) -> Iterator[Row]:
        return dataset_rows(self._dataset, self._mapper, self._max_bytes, self.uri)

    def close(self) -> None:
        pass


def _settings(spec: Prompts, kind: str, control_tokens: frozenset[str]) -> bytes:
    """Everything beside the content that decides what the rows are; `limit` is not: it only stops reading."""
    names = ("prompt", "system", "tools", "reference", "category", "id", "columns", "max_bytes")
    described = {name: getattr(spec, name) for name in names}
    described |= {
        "reading": READING,
        "format": kind,
        "split": spec.split if kind == "datasets" else None,
        "control_tokens": None if spec.allow_control_tokens else sorted(control_tokens),
    }
    return canonical(described)


def _listing(places: Iterable[Path]) -> str:
    """Number of files, and a hash of their names, sizes and times."""
    files = sorted(place for place in places if place.is_file())
    listed = [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    return f"{len(files)}:{blake2b(canonical(listed), digest_size=8).hexdigest()}"


def _stamp(content: str, settings: bytes) -> str:
    return f"{content}:{blake2b(settings, digest_size=8).hexdigest()}"


def _opened(path: str) -> BinaryIO:
    try:
        return open(path, "rb")
    except OSError as e:
        raise _unreadable(path, e) from e


def _unreadable(path: str, e: OSError) -> UsageError:
    return UsageError(f"{path!r} cannot be read: {e.strerror or e}")


def _spooled(stream: BinaryIO, spec: Prompts, control_tokens: frozenset[str]) -> Source:
    if spec.format == "datasets":
        raise UsageError(f"{spec.path!r} is a stream; `format: datasets` reads a folder or hf:NAME.")
    with ExitStack() as undo:
        try:
            kept = undo.enter_context(TemporaryFile())
            while block := stream.read(_BLOCK_BYTES):
                kept.write(block)
            kept.flush()
        except OSError as e:
            raise MachineError(f"{spec.path!r} cannot be kept in a temporary file: {e.strerror or e}") from e
        kind = _sniffed(_From(kept.fileno())) if spec.format == "auto" else spec.format
        source = _Stream(kept, kind, spec, control_tokens)
        undo.pop_all()  # from here on close() closes it
    return source


def _sniffed(content: io.RawIOBase) -> str:
    """JSONL when the first byte that is not blank opens an object, else text."""
    head = (content.read(_BLOCK_BYTES) or b"").removeprefix(BOM)
    while head and head.isspace():
        head = content.read(_BLOCK_BYTES) or b""
    return "jsonl" if head.lstrip().startswith(b"{") else "text"


def _file_format(place: Path, spec: Prompts) -> str:
    if spec.format != "auto":
        return spec.format
    kind = ENDINGS.get(place.suffix.lower())
    if kind is None:
        raise UsageError(
            f"the name of {str(place)!r} does not say how to read it; known endings are {', '.join(ENDINGS)}. "
            f"Set `prompts.format` (a .json file of one object a line is jsonl)."
        )
    return kind


def _demo(name: str) -> Path:
    known = {file.stem: file for file in shelf("data").glob("*.jsonl")}
    if name not in known:
        raise UsageError(f"there is no demo set {name!r}; {did_you_mean(name, known)}.")
    return known[name]


def _missing(place: Path) -> UsageError:
    """A folder may hold thousands of files: the nearest names are told, or a few that could be read."""
    folder = place.parent
    if not folder.is_dir():
        return UsageError(f"{str(place)!r} does not exist, nor does its folder. A data set of the hub is hf:NAME.")
    names = sorted(file.name for file in folder.iterdir())
    near = get_close_matches(place.name, names, n=5)
    known = near or [name for name in names if Path(name).suffix.lower() in ENDINGS][:10]
    return UsageError(
        f"{str(place)!r} does not exist; in {str(folder)!r}: {did_you_mean(place.name, known)}. "
        f"A data set of the hub is written hf:NAME."
    )
