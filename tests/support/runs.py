"""Small runs over the scripted backend, and what is left of them: for tests of the engine and what is around it."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import yaml

from prefsmith.abilities import Pool
from prefsmith.backends.scripted import Scripted
from prefsmith.engine import Settings
from prefsmith.ledger.ids import digest
from prefsmith.ledger.ingest import ingest
from prefsmith.ledger.ledger import Ledger
from prefsmith.recipe import Recipe
from prefsmith.records import Reply, Request
from prefsmith.session import session
from prefsmith.sources import open_source
from prefsmith.stages.build import bind, described, resolve
from prefsmith.stages.view import View

MARK = {"use": "contains", "text": "quality=7"}
RUBRIC = {"use": "rubric-help", "model": "jury:fake"}


def described_run(folder: Path, n: int = 20, judge: Any = MARK, **more: Any) -> dict[str, Any]:
    """`n` prompts, two temperatures, n = 2. `farm` and `jury`: their scripts; other words are the recipe's."""
    path = folder / "prompts.jsonl"
    path.write_bytes(b"".join(orjson.dumps({"question": f"Say {i}."}) + b"\n" for i in range(n)))
    log = {"log": str(folder / "log")}
    shape = {"limits": {"concurrency": 8}, "n_per_request": 2}
    endpoints = {name: {"script": {**log, **more.pop(name, {})}, **shape} for name in ("farm", "jury")}
    sample = {"model": "farm:fake", "temperature": [0.4, 1.0], "n": 2}
    return {"prompts": {"path": str(path)}, "endpoints": endpoints, "sample": sample, "judge": judge, **more}


def recipe(folder: Path, n: int = 20, judge: Any = MARK, **more: Any) -> Recipe:
    return Recipe.model_validate(described_run(folder, n, judge, **more))


def logged(folder: Path) -> list[dict[str, Any]]:
    log = folder / "log"
    return [orjson.loads(line) for line in log.read_bytes().splitlines()] if log.exists() else []


def started(folder: Path, n_sent: int, **more: Any) -> subprocess.Popen[str]:
    """`prefsmith run` as a process of its own, with so many requests sent."""
    (folder / "recipe.yaml").write_text(yaml.safe_dump(described_run(folder, 400, **more)))
    command = (sys.executable, "-m", "prefsmith", "run", "recipe.yaml", "-o", "out", "--quiet")
    child = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    for _ in range(2000):
        if len(logged(folder)) >= n_sent or child.poll() is not None:
            break
        time.sleep(0.01)
    return child


def rows(folder: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "out" / "ledger.db")) as db:
        return db.execute(sql).fetchall()


def count(folder: Path, sql: str) -> int:
    return int(rows(folder, f"SELECT count(*) FROM {sql}")[0][0])


class Odd(Scripted):
    """A scripted backend with a say in each request: what `meddle` raises goes to the engine."""

    meddle: Callable[[Request], None]

    async def send(self, request: Request) -> Reply:
        reply = await super().send(request)
        self.meddle(request)
        return reply


def directed(folder: Path, what: Recipe, meddle: Callable[[Request], None], said: list[str] | None = None) -> int:
    """A session whose backends are Odd."""
    resolution = resolve(what)
    with Ledger.create(folder / "out") as ledger:
        plan = bind(resolution, ledger)
        source = open_source(what.prompts, frozenset())
        view = View(ingest(ledger, source, "m", None), plan, digest("view", described(plan)))
        source.close()
        ledger.begin_session(ledger.identity("recipe", what.model_dump(mode="json"))[0], "0")
        pools: dict[str, Pool] = {}
        for key, lane in resolution.lanes.items():
            name = lane.endpoint_name
            script = what.endpoints[name].script
            assert script is not None
            odd = Odd(target=name, endpoint=name, script=script, capabilities=lane.capabilities)
            odd.meddle = meddle
            pools[key] = Pool(((odd, 1.0),))
        chosen = Settings(what.window, what.attempts, what.grace_s, what.max_no_verdict, what.patience_s)
        return asyncio.run(session(ledger, view, pools, chosen, None, (said if said is not None else []).append))
