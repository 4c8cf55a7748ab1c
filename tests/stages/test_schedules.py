"""The property of `needed` on the real engine and a real ledger: luck and settings change no content and no file."""

from __future__ import annotations

import importlib.util
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import orjson
import pytest

from prefsmith.job import run_job
from prefsmith.ledger.ledger import Ledger
from prefsmith.ledger.verify import verify
from prefsmith.recipe import Recipe

SOAK = Path(__file__).resolve().parents[2] / "bench" / "soak.py"
FAKE = {"duplicates": 0.2, "truncated": 0.1, "chars": 80}


def soak() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prefsmith_soak", SOAK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def use(name: str, model: str) -> dict[str, str]:
    return {"use": name, "model": f"jury:{model}"}


JUDGES: dict[str, list[Any]] = {
    "one after the other": ["contains", use("rubric-help", "a"), use("rubric-reference", "b")],
    "juries": [
        {"panel": ["contains", use("checklist-help", "a"), use("rubric-reference", "b")], "rule": "majority"},
        {"cascade": [use("quick-help", "a"), use("listwise-help", "b")], "below": 0.9},
        {"panel": [use("pairwise-help", "a"), use("pairwise-help", "b")], "tournament": "minmax"},
    ],
}


def recipe(path: Path, farm: dict[str, Any], jury: dict[str, Any], judges: str, **more: Any) -> Recipe:
    """Several stages, confirmed; two items of most prompts."""
    jury = {**jury, "script": {**jury["script"], "unparseable": 0.25}}
    return Recipe.model_validate(
        {
            "prompts": {"path": str(path)},
            "endpoints": {"farm": farm, "jury": jury},
            "sample": {"model": "farm:fake", "temperature": [0.3, 1.0], "n": 3},
            "judge": [*JUDGES[judges], {"confirm": "pairwise-help", "model": "jury:a"}],
            "pair": {"max_per_prompt": 2, "min_margin": 0.3},
            "export": ["trl", "openai", "parquet"],
            "max_no_verdict": 1,
            **more,
        }
    )


def endpoint(luck: Random, **more: Any) -> dict[str, Any]:
    script = {**FAKE, "latency_s": luck.choice([0, 0.001, 0.003]), "n_ignored": luck.random() < 0.3, **more}
    return {"script": script, "limits": {"concurrency": luck.choice([1, 3, 16])}, "n_per_request": luck.randint(1, 4)}


def held(folder: Path) -> tuple[dict[str, str], dict[str, bytes]]:
    top = folder / "export"
    with closing(sqlite3.connect(folder / "ledger.db")) as db:
        content: dict[str, str] = soak().content_digests(db)
    with Ledger.read(folder) as ledger:
        assert list(verify(ledger)) == []
    return content, {p.relative_to(top).as_posix(): p.read_bytes() for p in sorted(top.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module", params=JUDGES)
def plain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Any]:
    folder = tmp_path_factory.mktemp("plain")
    lines = ({"question": f"Say {i // 5 * 2 + i % 2}.", "answer": f"quality={i % 4}"} for i in range(30))
    (folder / "p.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))
    calm = {"script": FAKE, "limits": {"concurrency": 8}, "n_per_request": 3}
    assert run_job(recipe(folder / "p.jsonl", calm, calm, request.param), folder / "out", say=lambda _: None) == 0
    return folder / "p.jsonl", request.param, held(folder / "out")


@pytest.mark.parametrize("seed", range(5))
def test_sessions_of_every_kind_end_in_the_same_content_and_files(
    seed: int, plain: tuple[Path, str, Any], tmp_path: Path
) -> None:
    luck, (path, judges, expected) = Random(seed), plain
    for _ in range(luck.randint(1, 3)):
        # One attempt for each call, some of which fail: the session owes them, and what waits for them.
        faulty = [endpoint(luck, faults=luck.choice([0.2, 0.7])) for _ in range(2)]
        what = recipe(path, *faulty, judges, attempts=1, window=luck.choice([1, 4, 512]))
        assert run_job(what, tmp_path / "out", say=lambda _: None) == 5
    last = recipe(path, endpoint(luck), endpoint(luck), judges, window=luck.choice([1, 4, 512]))
    assert run_job(last, tmp_path / "out", say=lambda _: None) == 0
    assert held(tmp_path / "out") == expected
