"""What the engine costs a prompt: `python bench/engine.py [--prompts N] [--http N] [--repeat N]`.

The whole job in a process of its own, from the source to the exported file, less what it costs with one prompt. The
model is the scripted fake: (a) 4 requests (4 temperatures, n = 2), 8 completions of 240 bytes, 8 verdicts of a grader;
(b) 8 calls of a rubric judge instead. Beside it, over a loopback server whose CPU is not counted: the script that
people write by themselves, and the same job of ours.
"""

from __future__ import annotations

import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measure import (
    HERE,
    JOB,
    Row,
    Spent,
    Yardstick,
    parser,
    reaped,
    report,
    scratch,
    spend,
    start,
    wrote_prompts,
    wrote_recipe,
)
from reference import TEMPERATURES, WORD, N

GOAL_US = {"a": 300.0, "b": 450.0}
CALLS = {"a": len(TEMPERATURES), "b": len(TEMPERATURES) * (1 + N)}
SAID = {
    "a": "4 requests, 8 completions, 8 verdicts of a grader",
    "b": "4 requests, 8 completions, 8 calls of a rubric judge",
}


def recipe_of(case: str, prompts: Path, url: str | None = None) -> dict[str, Any]:
    """`url`: a server instead of the fake."""
    endpoint: dict[str, Any] = {"script": {"chars": 240}} if url is None else {"urls": [url]}
    judge = {"use": "contains", "text": WORD} if case == "a" else {"use": "rubric-help", "model": "jury:fake"}
    return {
        "prompts": {"path": str(prompts)},
        "endpoints": {"farm": endpoint, "jury": endpoint},
        "sample": [{"model": "farm:fake", "temperature": list(TEMPERATURES), "n": N}],
        "judge": [judge],
        "export": ["trl"],
    }


class Place:
    """The scratch folder of the bench: prompts of two sizes, recipes, and a new folder for each run."""

    def __init__(self, folder: Path, n: int) -> None:
        self._folder, self._n_runs = folder, 0
        self.many = wrote_prompts(folder / "many.jsonl", n)
        self.one = wrote_prompts(folder / "one.jsonl", 1)

    def recipe(self, case: str, prompts: Path, url: str | None = None) -> Path:
        name = f"{case}-{prompts.stem}-{'fake' if url is None else 'http'}.json"
        return wrote_recipe(self._folder / name, recipe_of(case, prompts, url))

    def fresh(self) -> Path:
        self._n_runs += 1
        return self._folder / f"run-{self._n_runs}"


def spent(place: Place, case: str, repeat: int, prompts: Path, url: str | None = None) -> list[Spent]:
    recipe = place.recipe(case, prompts, url)
    return [spend(JOB, "run", recipe, place.fresh()) for _ in range(repeat)]


def step_s(place: Place, step: str, case: str, repeat: int, n: int) -> float:
    """CPU-seconds of one step alone, less what it costs with one prompt."""
    found = []
    for prompts, argument in ((place.many, n), (place.one, 1)):
        recipe, folder = place.recipe(case, prompts), place.fresh()
        if step == "export":
            spend(JOB, "run", recipe, folder)
        places = (folder if step == "export" else place.fresh() for _ in range(repeat))
        found.append(statistics.median(spend(JOB, step, recipe, p, str(argument)).said["cpu_s"] for p in places))
    return found[0] - found[1]


def engine_rows(place: Place, case: str, n: int, repeat: int, yardstick: Yardstick) -> list[Row]:
    fixed = spent(place, case, repeat, place.one)
    yardstick.take()
    runs = spent(place, case, repeat, place.many)
    yardstick.take()

    def each_us(cost: Callable[[Spent], float]) -> float:
        return (statistics.median(map(cost, runs)) - statistics.median(map(cost, fixed))) / n * 1e6

    loop, threads = each_us(lambda s: s.said["loop_cpu_s"]), each_us(lambda s: s.said["cpu_s"] - s.said["loop_cpu_s"])
    rows = [
        Row(f"({case}) {SAID[case]}", each_us(lambda s: s.cpu_s), "µs a prompt", GOAL_US[case]),
        Row(f"({case}) of it the ledger's writer", threads, "µs a prompt"),
        Row(f"({case}) of it the main thread", loop, "µs a prompt"),
    ]
    steps = {"read": "reading the source", "export": "writing the file"}
    for step, name in {**steps, "fake": "the fake's answers"}.items() if case == "a" else steps.items():
        row_us = step_s(place, step, case, repeat, n) / n * 1e6
        rows.append(Row(f"({case}) of the main thread {name}", row_us, "µs a prompt"))
        yardstick.take()
    return [*rows, Row(f"({case}) start-up, taken off", statistics.median(s.cpu_s for s in fixed), "CPU-s")]


@contextmanager
def server() -> Iterator[tuple[str, list[float]]]:
    """A loopback server: its base URL, and a list that gets its CPU-seconds at the end."""
    cpu_s: list[float] = []
    child = start(HERE / "reference.py", "serve")
    assert child.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(child.stdout.readline())}/v1", cpu_s
    finally:
        child.send_signal(signal.SIGTERM)
        cpu_s.append(reaped(child))


def reference_rows(place: Place, case: str, n: int, repeat: int, yardstick: Yardstick) -> list[Row]:
    judged = "judged" if case == "b" else "graded"
    with server() as (url, cpu_s):
        script = [HERE / "reference.py", "ask", url, place.many]
        fixed = statistics.median(spend(*script, "1", judged).cpu_s for _ in range(repeat))
        theirs = statistics.median(spend(*script, str(n), judged).cpu_s for _ in range(repeat)) - fixed
        yardstick.take()
        some = wrote_prompts(place.many.with_name("http.jsonl"), n)
        more, less = (statistics.median(s.cpu_s for s in spent(place, case, repeat, p, url)) for p in (some, place.one))
        ours = more - less
        yardstick.take()
    n_asked = n * CALLS[case]
    rows = []
    for who, took_s in (("usual script over HTTP", theirs), ("prefsmith over HTTP", ours)):
        rows.append(Row(f"({case}) {who}", took_s / n * 1e6, "µs a prompt"))
        rows.append(Row(f"({case}) {who}", took_s / n_asked * 1e6, "µs a request"))
    each = cpu_s[0] / (2 * repeat * (n_asked + CALLS[case])) * 1e6
    return [*rows, Row(f"({case}) the server, not counted", each, "µs a request")]


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--prompts", type=int, default=5_000, help="prompts of the scripted runs")
    arguments.add_argument("--http", type=int, default=500, help="prompts of the runs over HTTP; 0 leaves them out")
    args = arguments.parse_args()
    started, yardstick, rows = time.monotonic(), Yardstick(), list[Row]()
    with scratch() as folder:
        place = Place(folder, max(args.prompts, args.http))
        for case in ("a", "b"):
            rows += engine_rows(place, case, args.prompts, args.repeat, yardstick)
            if args.http:
                rows += reference_rows(place, case, args.http, args.repeat, yardstick)
    title = f"bench/engine.py, {args.prompts:,} prompts, over HTTP {args.http:,}, median of {args.repeat}"
    report(title, rows, yardstick, time.monotonic() - started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
