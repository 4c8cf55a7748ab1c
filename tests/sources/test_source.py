from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from prefsmith.errors import UsageError
from prefsmith.recipe import Prompts
from prefsmith.sources import CONTROL_TOKENS, open_source


def made(path: Path, content: str = '{"prompt": "a"}\n') -> str:
    path.write_text(content)
    return str(path)


def test_the_uri_is_what_the_user_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "x.jsonl")
    monkeypatch.chdir(tmp_path)
    assert open_source(Prompts(path="./x.jsonl"), CONTROL_TOKENS).uri == "./x.jsonl"
    assert open_source(Prompts(path="demo:constraints"), CONTROL_TOKENS).uri == "demo:constraints"


def test_every_row_of_a_demo_set_is_an_item() -> None:
    rows = list(open_source(Prompts(path="demo:constraints"), CONTROL_TOKENS).rows())
    assert len(rows) > 100
    assert [row for row in rows if row.item is None] == []
    assert all(row.item and row.item.category and "check" in row.item.columns for row in rows)


CHANGES: list[dict[str, Any]] = [
    {"prompt": "question"},
    {"system": "s"},
    {"tools": "t"},
    {"reference": "r"},
    {"category": "c"},
    {"id": "i"},
    {"columns": []},
    {"columns": ["a"]},
    {"allow_control_tokens": True},
    {"max_bytes": 10},
    {"format": "text"},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_whatever_makes_other_rows_makes_another_hash_and_stamp(tmp_path: Path, change: dict[str, Any]) -> None:
    path = made(tmp_path / "x.jsonl")
    if change == {"format": "text"}:
        plain, changed = Prompts(path=path), Prompts(path=path, format="text")
    else:
        plain, changed = Prompts(path=path), Prompts(path=path, **change)
    one, two = open_source(plain, CONTROL_TOKENS), open_source(changed, CONTROL_TOKENS)
    assert one.hash() != two.hash()
    assert one.stamp() != two.stamp()


def test_what_changes_no_row_changes_no_hash(tmp_path: Path) -> None:
    one = open_source(Prompts(path=made(tmp_path / "x.jsonl")), CONTROL_TOKENS)
    same = Prompts(path=made(tmp_path / "y.jsonl"), limit=5, split="test", format="jsonl")
    other = open_source(same, CONTROL_TOKENS)
    assert len(one.hash()) == 16
    assert one.hash() == other.hash()
    allowed = Prompts(path=str(tmp_path / "x.jsonl"), allow_control_tokens=True)
    assert open_source(allowed, CONTROL_TOKENS).hash() == open_source(allowed, frozenset()).hash()


def test_content_and_control_tokens_are_in_the_hash(tmp_path: Path) -> None:
    path = made(tmp_path / "x.jsonl")
    before = open_source(Prompts(path=path), CONTROL_TOKENS)
    first_hash, first_stamp = before.hash(), before.stamp()
    assert open_source(Prompts(path=path), CONTROL_TOKENS | {"<x>"}).hash() != first_hash
    os.utime(path, ns=(1, 1))
    assert (before.hash(), before.stamp() != first_stamp) == (first_hash, True)
    made(tmp_path / "x.jsonl", '{"prompt": "b"}\n')
    assert before.hash() != first_hash


def test_a_wrong_path_names_the_nearest_file(tmp_path: Path) -> None:
    for name in ("prompts.jsonl", "notes.md", "other.csv"):
        made(tmp_path / name)
    with pytest.raises(UsageError, match=r"promts.jsonl' does not exist; .*did you mean 'prompts.jsonl'"):
        open_source(Prompts(path=str(tmp_path / "promts.jsonl")), CONTROL_TOKENS)
    with pytest.raises(UsageError, match=r"known: other.csv, prompts.jsonl.*hf:NAME"):
        open_source(Prompts(path=str(tmp_path / "zzz")), CONTROL_TOKENS)
    with pytest.raises(UsageError, match="nor does its folder"):
        open_source(Prompts(path=str(tmp_path / "no" / "x.jsonl")), CONTROL_TOKENS)


@pytest.mark.parametrize(
    ("name", "prompts", "told"),
    [
        ("x.json", {}, "does not say how to read it; known endings are .*format"),
        ("x.jsonl", {"format": "datasets"}, "is a file; `format: datasets` reads a folder"),
        (".", {"format": "csv"}, "is a folder; `format: csv` reads a file"),
        ("x.txt", {"reference": "answer"}, "no column 'answer' .a text file has none."),
    ],
)
def test_a_format_that_does_not_fit_is_refused(tmp_path: Path, name: str, prompts: dict[str, Any], told: str) -> None:
    for file in ("x.json", "x.jsonl", "x.txt"):
        made(tmp_path / file)
    with pytest.raises(UsageError, match=told):
        open_source(Prompts(path=str(tmp_path / name), **prompts), CONTROL_TOKENS)


def test_an_unknown_demo_set_names_those_that_exist() -> None:
    with pytest.raises(UsageError, match=r"no demo set 'constraint'; did you mean 'constraints'"):
        open_source(Prompts(path="demo:constraint"), CONTROL_TOKENS)
    with pytest.raises(UsageError, match=r"known: .*constraints"):
        open_source(Prompts(path="demo:../../secret"), CONTROL_TOKENS)


def test_a_file_that_goes_away_is_a_usage_error_and_no_traceback(tmp_path: Path) -> None:
    source = open_source(Prompts(path=made(tmp_path / "x.jsonl")), CONTROL_TOKENS)
    (tmp_path / "x.jsonl").unlink()
    for ask in (source.stamp, source.hash, lambda: list(source.rows())):
        with pytest.raises(UsageError, match=r"x.jsonl' cannot be read: No such file"):
            ask()


def test_a_named_pipe_is_kept_like_stdin(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b'{"prompt": "a"}\n',))
    writer.start()
    source = open_source(Prompts(path=str(pipe)), CONTROL_TOKENS)
    writer.join()
    assert [row.reason for _ in range(2) for row in source.rows()] == [None, None]
    source.close()


def test_reading_jsonl_imports_no_table_library(tmp_path: Path) -> None:
    code = (
        "import sys; from prefsmith.recipe import Prompts; from prefsmith.sources import open_source\n"
        f"list(open_source(Prompts(path={made(tmp_path / 'x.jsonl')!r}), frozenset()).rows())\n"
        "print(sorted({'datasets', 'pyarrow', 'pandas', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
