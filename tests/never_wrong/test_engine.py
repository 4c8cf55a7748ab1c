"""Rows of the gallery that belong to the engine: what another tool got wrong, and cannot happen here."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from prefsmith.folder import Folder
from prefsmith.job import run_job
from prefsmith.recipe import Recipe

RUBRIC = {"use": "rubric-help", "model": "jury:fake"}


def recipe(folder: Path, n_prompts: int, script: dict[str, Any], **more: Any) -> Recipe:
    lines = ({"question": f"Say {i}.", "answer": "quality=7"} for i in range(n_prompts))
    (folder / "prompts.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    shape = {
        "script": {"log": str(folder / "log"), **script},
        "limits": {"concurrency": 32},
        "n_per_request": more.pop("per", 2),
    }
    sample = {"model": "farm:fake", "temperature": [0.4, 1.0], "n": more.pop("n", 2)}
    whole = {"endpoints": {"farm": shape, "jury": shape}, "sample": sample, "judge": [RUBRIC], **more}
    return Recipe.model_validate({"prompts": {"path": str(folder / "prompts.jsonl")}, **whole})


def ran(folder: Path, what: Recipe) -> dict[str, bytes]:
    assert run_job(what, folder / "out", say=lambda _: None) == 0
    top = folder / "out" / "export"
    return {p.name: p.read_bytes() for p in sorted(top.rglob("*")) if p.is_file()}


def count(folder: Path, sql: str) -> int:
    with closing(sqlite3.connect(folder / "out" / "ledger.db")) as db:
        return int(db.execute(f"SELECT coalesce({sql}").fetchone()[0])


def test_requests_are_in_flight_together(tmp_path: Path) -> None:
    """10: "concurrent" requests were awaited one by one."""
    what = recipe(tmp_path, 64, {"latency_s": 0.05}, judge={"use": "contains", "text": "quality=7"})
    started = time.monotonic()
    ran(tmp_path, what)
    waited_s = count(tmp_path, "sum(wall_s), 0) FROM call")
    assert waited_s > 4 and time.monotonic() - started < waited_s / 2


def test_prompts_in_are_items_with_a_pair_and_items_with_a_reason(tmp_path: Path) -> None:
    """12: tail rows were dropped by a division."""
    what = recipe(
        tmp_path, 131, {"truncated": 0.5, "duplicates": 0.5, "unparseable": 0.3, "chars": 30}, max_no_verdict=1
    )
    ran(tmp_path, what)
    with Folder(tmp_path / "out") as folder:
        reasons = Counter("pair" if r.pairs else str(r.reason) for r in folder.records())
    assert reasons.total() == 131 and len(reasons) >= 3 and "None" not in reasons
    # Asked = completions + final + owed: nothing was asked that is not accounted for.
    assert count(tmp_path, "sum(json_array_length(unit, '$.idx')), 0) FROM call WHERE sampler IS NOT NULL") == 524
    assert count(tmp_path, "count(*), 0) FROM completion") == 524


def test_failures_on_the_way_cost_no_row_and_change_no_file(tmp_path: Path) -> None:
    """13: zero rows under sustained 429; retries read only after the whole first pass."""
    calm, rough = tmp_path / "calm", tmp_path / "rough"
    calm.mkdir()
    rough.mkdir()
    assert ran(calm, recipe(calm, 8, {})) == ran(rough, recipe(rough, 8, {"faults": 1.0}))
    limited = "sum(value), 0) FROM counter WHERE name LIKE 'http.429.%'"
    assert count(calm, limited) == 0 < count(rough, limited)
    assert count(rough, "count(*), 0) FROM call WHERE reason = 'rate_limited'") == 0


def test_an_n_that_is_ignored_and_one_for_each_request_give_the_same_files(tmp_path: Path) -> None:
    """23: n ignored, or usage counted for one choice of n."""
    found, tokens = [], set()
    for name, script, per in (("one", {}, 1), ("four", {}, 4), ("ignored", {"n_ignored": True}, 4)):
        (tmp_path / name).mkdir()
        found.append(ran(tmp_path / name, recipe(tmp_path / name, 10, script, per=per, n=4)))
        tokens.add(count(tmp_path / name, "sum(n_tokens), 0) FROM completion"))
        asked = count(tmp_path / name, "sum(n_completion_tokens), 0) FROM call WHERE sampler IS NOT NULL")
        assert asked in tokens
    assert found[0] == found[1] == found[2] and len(tokens) == 1
