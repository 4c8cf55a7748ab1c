from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsmith.errors import UsageError
from prefsmith.reasons import Reason
from prefsmith.recipe import Prompts
from prefsmith.records import Row
from prefsmith.sources import CONTROL_TOKENS, open_source
from prefsmith.sources.delimited import records

Read = Callable[..., list[Row]]


def prompts(rows: list[Row]) -> list[str | None]:
    return [row.item.prompt.messages[-1]["content"] if row.item else row.reason for row in rows]


def test_quoted_cells_may_hold_newlines_delimiters_and_quotes(read: Read) -> None:
    rows = read('prompt,answer\r\n"two\r\nlines, ""quoted""",8\r\nplain,\r\n', "x.csv")
    assert [(row.line, row.item and row.item.reference) for row in rows] == [(2, "8"), (4, None)]
    assert prompts(rows) == ['two\r\nlines, "quoted"', "plain"]


def test_tsv_is_split_at_tabs(read: Read) -> None:
    (row,) = read('id\tprompt\tnote\n7\ta, b\t"x\ty"\n', "x.tsv")
    assert (row.source_id, prompts([row])) == ("7", ["a, b"])
    assert row.item is not None
    assert row.item.columns == {"note": "x\ty"}


def test_short_and_long_rows_and_bad_quotes_are_set_aside(read: Read) -> None:
    rows = read('prompt,n\na,1\nb\nc,1,2\n"d"x,1\n,1\n" ",1\ne,1\n"open,1\nf,2\n', "x.csv")
    assert prompts(rows) == [
        "a",
        Reason.BAD_JSON,
        Reason.BAD_JSON,
        Reason.BAD_JSON,
        Reason.EMPTY_PROMPT,
        Reason.EMPTY_PROMPT,
        "e",
        Reason.BAD_JSON,
    ]
    assert rows[1].excerpt == "1 cells under 2 columns: b"
    assert (rows[-1].line, rows[-1].excerpt) == (9, 'unexpected end of data: "open,1 f,2')


def test_a_stray_quote_inside_an_unquoted_cell_is_text(read: Read) -> None:
    assert prompts(read('prompt,n\nthe 5" disk,1\nnext,2\n', "x.csv")) == ['the 5" disk', "next"]


def test_bytes_that_are_no_utf8_cost_one_row(read: Read) -> None:
    assert prompts(read(b"prompt\na\ncaf\xe9\nb\n", "x.csv")) == ["a", Reason.BAD_ENCODING, "b"]


def test_a_bom_and_blank_lines_are_skipped(read: Read) -> None:
    rows = read("\ufeffprompt\r\n\r\na\r\n\r\n", "x.csv")
    assert [(row.line, row.reason) for row in rows] == [(3, None)]


def test_a_cell_may_hold_a_conversation_as_json(read: Read) -> None:
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "hi"}]
    out = io.StringIO()
    csv.writer(out).writerows([["messages"], [json.dumps(turns)], ["[1] why?"], ['[{"a": 1}]']])
    rows = read(out.getvalue(), "x.csv")
    assert rows[0].item is not None
    assert rows[0].item.prompt.messages == tuple(turns)
    assert prompts(rows[1:]) == ["[1] why?", '[{"a": 1}]']


def test_a_column_without_a_name_is_left_out(read: Read) -> None:
    (row,) = read(",prompt\n0,a\n", "x.csv")
    assert row.item is not None
    assert row.item.columns == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no header"),
        ("\nprompt\n", "no header"),
        (b"pr\xe9mpt\n", "header of .* cannot be read"),
        ("prompt,prompt\na,b\n", "'prompt' twice"),
        ("text,label\na,b\n", "no column prompt, .*it has 'text', 'label'"),
    ],
)
def test_a_header_that_does_not_serve_is_refused(read: Read, content: str | bytes, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        read(content, "x.csv")


def test_a_named_column_that_the_header_lacks_is_refused(read: Read) -> None:
    with pytest.raises(UsageError, match=r"no column 'qestion' .*did you mean 'question'"):
        read("question\na\n", "x.csv", prompt="qestion")


def test_a_quote_that_is_never_closed_costs_one_row_and_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'prompt\na\n"' + b"word word\n" * 60_000 + b'"\nb\n' + b"x" * 2_000_000 + b"\nc\n")
    source = open_source(Prompts(path=str(path), max_bytes=50_000), CONTROL_TOKENS)
    tracemalloc.start()
    rows = list(source.rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert prompts(rows) == ["a", Reason.TOO_LARGE, "b", Reason.TOO_LARGE, "c"]
    assert [row.line for row in rows] == [2, 3, 60_004, 60_005, 60_006]
    assert peak < 400_000


def test_a_cell_above_the_csv_modules_own_limit_is_read(read: Read) -> None:
    rows = read("prompt\n" + "x" * 200_000 + "\n", "x.csv", max_bytes=300_000)
    assert [len(text or "") for text in prompts(rows)] == [200_000]


cells = st.text(st.sampled_from('ab ",\n\r'), max_size=6)


@settings(deadline=None)
@given(st.lists(st.lists(cells, min_size=2, max_size=2), max_size=5))
def test_records_end_where_the_csv_module_ends_them(table: list[list[str]]) -> None:
    out = io.StringIO()
    # The module's writer leaves a bare carriage return unquoted, which its strict reader then refuses.
    quoting = csv.QUOTE_ALL if any("\r" in cell for row in table for cell in row) else csv.QUOTE_MINIMAL
    csv.writer(out, lineterminator="\n", quoting=quoting).writerows(table)
    raw = out.getvalue().encode()
    found = [next(csv.reader([body.decode()], strict=True)) for _, body, _ in records(io.BytesIO(raw), 1000, ",")]
    assert found == table
