"""What `datasets` makes of our files: the same texts, whatever they look like and wherever in the file they stand."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from prefsmith.export import Naming, write
from prefsmith.outcomes import Record

# In a process of its own: the cache folder and the offline switch are read when `datasets` is imported.
LOAD = """
import json, sys
import datasets
datasets.disable_progress_bars()
def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items() if v is not None}
    return [plain(v) for v in value] if isinstance(value, list) else value
for path in sys.argv[1:]:
    rows = datasets.load_dataset(path, split="train")
    keep = [0, 1, 2, len(rows) - 2, len(rows) - 1]
    told = {"n_rows": len(rows), "features": {k: str(v) for k, v in rows.features.items()}}
    print(json.dumps(told | {"rows": {rows[i].get("id", i): plain(rows[i]) for i in keep if 0 <= i < len(rows)}}))
"""


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., list[Any]]:
    def load(*folders: Path) -> list[Any]:
        cache = {"HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "home")}
        done = subprocess.run(
            [sys.executable, "-c", LOAD, *map(str, folders)],
            env={**cache, "HF_HUB_OFFLINE": "1", "PATH": ""},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return [orjson.loads(line) for line in done.stdout.splitlines()]

    return load


def expected(record: Record) -> dict[str, Any]:
    """What a loader must give of a record's messages, in Hugging Face style; null keys count as absent."""

    def told(message: Any) -> dict[str, Any]:
        out = {"role": message["role"], "content": message["content"] or ""}
        return out | {k: message[k] for k in ("tool_calls", "tool_call_id", "name") if message.get(k)}

    (pair,) = record.pairs
    return {
        "prompt": [told(m) for m in record.item.prompt.messages],
        "chosen": [told(record.sample(pair.chosen).message)],
        "rejected": [told(record.sample(pair.rejected).message)],
    }


def messages(row: dict[str, Any]) -> dict[str, Any]:
    return {side: row[side] for side in ("prompt", "chosen", "rejected")}


def test_loaded_texts_are_the_runs_texts(
    gallery: list[Record], names: Naming, tmp_path: Path, load: Callable[..., list[Any]]
) -> None:
    *_, completions = write(gallery, ["trl", "trl-parquet", "parquet"], tmp_path, names)
    *pairs, every = load(tmp_path / "trl", tmp_path / "trl-parquet", tmp_path / "parquet")
    assert every["n_rows"] == completions.n_rows == sum(len(r.samples) for r in gallery)
    assert every["features"]["temperature"] == "Value('float64')" and every["features"]["text"] == "Value('string')"
    for told in pairs:
        kept = [record for record in gallery[:5] if record.pairs]
        assert told["n_rows"] == len(kept)
        assert [messages(row) for row in told["rows"].values()] == [expected(record) for record in kept]


def test_answers_that_are_all_dates_stay_texts(
    record: Callable[..., Record], names: Naming, tmp_path: Path, load: Callable[..., list[Any]]
) -> None:
    records = [record(f"day {i}?", (f"2024-01-0{i}", f"2023-05-0{i} 10:00:00")) for i in range(1, 6)]
    write(records, ["trl", "trl-parquet"], tmp_path, names)
    for told in load(tmp_path / "trl", tmp_path / "trl-parquet"):
        assert [messages(row) for row in told["rows"].values()] == [expected(r) for r in records]


def test_twelve_megabytes_of_plain_rows_and_then_calls_and_fractions_load(
    record: Callable[..., Record],
    tool_gallery: list[Record],
    names: Naming,
    tmp_path: Path,
    load: Callable[..., list[Any]],
) -> None:
    late = [
        record("calls", ("x", "y"), (0.75, 0.5), reference="late", category="new", columns={"deep": {"er": [1]}}),
        *tool_gallery[1:],
    ]

    def records() -> Iterator[Record]:
        for i in range(1200):
            yield record(f"{i} " + "lorem ipsum " * 900, scores=(1, 0))
        yield from late

    write(records(), ["trl", "trl-parquet"], tmp_path, replace(names, has_tools=True))
    assert (tmp_path / "trl" / "train.jsonl").stat().st_size > 12 << 20
    for told in load(tmp_path / "trl", tmp_path / "trl-parquet"):
        assert told["n_rows"] == 1203
        rows = {row["id"].partition("-")[0]: row for row in told["rows"].values()}
        found = [rows[r.id] for r in late if r.id in rows]
        assert len(found) >= 2
        assert [messages(row) for row in found] == [expected(r) for r in late if r.id in rows]
        assert told["features"]["margin"] == "Value('float64')" and told["features"]["tools"] == "Value('string')"
