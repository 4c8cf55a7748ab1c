"""Whatever bytes a file holds: no exception, every line accounted for, every item fit for the ledger."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefsmith.errors import UsageError
from prefsmith.ledger import ids
from prefsmith.recipe import Prompts
from prefsmith.records import Row
from prefsmith.sources import CONTROL_TOKENS
from prefsmith.sources.delimited import delimited_rows
from prefsmith.sources.lines import jsonl_rows, text_rows
from prefsmith.sources.mapping import Mapper

MAX_BYTES = 60

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
turns = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool", "x"]), "content": json_values},
        optional={"tool_calls": json_values, "name": json_values, "tool_call_id": json_values},
    ),
    max_size=3,
)
rows_of_json = st.dictionaries(
    st.sampled_from(["prompt", "messages", "input", "tools", "id", "answer", "category", "x"]), json_values | turns
)
lines = (
    st.binary(max_size=90)
    | st.builds(lambda value: json.dumps(value).encode(), rows_of_json | json_values)
    | st.builds(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass"), rows_of_json)
)
files = st.builds(lambda parts, end: end.join(parts), st.lists(lines, max_size=6), st.sampled_from([b"\n", b"\r\n"]))


def mapper(**prompts: Any) -> Mapper:
    return Mapper(Prompts(**prompts), CONTROL_TOKENS, "x")


def check(rows: list[Row]) -> None:
    for row in rows:
        assert (row.item is None) == (row.reason is not None) == (row.excerpt is not None)
        if row.item is not None:
            ids.item_hash(row.item, ids.prompt_hash(row.item.prompt))
            assert row.item.prompt.messages[-1]["role"] in ("user", "tool")
        for text in (row.excerpt, row.source_id, row.item and row.item.reference, row.item and row.item.category):
            assert text is None or (text.encode() is not None and (text is not row.excerpt or len(text) <= 200))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(files)
@pytest.mark.parametrize("kind", ["jsonl", "text"])
def test_every_line_that_is_not_blank_gives_one_row(kind: str, content: bytes) -> None:
    reader = jsonl_rows if kind == "jsonl" else text_rows
    rows = list(reader(io.BytesIO(content), mapper(), MAX_BYTES))
    check(rows)
    expected = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        blank = not line.strip()
        if kind == "text" and not blank:
            # Beyond ASCII, a line of text is blank when its characters are.
            blank = line.decode("utf-8", "replace").isspace()
        # An over-long line is set aside before anybody looks at what it holds.
        if not blank or len(line.removesuffix(b"\r")) > MAX_BYTES:
            expected.append(number)
    assert [row.line for row in rows] == expected


@settings(deadline=None)
@given(st.binary(max_size=120) | st.text(st.sampled_from('ab",\n\r\t\u00e9'), max_size=60).map(str.encode))
def test_a_table_of_any_bytes_gives_rows_in_order(content: bytes) -> None:
    rows = list(delimited_rows(io.BytesIO(b"prompt,x\n" + content), mapper(), MAX_BYTES, ",", "x"))
    check(rows)
    assert [row.line for row in rows] == sorted({row.line for row in rows})


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_any_header_is_read_or_refused(content: bytes) -> None:
    try:
        check(list(delimited_rows(io.BytesIO(content), mapper(), MAX_BYTES, ",", "x")))
    except UsageError as e:
        assert "'x'" in str(e)
