from __future__ import annotations

import datetime as dt
import decimal
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefsmith.errors import UsageError
from prefsmith.reasons import Reason
from prefsmith.recipe import Prompts
from prefsmith.records import Row
from prefsmith.sources import CONTROL_TOKENS, Source, open_source


@pytest.fixture(scope="module", autouse=True)
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The library's cache lies in this test run's own folder, and it prints no bars."""
    before = datasets.config.HF_DATASETS_CACHE
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("cache")
    datasets.disable_progress_bars()
    yield
    datasets.config.HF_DATASETS_CACHE = before


def parquet(path: Path, table: Any, **prompts: Any) -> Source:
    pq.write_table(table, path)
    return open_source(Prompts(path=str(path), **prompts), CONTROL_TOKENS)


def items(rows: list[Row]) -> list[Any]:
    return [row.item.prompt.messages[-1]["content"] if row.item else row.reason for row in rows]


def test_cells_become_json_and_absent_ones_are_dropped(tmp_path: Path) -> None:
    table = pa.table(
        {
            "prompt": ["a", None],
            "answer": pa.array([decimal.Decimal("1.50"), None]),
            "id": [5, None],
            "when": pa.array([dt.datetime(2026, 1, 2, 3, 4, 5), None]),
            "day": pa.array([dt.date(2026, 1, 2), None]),
            "score": [float("nan"), 0.5],
            "far": [float("inf"), 0.5],
            "nested": [{"x": [1, None], "y": None}, {"x": [], "y": 2}],
        }
    )
    (first, second) = parquet(tmp_path / "x.parquet", table).rows()
    assert first.item is not None
    assert (first.line, first.source_id, first.item.reference) == (1, "5", "1.50")
    assert first.item.columns == {
        "when": "2026-01-02T03:04:05",
        "day": "2026-01-02",
        "far": "Infinity",
        "nested": {"x": [1, None]},
    }
    assert (second.line, second.reason) == (2, Reason.NO_PROMPT_FIELD)


def test_nulls_that_arrow_filled_in_are_not_in_a_conversation(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"city": "Bern"}}}
    other = {"id": "c2", "type": "function", "function": {"name": "g", "arguments": {"n": 1}}}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": None, "tool_calls": [call, other]},
        {"role": "tool", "content": "1", "tool_call_id": "c1"},
    ]
    (row,) = parquet(tmp_path / "x.parquet", pa.Table.from_pylist([{"messages": turns}])).rows()
    assert row.item is not None
    assert row.item.prompt.messages == tuple(turns)


def test_more_rows_than_a_batch_keep_their_order_and_number(tmp_path: Path) -> None:
    source = parquet(tmp_path / "x.parquet", pa.table({"prompt": [f"p{i}" for i in range(1000)]}))
    rows = list(source.rows())
    assert [row.line for row in rows] == list(range(1, 1001))
    assert items(rows) == [f"p{i}" for i in range(1000)]
    assert list(source.rows()) == rows


def test_a_cell_that_is_no_utf8_costs_one_row(tmp_path: Path) -> None:
    texts = pa.array([b"a", b"caf\xe9", b"b"]).cast(pa.binary()).view(pa.string())
    rows = list(parquet(tmp_path / "x.parquet", pa.table({"prompt": texts})).rows())
    assert items(rows) == ["a", Reason.BAD_ENCODING, "b"]


def test_a_row_over_the_cap_is_set_aside(tmp_path: Path) -> None:
    rows = list(parquet(tmp_path / "x.parquet", pa.table({"prompt": ["a", "b" * 500]}), max_bytes=100).rows())
    assert items(rows) == ["a", Reason.TOO_LARGE]
    assert (rows[1].excerpt or "").startswith('513 bytes: {"prompt":"bbb')


def test_a_column_of_bytes_is_refused_until_it_is_left_out(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["a"], "image": [{"bytes": b"\x89PNG", "path": "x.png"}], "n": [1]})
    source = parquet(tmp_path / "x.parquet", table)
    with pytest.raises(UsageError, match=r"'image' .*holds bytes.*`prompts.columns`"):
        list(source.rows())
    (row,) = parquet(tmp_path / "x.parquet", table, columns=["n"]).rows()
    assert row.item is not None
    assert row.item.columns == {"n": 1}


def test_a_named_column_that_the_schema_lacks_is_refused_and_one_full_of_nulls_is_not(tmp_path: Path) -> None:
    table = pa.table({"prompt": ["a"], "gold": pa.array([None], pa.string())})
    (row,) = parquet(tmp_path / "x.parquet", table, reference="gold").rows()
    assert row.item is not None
    assert row.item.reference is None
    with pytest.raises(UsageError, match=r"no column 'glod' .*did you mean 'gold'"):
        list(parquet(tmp_path / "x.parquet", table, reference="glod").rows())


def test_a_table_without_any_prompt_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"it has 'text'.*`prompts.prompt`"):
        list(parquet(tmp_path / "x.parquet", pa.table({"text": ["a"]})).rows())


def test_a_file_that_is_no_parquet_is_refused_with_the_cause(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_text('{"prompt": "a"}\n')
    with pytest.raises(UsageError, match=r"x.parquet' cannot be read: ArrowInvalid: Parquet magic bytes") as told:
        list(open_source(Prompts(path=str(path)), CONTROL_TOKENS).rows())
    assert told.value.__cause__ is not None


def test_a_saved_data_set_is_read_whatever_format_it_was_saved_with(tmp_path: Path) -> None:
    saved = datasets.Dataset.from_list([{"prompt": f"p{i}", "answer": i, "none": None} for i in range(300)])
    saved.with_format("numpy").save_to_disk(str(tmp_path / "saved"))
    source = open_source(Prompts(path=str(tmp_path / "saved")), CONTROL_TOKENS)
    rows = list(source.rows())
    assert items(rows) == [f"p{i}" for i in range(300)]
    assert [row.item.reference for row in rows[:2] if row.item] == ["0", "1"]
    assert rows[0].item is not None
    assert rows[0].item.columns == {}
    assert list(source.rows()) == rows


def test_a_split_is_chosen_and_a_wrong_one_names_those_that_exist(tmp_path: Path) -> None:
    place = str(tmp_path / "saved")
    parts = {name: datasets.Dataset.from_dict({"prompt": [name]}) for name in ("train", "test")}
    datasets.DatasetDict(parts).save_to_disk(place)
    hashes = set()
    for name in parts:
        source = open_source(Prompts(path=place, split=name, format="datasets"), CONTROL_TOKENS)
        assert items(list(source.rows())) == [name]
        hashes.add(source.hash())
    assert len(hashes) == 2
    with pytest.raises(UsageError, match=r"no split 'tests'; did you mean 'test'"):
        open_source(Prompts(path=place, split="tests"), CONTROL_TOKENS)


def test_a_folder_of_data_files_is_a_data_set_and_its_stamp_sees_a_change(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    source = open_source(Prompts(path=str(folder)), CONTROL_TOKENS)
    assert items(list(source.rows())) == ["a", "b"]
    as_hub = open_source(Prompts(path=f"hf:{folder}"), CONTROL_TOKENS)
    assert items(list(as_hub.rows())) == ["a", "b"]
    again = open_source(Prompts(path=str(folder)), CONTROL_TOKENS)
    assert (source.stamp(), source.hash()) == (again.stamp(), again.hash())
    (folder / "train.jsonl").write_text('{"prompt": "a"}\n{"prompt": "changed"}\n')
    changed = open_source(Prompts(path=str(folder)), CONTROL_TOKENS)
    assert changed.stamp() != source.stamp()


def test_a_folder_that_is_no_data_set_is_refused_with_the_cause(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be read: \w+: "):
        open_source(Prompts(path=str(tmp_path)), CONTROL_TOKENS)


def test_the_hash_of_a_data_set_is_of_its_rows_and_not_of_its_files(tmp_path: Path) -> None:
    made = []
    for name, texts in (("one", ["a", "b"]), ("two", ["a", "b"]), ("three", ["a", "c"])):
        datasets.Dataset.from_dict({"prompt": texts}).save_to_disk(str(tmp_path / name))
        made.append(open_source(Prompts(path=str(tmp_path / name)), CONTROL_TOKENS).hash())
    assert made[0] == made[1] != made[2]


def test_a_large_file_is_read_in_constant_memory(tmp_path: Path) -> None:
    texts = [str(i) * 1000 for i in range(5_000)]
    pq.write_table(pa.table({"prompt": texts}), tmp_path / "x.parquet", row_group_size=500)
    n_chars = sum(map(len, texts))
    source = open_source(Prompts(path=str(tmp_path / "x.parquet")), CONTROL_TOKENS)
    tracemalloc.start()
    assert sum(row.item is not None for row in source.rows()) == len(texts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < n_chars / 4
