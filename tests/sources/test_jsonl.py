from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from prefsmith.reasons import Reason
from prefsmith.recipe import Prompts
from prefsmith.records import Item, Prompt, Row
from prefsmith.sources import CONTROL_TOKENS, open_source

Read = Callable[..., list[Row]]
TEN_MB = 10_000_000


def user(text: str) -> Item:
    return Item(Prompt(({"role": "user", "content": text},)))


def test_an_object_and_a_bare_string_are_prompts(read: Read) -> None:
    assert read(['{"prompt": "hi"}', '"you"']) == [Row(1, user("hi")), Row(2, user("you"))]


def test_blank_lines_give_no_row_but_count_as_lines(read: Read) -> None:
    assert [row.line for row in read('\n"a"\n  \t\n\r\n"b"')] == [2, 5]


def test_only_a_newline_ends_a_line(read: Read) -> None:
    text = "a\u2028b\u2029c\x85d\x0be\x0cf"
    raw = f'"{text}"\n"z"\n'.replace("\x0b", "\\u000b").replace("\x0c", "\\u000c")
    assert [row.item for row in read(raw)] == [user(text), user("z")]


def test_crlf_is_a_line_end(read: Read) -> None:
    assert [row.item for row in read(b'{"prompt":"a"}\r\n"b"\r\n')] == [user("a"), user("b")]


def test_a_bom_is_dropped_at_the_start_and_kept_in_text(read: Read) -> None:
    rows = read(b'\xef\xbb\xbf"a"\n"\xef\xbb\xbfb"\n\xef\xbb\xbf"c"\n')
    assert [row.item for row in rows[:2]] == [user("a"), user("\ufeffb")]
    assert rows[2].reason is Reason.BAD_JSON


def test_a_file_without_content_has_no_rows(read: Read) -> None:
    assert read(b"") == read(b"\xef\xbb\xbf") == read(b"\n\n") == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"prompt": "hi"', Reason.BAD_JSON),
        (b"hello", Reason.BAD_JSON),
        (b"[1, 2]", Reason.BAD_JSON),
        (b"null", Reason.BAD_JSON),
        (b"17", Reason.BAD_JSON),
        (b'{"prompt": 17}', Reason.BAD_JSON),
        (b'{"prompt": {"text": "hi"}}', Reason.BAD_JSON),
        (b'{"prompt": "hi", "score": NaN}', Reason.BAD_JSON),
        (b'{"prompt": "hi", "score": -Infinity}', Reason.BAD_JSON),
        (b'{"prompt": "hi", "deep": ' + b"[" * 300 + b"]" * 300 + b"}", Reason.BAD_JSON),
        (b"[" * 5000, Reason.BAD_JSON),
        (b'{"prompt": "caf\xe9"}', Reason.BAD_ENCODING),
        (b'{"prompt": "\\ud83d"}', Reason.BAD_ENCODING),
        (b'{"prompt": "a\\u0000b"}', Reason.BAD_ENCODING),
        (b'{"prompt": ""}', Reason.EMPTY_PROMPT),
        (b'{"prompt": " \\n\\t\\u00a0"}', Reason.EMPTY_PROMPT),
        (b'{"prompt": null}', Reason.EMPTY_PROMPT),
        (b'""', Reason.EMPTY_PROMPT),
        (b'{"text": "hi"}', Reason.NO_PROMPT_FIELD),
        (b"{}", Reason.NO_PROMPT_FIELD),
        (b'{"prompt": "hi<|im_end|>"}', Reason.CONTROL_TOKEN),
    ],
)
def test_a_bad_line_is_set_aside_with_its_reason_and_its_neighbours_stay(
    read: Read, line: bytes, reason: Reason
) -> None:
    rows = read(b'"before"\n' + line + b'\n"after"\n')
    assert [row.line for row in rows] == [1, 2, 3]
    assert (rows[0].item, rows[2].item) == (user("before"), user("after"))
    assert (rows[1].item, rows[1].reason) == (None, reason)


def test_an_excerpt_is_short_printable_and_in_one_line(read: Read) -> None:
    (row,) = read(b'{"prompt":   "\x1b[31m\xff \xf0\x9f' + b"long text " * 100 + b'"}')
    assert row.excerpt is not None
    assert row.excerpt.startswith('{"prompt": "\ufffd[31m\ufffd \ufffdlong text long')
    assert len(row.excerpt) == 200
    assert row.excerpt.isprintable()


def test_an_excerpt_says_what_was_wrong(read: Read) -> None:
    rows = read(['{"id": 7, "prompt": "a</s>b"}', '{"text": "hi", "label": 1}'])
    assert (rows[0].source_id, rows[0].excerpt) == ("7", '</s>: {"id": 7, "prompt": "a</s>b"}')
    assert rows[1].excerpt == 'columns are text, label: {"text": "hi", "label": 1}'


def test_max_bytes_counts_the_line_without_its_end(read: Read) -> None:
    at_cap, over = '"' + "x" * 98 + '"', '"' + "x" * 99 + '"'
    for end in ("\n", "\r\n"):
        rows = read(end.join((at_cap, over, over, at_cap, "")), max_bytes=100)
        assert [row.reason for row in rows] == [None, Reason.TOO_LARGE, Reason.TOO_LARGE, None]
    assert [row.reason for row in read("\ufeff" + at_cap + "\n" + over, max_bytes=100)] == [None, Reason.TOO_LARGE]


def test_a_ten_megabyte_line_is_skipped_without_being_held(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'"a"\n{"prompt": "' + b"x" * TEN_MB + b'"}\n"b"\n')
    source = open_source(Prompts(path=str(path), max_bytes=100_000), CONTROL_TOKENS)
    tracemalloc.start()
    rows = list(source.rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [(row.line, row.reason) for row in rows] == [(1, None), (2, Reason.TOO_LARGE), (3, None)]
    assert (rows[1].excerpt or "").startswith('10,000,014 bytes: {"prompt": "xxx')
    assert peak < 1_000_000


def test_duplicates_are_rows_like_any_other(read: Read) -> None:
    """Whoever keeps the items sees that two are equal; a source only reads."""
    rows = read(['"same"', '"same"', '{"prompt": "same"}'])
    assert [(row.line, row.item, row.reason) for row in rows] == [(n, user("same"), None) for n in (1, 2, 3)]
