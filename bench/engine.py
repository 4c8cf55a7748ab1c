"""What the engine costs a prompt: `python bench/engine.py [--prompts N] [--repeat N] [--script N]`.

The whole job in a process of its own, from the source to the exported file, less what it costs with one prompt; the
engine is that less reading the source and writing the file, each measured alone. The model is the scripted fake: (a) 4
requests (4 temperatures, n = 2), 8 completions of 240 bytes, 8 verdicts of a grader; (b) 8 calls of a rubric judge
instead. The engine is held to its goal twice, with what the fake takes to make up its answers and without: the fake
runs in the same thread, and a real model's answers are made elsewhere. Rounds of all of it alternate with the usual
script, by which it is scaled.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from answers import TEMPERATURES, WORD
from measure import (
    JOB,
    Cost,
    Row,
    Spent,
    Yardstick,
    median,
    parser,
    report,
    scratch,
    step,
    whole,
    wrote_prompts,
    wrote_recipe,
)

N = 2
GOAL_US = {"a": 300.0, "b": 450.0}
SAID = {
    "a": "4 requests, 8 completions, 8 verdicts of a grader",
    "b": "4 requests, 8 completions, 8 calls of a rubric judge",
}


STEPS = {"read": "reading the source", "export": "writing the file", "fake": "the fake's answers"}


def recipe_of(case: str, prompts: Path) -> dict[str, Any]:
    endpoint = {"script": {"chars": 240}}
    judge = {"use": "contains", "text": WORD} if case == "a" else {"use": "rubric-help", "model": "jury:fake"}
    return {
        "prompts": {"path": str(prompts)},
        "endpoints": {"farm": endpoint, "jury": endpoint},
        "sample": [{"model": "farm:fake", "temperature": list(TEMPERATURES), "n": N}],
        "judge": [judge],
        "export": ["trl"],
    }


class Round:
    """Every program of one case once, with many prompts and with one, and the folders that they need."""

    def __init__(self, folder: Path, case: str, n: int, yard: Yardstick) -> None:
        folder.mkdir()
        self.jobs, self.steps = dict[int, Spent](), dict[tuple[str, int], Spent]()
        for k in (1, n):
            recipe = wrote_recipe(folder / f"{k}.json", recipe_of(case, wrote_prompts(folder / f"{k}.jsonl", k)))
            self.jobs[k] = yard.spend(JOB, "run", recipe, folder / f"run-{k}")
            for name in STEPS:
                place = folder / (f"run-{k}" if name == "export" else f"{name}-{k}")
                self.steps[name, k] = yard.spend(JOB, name, recipe, place, str(k))


def rows_of(case: str, rounds: list[Round], n: int) -> list[Row]:
    def each_us(cost_s: Callable[[Spent], float]) -> Cost:
        many, one = (median([r.jobs[k] for r in rounds], cost_s) for k in (n, 1))
        return many.less(one).times(1e6 / n)

    def step_us(name: str) -> Cost:
        many, one = (median([r.steps[name, k] for r in rounds], step) for k in (n, 1))
        return many.less(one).times(1e6 / n)

    job = each_us(whole)
    engine = job.less(step_us("read")).less(step_us("export"))
    rows = [
        Row(f"({case}) the engine: {SAID[case]}", engine, "µs a prompt", GOAL_US[case]),
        Row(
            f"({case}) the engine, the fake's answers apart", engine.less(step_us("fake")), "µs a prompt", GOAL_US[case]
        ),
        Row(f"({case}) the whole job, with its source and its file", job, "µs a prompt"),
        Row(f"({case}) of it the ledger's writer", each_us(lambda s: step(s) - s.said["loop_cpu_s"]), "µs a prompt"),
        Row(f"({case}) of it the main thread", each_us(lambda s: s.said["loop_cpu_s"]), "µs a prompt"),
    ]
    for name in STEPS:
        rows.append(Row(f"({case}) of the main thread {STEPS[name]}", step_us(name), "µs a prompt"))
    return [*rows, Row(f"({case}) start-up, taken off", median([r.jobs[1] for r in rounds]), "CPU-s")]


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--prompts", type=int, default=5_000)
    arguments.add_argument("--cases", nargs="+", choices=tuple(SAID), default=list(SAID))
    args = arguments.parse_args()
    started, rows = time.monotonic(), list[Row]()
    with scratch() as folder:
        yard = Yardstick(folder, args.script)
        for case in args.cases:
            rounds = [Round(folder / f"{case}{i}", case, args.prompts, yard) for i in range(args.repeat)]
            rows += rows_of(case, rounds, args.prompts)
    title = f"bench/engine.py, {args.prompts:,} prompts, median of {args.repeat}"
    report(title, rows, time.monotonic() - started, yard, scaled=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
