"""What the engine costs a prompt: `python bench/engine.py [--prompts N] [--http N] [--repeat N]`.

The whole job in a process of its own, from the source to the exported file, less what it costs with one prompt. The
model is the scripted fake: (a) 4 requests (4 temperatures, n = 2), 8 completions of 240 bytes, 8 verdicts of a grader;
(b) 8 calls of a rubric judge instead. Beside it, over a loopback server whose CPU is not counted: the script that
people write by themselves, and the same job of ours.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from measure import (
    HERE,
    JOB,
    Cost,
    Row,
    Spent,
    Yardstick,
    median,
    parser,
    reaped,
    report,
    scratch,
    start,
    step,
    whole,
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
        self.finished: dict[tuple[str, Path], Path] = {}
        """The last finished run of a case and its prompts."""
        self.many = wrote_prompts(folder / "many.jsonl", n)
        self.one = wrote_prompts(folder / "one.jsonl", 1)

    def recipe(self, case: str, prompts: Path, url: str | None = None) -> Path:
        name = f"{case}-{prompts.stem}-{'fake' if url is None else 'http'}.json"
        return wrote_recipe(self._folder / name, recipe_of(case, prompts, url))

    def fresh(self) -> Path:
        self._n_runs += 1
        return self._folder / f"run-{self._n_runs}"


def runs_of(
    place: Place, case: str, repeat: int, prompts: Path, yard: Yardstick, url: str | None = None
) -> list[Spent]:
    recipe, out = place.recipe(case, prompts, url), []
    for _ in range(repeat):
        place.finished[case, prompts] = folder = place.fresh()
        out.append(yard.spend(JOB, "run", recipe, folder))
    return out


def step_cost(place: Place, name: str, case: str, repeat: int, n: int, yard: Yardstick) -> Cost:
    """One step alone, less what it costs with one prompt."""
    found = []
    for prompts, argument in ((place.many, n), (place.one, 1)):
        recipe, finished = place.recipe(case, prompts), place.finished[case, prompts]
        places = [finished if name == "export" else place.fresh() for _ in range(repeat)]
        found.append(median([yard.spend(JOB, name, recipe, p, str(argument)) for p in places], step))
    return found[0].less(found[1])


def engine_rows(place: Place, case: str, n: int, repeat: int, yard: Yardstick) -> list[Row]:
    fixed = runs_of(place, case, repeat, place.one, yard)
    runs = runs_of(place, case, repeat, place.many, yard)

    def each_us(cost_s: Callable[[Spent], float]) -> Cost:
        return median(runs, cost_s).less(median(fixed, cost_s)).times(1e6 / n)

    rows = [
        Row(f"({case}) {SAID[case]}", each_us(whole), "µs a prompt", GOAL_US[case]),
        Row(f"({case}) of it the ledger's writer", each_us(lambda s: step(s) - s.said["loop_cpu_s"]), "µs a prompt"),
        Row(f"({case}) of it the main thread", each_us(lambda s: s.said["loop_cpu_s"]), "µs a prompt"),
    ]
    steps = {"read": "reading the source", "export": "writing the file"}
    for name, said in {**steps, "fake": "the fake's answers"}.items() if case == "a" else steps.items():
        cost = step_cost(place, name, case, repeat, n, yard).times(1e6 / n)
        rows.append(Row(f"({case}) of the main thread {said}", cost, "µs a prompt"))
    return [*rows, Row(f"({case}) start-up, taken off", median(fixed), "CPU-s")]


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


def reference_rows(place: Place, case: str, n: int, repeat: int, yard: Yardstick) -> list[Row]:
    judged = "judged" if case == "b" else "graded"
    with server() as (url, cpu_s):
        script: list[str | Path] = [HERE / "reference.py", "ask", url, place.many]
        one, many = (median([yard.spend(*script, str(k), judged) for _ in range(repeat)]) for k in (1, n))
        some = wrote_prompts(place.many.with_name("http.jsonl"), n)
        ours_one, ours = (median(runs_of(place, case, repeat, p, yard, url)) for p in (place.one, some))
    n_asked = n * CALLS[case]
    rows = []
    for who, cost in (("usual script over HTTP", many.less(one)), ("prefsmith over HTTP", ours.less(ours_one))):
        rows.append(Row(f"({case}) {who}", cost.times(1e6 / n), "µs a prompt"))
        rows.append(Row(f"({case}) {who}", cost.times(1e6 / n_asked), "µs a request"))
    each = cpu_s[0] / (2 * repeat * (n_asked + CALLS[case])) * 1e6
    return [*rows, Row(f"({case}) the server, not counted nor scaled", each, "µs a request")]


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--prompts", type=int, default=5_000, help="prompts of the scripted runs")
    arguments.add_argument("--cases", nargs="+", choices=tuple(SAID), default=list(SAID))
    arguments.add_argument("--http", type=int, default=500, help="prompts of the runs over HTTP; 0 leaves them out")
    args = arguments.parse_args()
    started, yardstick, rows = time.monotonic(), Yardstick(), list[Row]()
    with scratch() as folder:
        place = Place(folder, max(args.prompts, args.http))
        for case in args.cases:
            rows += engine_rows(place, case, args.prompts, args.repeat, yardstick)
            if args.http:
                rows += reference_rows(place, case, args.http, args.repeat, yardstick)
    title = f"bench/engine.py, {args.prompts:,} prompts, over HTTP {args.http:,}, median of {args.repeat}"
    report(title, rows, yardstick, time.monotonic() - started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
