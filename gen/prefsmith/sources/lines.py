"""Physical lines out of a binary stream, never more of one in memory than asked for, and the two formats made of them.

A line ends with \\n and nothing else: U+2028, form feeds and bare carriage returns are text. Line numbers count from 1.
It knows nothing of columns; what a JSON value means is the mapper's business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain, islice
from typing import BinaryIO, NoReturn, TypeAlias

import orjson

from prefsmith.reasons import Reason
from prefsmith.records import Json, Row
from prefsmith.sources.mapping import EXCERPT_BYTES, Mapper, set_aside

BOM = b"\xef\xbb\xbf"
PIECE_BYTES = 65536
LOOKED_AT_ROWS = 100
"""How many rows may pass before a column that the user named, and that none of them has, is an error."""

Line: TypeAlias = tuple[int, bytes, int]
"""Number, bytes without their line end, and 0; of a line over the cap only the beginning, and its size in bytes."""


def lines(stream: BinaryIO, max_bytes: int) -> Iterator[Line]:
    """Every physical line of the stream; a BOM at its very start is dropped."""
    readline = stream.readline
    cap = max_bytes + 2  # room for \r\n
    number = 0
    head = readline(len(BOM) + cap).removeprefix(BOM)
    while head:
        number += 1
        body = head
        if head[-1] == 10:
            body = head[:-2] if head[-2:] == b"\r\n" else head[:-1]
        if len(body) <= max_bytes:
            yield number, body, 0
        else:
            size = len(body)
            while head and head[-1] != 10:
                head = readline(PIECE_BYTES)
                size += len(head.rstrip(b"\r\n"))
            yield number, body[:EXCERPT_BYTES], size
        head = readline(cap)


def too_large(line: int, head: bytes, size: int) -> Row:
    return set_aside(line, Reason.TOO_LARGE, head, f"{size:,} bytes")


def jsonl_rows(stream: BinaryIO, mapper: Mapper, max_bytes: int) -> Iterator[Row]:
    """One row a line that is not blank."""
    row = mapper.row
    values = _values(stream, max_bytes)
    first = list(islice(values, LOOKED_AT_ROWS))
    # The union of the first rows' columns: any one row may lack an optional one.
    existing = dict.fromkeys(name for _, value, _ in first if type(value) is dict for name in value)
    if existing:
        mapper.require(existing, f"in its first {LOOKED_AT_ROWS} rows")
    for number, value, line in chain(first, values):
        yield value if type(value) is Row else row(number, value, line)


def _values(stream: BinaryIO, max_bytes: int) -> Iterator[tuple[int, Json | Row, bytes]]:
    """Number, parsed value and bytes of each line that is not blank; a Row where there is nothing to parse."""
    loads = orjson.loads
    for number, line, size in lines(stream, max_bytes):
        if size:
            yield number, too_large(number, line, size), b""
            continue
        try:
            value = loads(line)
        except orjson.JSONDecodeError:
            if line and not line.isspace():
                yield number, set_aside(number, _why_unreadable(line), line), b""
            continue
        yield number, value, line


def text_rows(stream: BinaryIO, mapper: Mapper, max_bytes: int) -> Iterator[Row]:
    """One prompt a line that is not blank."""
    for number, line, size in lines(stream, max_bytes):
        if size:
            yield too_large(number, line, size)
            continue
        try:
            text = line.decode()
        except UnicodeDecodeError:
            yield set_aside(number, Reason.BAD_ENCODING, line)
            continue
        if text and not text.isspace():
            yield mapper.row(number, text, line)


def _why_unreadable(line: bytes) -> Reason:
    """bad_encoding for bytes that are not UTF-8 and for an escaped lone surrogate in JSON that is whole otherwise;
    else bad_json, which covers NaN, Infinity and nesting beyond the parser's limit."""
    try:
        value = json.loads(line.decode(), parse_constant=_refuse)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        return Reason.BAD_ENCODING
    except (ValueError, RecursionError):
        return Reason.BAD_JSON
    return Reason.BAD_JSON


def _refuse(word: str) -> NoReturn:
    raise ValueError(word)
