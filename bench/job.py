"""One step of prefsmith in a process of its own: `python bench/job.py STEP RECIPE FOLDER [ARGUMENT]`.

Its last line is JSON: CPU-seconds of the step with imports done (`cpu_s`; `loop_cpu_s` of it in the main thread), the
most memory that the process ever held (`hwm_mb`), and what the step counted. The caller knows what the whole process
cost.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from answers import prompt_of
from measure import hwm_mb

import prefsmith.job as job
from prefsmith.explain import explain
from prefsmith.folder import Folder
from prefsmith.handoff import export_into
from prefsmith.judging.leaf import ModelJudge
from prefsmith.ledger.ingest import ingest
from prefsmith.ledger.ledger import Ledger
from prefsmith.ledger.verify import verify
from prefsmith.recheck import verify_folder
from prefsmith.recipe import Recipe
from prefsmith.records import Item, Prompt, Reply, Request, Sampling
from prefsmith.sources import CONTROL_TOKENS, open_source
from prefsmith.stages.build import resolve
from prefsmith.summary import summary_of

Counted = Mapping[str, Any]


def run(recipe: Recipe, folder: Path, _: str) -> Counted:
    """The real job: source, engine, ledger, files."""
    code = job.run_job(recipe, folder, say=lambda text: print(text, file=sys.stderr))
    if code:
        raise SystemExit(code)
    return {}


def plan(recipe: Recipe, folder: Path, n_tried: str) -> Counted:
    """`prefsmith plan --try N`."""
    planned = job.plan_job(recipe, folder, n_tried=int(n_tried), say=lambda text: print(text, file=sys.stderr))
    if planned["exit"]:
        raise SystemExit(planned["exit"])
    return {"planned": planned}


def read(recipe: Recipe, folder: Path, _: str) -> Counted:
    """The source into a fresh ledger, as `run` does it first."""
    with Ledger.create(folder) as ledger:
        source = open_source(recipe.prompts, frozenset(CONTROL_TOKENS))
        try:
            return {"n": ingest(ledger, source, "bench", recipe.prompts.limit).n_items}
        finally:
            source.close()


def export(recipe: Recipe, folder: Path, _: str) -> Counted:
    """The files of a finished run, as `run` writes them last."""
    with Ledger.create(folder) as ledger:
        return {"n": sum(w.n_rows for w in export_into(ledger, folder, recipe.export))}


def fake(recipe: Recipe, folder: Path, n: str) -> Counted:
    """The scripted backend alone: as many requests as `n` prompts have, 64 at a time, judge calls about the very texts
    that it gave. Only sending is counted, and not what makes the requests."""
    del folder
    resolution = resolve(recipe)
    backend = next(iter(resolution.lanes.values())).make()[0].backend
    sample, judge = recipe.sample[0], resolution.judges[0][1]
    spent_s = 0.0

    async def answered(requests: list[Request]) -> list[Reply]:
        nonlocal spent_s
        waiting, replies = iter(enumerate(requests)), dict[int, Reply]()

        async def work() -> None:
            for i, one in waiting:
                replies[i] = await backend.send(one)

        started_s = time.thread_time()
        await asyncio.gather(*(work() for _ in range(64)))
        spent_s += time.thread_time() - started_s
        return [replies[i] for i in range(len(requests))]

    async def ask_all() -> None:
        await backend.open([], 0)
        for first in range(0, int(n), 500):
            items = [
                Item(Prompt(({"role": "user", "content": prompt_of(i)},)), str(i))
                for i in range(first, min(int(n), first + 500))
            ]
            requests = [
                Request("fake", item.prompt.messages, Sampling(temperature=t), sample.n, i)
                for i, item in enumerate(items)
                for t in sample.temperature
            ]
            replies = await answered(requests)
            if isinstance(judge, ModelJudge):
                n_each = len(sample.temperature)
                about = [(items[i // n_each], c.message["content"]) for i, r in enumerate(replies) for c in r.choices]
                await answered([judge.ask(item, [text or ""], i) for i, (item, text) in enumerate(about)])
        await backend.close()

    asyncio.run(ask_all())
    return {"n": int(n), "cpu_s": spent_s}


def check(recipe: Recipe, folder: Path, _: str) -> Counted:
    """The ledger against itself; `n` is the rows of its four large tables."""
    del recipe
    with Ledger.read(folder) as ledger:
        damages = list(verify(ledger))
        counts = {t: _count(ledger, t) for t in ("call", "completion", "verdict", "text")}
    if damages:
        raise SystemExit(damages[0])
    return {"n": sum(counts.values()), **counts}


def recheck(recipe: Recipe, folder: Path, sample: str) -> Counted:
    """The whole `prefsmith verify`, grading up to `sample` verdicts again."""
    del recipe
    found = verify_folder(folder, int(sample))
    if found.damages:
        raise SystemExit(found.damages[0])
    return {"lines": list(found.lines)}


def life(recipe: Recipe, folder: Path, ident: str) -> Counted:
    """`prefsmith explain FOLDER IDENT`."""
    del recipe
    return {"n": len(explain(folder, ident)["calls"])}


def pairs(recipe: Recipe, folder: Path, _: str) -> Counted:
    """Every record of the view, with its pairs, out of the ledger."""
    del recipe
    n = n_pairs = 0
    with Folder(folder) as run:
        for record in run.records():
            n += 1
            n_pairs += len(record.pairs)
    return {"n": n, "n_pairs": n_pairs}


def summary(recipe: Recipe, folder: Path, _: str) -> Counted:
    del recipe
    return {"n": summary_of(folder)["items"]["n"]}


def _count(ledger: Ledger, table: str) -> int:
    return int(ledger.db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


STEPS: Mapping[str, Callable[[Recipe, Path, str], Counted]] = {
    f.__name__: f for f in (run, plan, read, export, fake, check, recheck, life, pairs, summary)
}


def main() -> None:
    step, recipe, folder, argument = (*sys.argv[1:], "")[:4]
    loaded = Recipe.model_validate_json(Path(recipe).read_bytes())
    cpu, loop, wall = time.process_time(), time.thread_time(), time.monotonic()
    counted = STEPS[step](loaded, Path(folder), argument)
    spent = {
        "cpu_s": time.process_time() - cpu,
        "loop_cpu_s": time.thread_time() - loop,
        "wall_s": time.monotonic() - wall,
        "hwm_mb": hwm_mb(),
    }
    print(json.dumps({**spent, **counted}))


if __name__ == "__main__":
    main()
