"""What `prefsmith plan --try N` foretells, beside the run that follows: `python bench/plan.py [--only stub rate …]`.

    stub      64 at a time, answers after a quarter of a second
    rate      the same, and 6,000 requests a minute told in the headers
    embedded  the demo: the bundled model on this machine

A trial of 16 prompts comes first, then one of as many as the plan advises for 15 %, as a user would do. The run is told
by the stub's own account, begun anew after the trials; the embedded one by its ledger. Time is that of the run's
session, from its start to its files; of the embedded model it moves with whatever else the machine does.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from farm import Farm
from measure import JOB, Cost, Row, Served, parser, report, scratch, spent, wrote_prompts, wrote_recipe
from pressure import PRICES, USD_IN, USD_OUT

WITHIN = 15.0
Figures = Mapping[str, float]


class Sizes(NamedTuple):
    prompts: int = 1000
    latency_s: float = 0.25
    rpm: int = 6000
    rpm_prompts: int = 600
    demo_items: int = 300
    tried: int = 16
    demo_tried: int = 48


TINY = Sizes(prompts=80, latency_s=0.05, rpm=12000, rpm_prompts=60, demo_items=30, tried=8, demo_tried=8)
DEMO: dict[str, Any] = {
    "prompts": {"path": "demo:tiny"},
    "sample": [{"model": "embedded:tiny", "temperature": [0.3, 0.7, 1.0, 1.3], "n": 2, "max_tokens": 44}],
    "judge": [{"use": "demo"}],
    "pair": {"strategy": "correct_incorrect"},
}


def over_stub(folder: Path, sizes: Sizes, n: int, **settings: Any) -> list[Row]:
    with Served() as served:
        farm = Farm(folder, served)
        told = {"latency_s": sizes.latency_s, "usd_in": USD_IN, "usd_out": USD_OUT, **settings}
        prompts = wrote_prompts(folder / "prompts.jsonl", n)
        recipe = wrote_recipe(folder / "recipe.json", farm.recipe(prompts, 64, 600.0) | farm.priced(PRICES))
        served.begin(**told)
        planned = foretold(recipe, folder / "run", sizes.tried)
        served.begin(**told)
        spent(JOB, "run", recipe, folder / "run")
        stats = served.stats()
    ran = {
        "requests": stats["n_requests"],
        "tokens": stats["n_prompt_tokens"] + stats["n_completion_tokens"],
        "USD": stats["usd"],
        "seconds": of_last_session(folder / "run")["seconds"],
    }
    return list(beside(f"{n:,} prompts", planned, ran))


def embedded(folder: Path, sizes: Sizes) -> list[Row]:
    demo = {**DEMO, "prompts": {**DEMO["prompts"], "limit": sizes.demo_items}}
    recipe = wrote_recipe(folder / "recipe.json", demo)
    planned = foretold(recipe, folder / "run", sizes.demo_tried)
    spent(JOB, "run", recipe, folder / "run")
    return list(beside(f"demo, {sizes.demo_items} items", planned, of_last_session(folder / "run")))


def foretold(recipe: Path, folder: Path, n: int) -> Any:
    planned = spent(JOB, "plan", recipe, folder, str(n)).said["planned"]
    if more := planned["trial_advised"]:
        planned = spent(JOB, "plan", recipe, folder, str(more["prompts"])).said["planned"]
    return planned


def of_last_session(folder: Path) -> Figures:
    with closing(sqlite3.connect(folder / "ledger.db")) as db:
        session, seconds = db.execute("SELECT id, t_end - t_start FROM session ORDER BY id DESC LIMIT 1").fetchone()
        n, tokens = db.execute(
            "SELECT count(*), sum(n_prompt_tokens + n_completion_tokens) FROM call WHERE session = ?", (session,)
        ).fetchone()
    return {"requests": n, "tokens": tokens, "seconds": seconds}


def beside(what: str, planned: Any, ran: Figures) -> Iterator[Row]:
    total = planned["total"]
    told = {
        "requests": total["requests"],
        "tokens": total["prompt_tokens"] + total["answer_tokens"],
        "USD": total["usd"],
        "seconds": total["seconds"],
    }
    sure = {"requests": total["requests_off"], "tokens": total["tokens_off"], "USD": total["usd_off"], "seconds": None}
    yield Row(f"{what}: finished by trials", planned["prompts_finished"], "prompts")
    for name, value in ran.items():
        yield Row(f"{what}: {name}, foretold", told[name], "")
        yield Row(f"{what}: {name}, of the run", value, "")
        yield Row(f"{what}: {name}, off by", 100 * abs(told[name] / value - 1), "%", WITHIN)
        if sure[name]:
            yield Row(f"{what}: {name}, off by what the plan said at most", 100 * sure[name], "%")


def median(same: Sequence[Row]) -> Row:
    """One line of several tables; of how far a forecast was off, the median of that."""
    values = [row.value for row in same if not isinstance(row.value, Cost)]
    return same[0]._replace(value=statistics.median(values))


def main() -> int:
    sections: dict[str, Callable[[Path, Sizes], list[Row]]] = {
        "stub": lambda folder, sizes: over_stub(folder, sizes, sizes.prompts),
        "rate": lambda folder, sizes: over_stub(folder, sizes, sizes.rpm_prompts, rpm=sizes.rpm),
        "embedded": embedded,
    }
    arguments = parser(__doc__)
    arguments.add_argument("--only", nargs="+", choices=tuple(sections), default=list(sections))
    arguments.add_argument("--tried", type=int, help="prompts of the first trial (default 16; of the demo 48)")
    arguments.add_argument("--tiny", action="store_true", help="sizes at which the figures mean nothing, for the tests")
    args = arguments.parse_args()
    for name in args.only:
        started = time.monotonic()
        sizes = TINY if args.tiny else Sizes()
        if args.tried:
            sizes = sizes._replace(tried=args.tried, demo_tried=args.tried)
        found: dict[str, list[Row]] = {}
        for _ in range(args.repeat):
            with scratch() as folder:
                for row in sections[name](folder, sizes):
                    found.setdefault(row.what, []).append(row)
        rows = [median(same) for same in found.values()]
        report(f"bench/plan.py --only {name} --repeat {args.repeat}", rows, time.monotonic() - started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
