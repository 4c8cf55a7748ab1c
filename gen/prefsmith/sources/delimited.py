"""CSV and TSV: records with quoted cells, of which one may span many physical lines.

A record is never held beyond the cap, so a quote that nobody closed costs one row and no memory. The header is line 1
and is required; a record's line is its first physical one. An empty cell is an absent one, a column without a name
(a data frame's index) is left out.
"""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Iterator
from enum import IntEnum
from typing import BinaryIO

from prefsmith.errors import UsageError
from prefsmith.reasons import Reason
from prefsmith.records import Row
from prefsmith.sources.lines import BOM, PIECE_BYTES, Line, too_large
from prefsmith.sources.mapping import EXCERPT_BYTES, Mapper, set_aside

_TAKES_HEADER = "The first line must name the columns."


class _At(IntEnum):
    """Where a quote would stand; the same states as in Python's csv module when it is not strict."""

    START = 0
    PLAIN = 1
    QUOTED = 2
    AFTER_QUOTE = 3


def delimited_rows(stream: BinaryIO, mapper: Mapper, max_bytes: int, delimiter: str, uri: str) -> Iterator[Row]:
    """One row a record that is not blank. Raises UsageError for a header that cannot be read."""
    # The limit is the process's and low (128 KiB a cell); it is only ever raised, and max_bytes bounds the record.
    csv.field_size_limit(max(csv.field_size_limit(), min(max_bytes, sys.maxsize)))
    found = records(stream, max_bytes, delimiter)
    names = _header(next(found, None), delimiter, uri)
    mapper.require(names, "in its header")
    mapper.require_prompt(names)
    for number, raw, size in found:
        if size:
            yield too_large(number, raw, size)
        elif raw:
            yield _row(number, raw, names, mapper, delimiter)


def records(stream: BinaryIO, max_bytes: int, delimiter: str) -> Iterator[Line]:
    """First line, bytes and 0 of every record; of a record over the cap its beginning and its size."""
    special = re.compile(rb'["\n' + re.escape(delimiter.encode()) + b"]")
    piece = stream.readline(PIECE_BYTES).removeprefix(BOM)
    number = first = 1
    at, held, size = _At.START, bytearray(), 0
    while piece:
        at = _after(piece, at, special)
        size += len(piece)
        held += piece
        if size > max_bytes + 2:  # room for \r\n
            del held[EXCERPT_BYTES:]
        if piece[-1] == 10:
            number += 1
            if at is not _At.QUOTED:
                yield _record(first, held, size, max_bytes)
                first, at, size = number, _At.START, 0
                held.clear()
        piece = stream.readline(PIECE_BYTES)
    if size:
        yield _record(first, held, size, max_bytes)


def _record(first: int, held: bytearray, size: int, max_bytes: int) -> Line:
    body = bytes(held).removesuffix(b"\n").removesuffix(b"\r")
    if size > max_bytes + 2 or len(body) > max_bytes:
        return first, body[:EXCERPT_BYTES], size
    return first, body, 0


def _after(piece: bytes, at: _At, special: re.Pattern[bytes]) -> _At:
    """The state behind a piece of a record."""
    if at is not _At.QUOTED and at is not _At.AFTER_QUOTE and b'"' not in piece:
        return _At.PLAIN if special.fullmatch(piece[-1:]) is None else _At.START
    done = 0
    for match in special.finditer(piece):
        here = match.start()
        if here > done and at is not _At.QUOTED:
            at = _At.PLAIN
        if piece[here] == 34:
            at = _QUOTE[at]
        elif at is not _At.QUOTED:
            at = _At.START
        done = here + 1
    return _At.PLAIN if done < len(piece) and at is not _At.QUOTED else at


_QUOTE = {
    _At.START: _At.QUOTED,
    _At.PLAIN: _At.PLAIN,
    _At.QUOTED: _At.AFTER_QUOTE,
    _At.AFTER_QUOTE: _At.QUOTED,
}


def _cells(raw: bytes, delimiter: str) -> list[str]:
    """Raises UnicodeDecodeError and csv.Error."""
    return next(csv.reader([raw.decode()], delimiter=delimiter, strict=True))


def _header(record: Line | None, delimiter: str, uri: str) -> list[str]:
    if record is None or not record[1]:
        raise UsageError(f"{uri!r} has no header. {_TAKES_HEADER}")
    number, raw, size = record
    try:
        names = _cells(raw, delimiter) if not size else []
    except (UnicodeDecodeError, csv.Error) as e:
        raise UsageError(f"the header of {uri!r} (line {number}) cannot be read: {e}. {_TAKES_HEADER}") from e
    if size:
        raise UsageError(f"the header of {uri!r} has {size:,} bytes; is a quote not closed? {_TAKES_HEADER}")
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise UsageError(f"{uri!r} names {', '.join(map(repr, twice))} twice in its header; column names must differ.")
    return names


def _row(number: int, raw: bytes, names: list[str], mapper: Mapper, delimiter: str) -> Row:
    try:
        cells = _cells(raw, delimiter)
    except UnicodeDecodeError:
        return set_aside(number, Reason.BAD_ENCODING, raw)
    except csv.Error as e:
        return set_aside(number, Reason.BAD_JSON, raw, str(e))
    if len(cells) != len(names):
        return set_aside(number, Reason.BAD_JSON, raw, f"{len(cells)} cells under {len(names)} columns")
    row = {name: cell or None for name, cell in zip(names, cells, strict=True) if name}
    return mapper.row(number, row, raw)
