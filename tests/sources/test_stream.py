from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from prefsmith.reasons import Reason
from prefsmith.records import Row

Read = Callable[..., list[Row]]

READER = """
import sys
from prefsmith.recipe import Prompts
from prefsmith.sources import CONTROL_TOKENS, STREAM_STAMP, open_source
source = open_source(Prompts(path="-", **eval(sys.argv[1])), CONTROL_TOKENS)
one, two = source.rows(), source.rows()
rows = [next(one), *two]  # two readers at once do not disturb each other
assert [rows[0], *one] == rows[1:], "read twice"
assert (source.uri, source.stamp(), len(source.hash())) == ("-", STREAM_STAMP, 16)
source.close()
for row in rows[1:]:
    print(row.line, row.reason or row.item.prompt.messages[-1]["content"])
"""


def through_stdin(content: bytes, **prompts: object) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", READER, repr(prompts)], input=content, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


@pytest.mark.parametrize(
    ("content", "prompts", "printed"),
    [
        (b'\n \n{"prompt": "a"}\n"b"\n', {}, ["3 a", "4 b"]),
        (b'\xef\xbb\xbf{"prompt": "a"}\n', {}, ["1 a"]),
        (b'\xef\xbb\xbfhello\n\n"b"\n', {}, ["1 hello", '3 "b"']),
        (b'{"prompt": "a"}\n', {"format": "text"}, ['1 {"prompt": "a"}']),
        (b"prompt,n\nb,1\n", {"format": "csv"}, ["2 b"]),
    ],
)
def test_stdin_is_kept_and_its_format_told_from_its_first_byte(
    content: bytes, prompts: dict[str, object], printed: list[str]
) -> None:
    assert through_stdin(content, **prompts) == printed


def test_a_line_of_text_is_a_prompt_and_blank_lines_are_none(read: Read) -> None:
    rows = read("one\r\n\n \t\n  two \n\u2028three\u2028four", "x.txt")
    told = [(row.line, row.item.prompt.messages[0]["content"] if row.item else row.reason) for row in rows]
    assert told == [(1, "one"), (4, "  two "), (5, "\u2028three\u2028four")]


def test_bad_text_lines_are_set_aside(read: Read) -> None:
    rows = read(b"\xff\na\x00b\n" + b"x" * 50 + b"\n<s>\n", "x.txt", max_bytes=20)
    assert [row.reason for row in rows] == [
        Reason.BAD_ENCODING,
        Reason.BAD_ENCODING,
        Reason.TOO_LARGE,
        Reason.CONTROL_TOKEN,
    ]
