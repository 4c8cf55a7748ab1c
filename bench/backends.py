"""Ours and what people write, over one loopback stub: `python bench/backends.py [--only cpu limits ...] [--repeat N]`.

    cpu      CPU a request at 64 and 256 at a time
    slots    1,024 and 4,096 at a time, memory, slots in use
    limits   a known rate, a hidden one, heavy requests between light ones
    faults   429, 500, resets, hangs and unusable answers
    storm    nothing but 429 for a while; nobody listening for a while
    budget   a cap, undisturbed and with a kill

Each program runs in a process of its own; the stub's CPU is counted for nobody. Times are CPU and raw: compare them
with each other, within one run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import NamedTuple

import pressure
from audit import mean_in_flight
from farm import OURS, SCRIPTS, Farm
from measure import Row, Served, Spent, parser, report, scratch
from stub import many_files


class Sizes(NamedTuple):
    cpu_prompts: int = 1500
    at_a_time: tuple[tuple[int, float], ...] = ((64, 0.05), (256, 0.2))
    """So many slots, and the mean latency."""
    many: tuple[int, ...] = (1024, 4096)
    few_prompts: int = 1000
    most_prompts: int = 4000
    slots_prompts: int = 1200
    rpm: int = 1200
    rpm_prompts: int = 480
    hidden: int = 16
    hidden_prompts: int = 500
    tpm: int = 600_000
    heavy_prompts: int = 330
    fault_prompts: int = 4000
    calm_s: float = 5.0
    storm_s: float = 20.0
    outage_s: float = 30.0
    storm_prompts: int = 1000
    budget_prompts: int = 2000
    budget_slots: int = 1000
    capped_requests: int = 5000


TINY = Sizes(
    cpu_prompts=20, at_a_time=((64, 0.05),), many=(64,), few_prompts=20, most_prompts=40, slots_prompts=40,
    rpm=6000, rpm_prompts=20, hidden=8, hidden_prompts=20, tpm=6_000_000, heavy_prompts=44, fault_prompts=20,
    calm_s=0.5, storm_s=0.5, outage_s=0.5, storm_prompts=80, budget_prompts=60, budget_slots=20, capped_requests=100,
)  # fmt: skip
CPU_GOAL = 0.5
STATIC_GOAL = 0.3
MEMORY_MB, GROWTH_MB, IN_FLIGHT = 100.0, 1.0, 90.0


def cpu(farm: Farm, sizes: Sizes, repeat: int) -> list[Row]:
    """Rounds of every program, less what each costs with one prompt; ratios are taken within a round."""
    who = (OURS, *SCRIPTS)
    rounds: list[dict[tuple[str, int], float]] = []
    for _ in range(repeat):
        one = {w: farm.ran(w, 1, 64, latency_s=0.05).spent.cpu_s for w in who}
        us: dict[tuple[str, int], float] = {}
        for slots, latency_s in sizes.at_a_time:
            for w in who:
                ran = farm.ran(w, sizes.cpu_prompts, slots, latency_s=latency_s)
                us[w, slots] = (ran.spent.cpu_s - one[w]) / ran.needed * 1e6
        rounds.append(us)
    rows = []
    for slots, _ in sizes.at_a_time:
        for w in (*SCRIPTS, OURS):
            named = SCRIPTS.get(w, f"{OURS}, ledger and pairs included")
            rows.append(Row(f"{slots} at a time: {named}", median(us[w, slots] for us in rounds), "µs a request"))
        for goal, said in ((CPU_GOAL, ""), (STATIC_GOAL, " (goal with a static key)")):
            ratio = median(us[OURS, slots] / us["sdk-aio", slots] for us in rounds)
            rows.append(Row(f"{slots} at a time: {OURS} / the script with aiohttp{said}", ratio, "x", goal))
        ratio = median(us[OURS, slots] / us["sdk", slots] for us in rounds)
        rows.append(Row(f"{slots} at a time: {OURS} / the usual script", ratio, "x"))
    return rows


def many(farm: Farm, sizes: Sizes) -> list[Row]:
    """So many at a time, and answers slow enough that all of them are."""
    rows = []
    for slots in sizes.many:
        for who in (OURS, "sdk-aio") if slots > 1024 else (OURS, "sdk", "sdk-aio"):
            ran = farm.ran(who, slots // 2, slots, latency_s=slots / 800, spread=0.1)
            what = f"{slots:,} at a time, {SCRIPTS.get(who, who)}"
            rows += pressure.kept(ran, what)[:1]
            rows.append(Row(f"{what}: most in flight", ran.stats["peak_in_flight"], ""))
    return rows


def memory(farm: Farm, sizes: Sizes) -> list[Row]:
    def most(who: str, n: int) -> float:
        return _hwm_mb(farm.ran(who, n, 256, latency_s=0.2).spent)

    few, lots = most(OURS, sizes.few_prompts), most(OURS, sizes.most_prompts)
    more = (lots - few) / (sizes.most_prompts - sizes.few_prompts) * 1000
    return [
        Row(f"memory at 256 at a time, {sizes.few_prompts:,} prompts: {OURS}", few, "MB", MEMORY_MB),
        Row(f"memory, {OURS}: growth to {sizes.most_prompts:,}", more, "MB per 1,000 prompts", GROWTH_MB),
        *(
            Row(
                f"memory at 256 at a time, {sizes.few_prompts:,} prompts: {SCRIPTS[w]}",
                most(w, sizes.few_prompts),
                "MB",
            )
            for w in ("sdk", "sdk-aio")
        ),
    ]


def in_use(farm: Farm, sizes: Sizes) -> list[Row]:
    """Of samples: ours may have as many requests to the judge in flight besides, since a limit is a model's."""
    rows = []
    for who in (OURS, "sdk", "sdk-aio"):
        ran = farm.ran(who, sizes.slots_prompts, 64, latency_s=pressure.LATENCY_S)
        used = mean_in_flight(ran.entries(), "sample") if ran.ours else ran.stats["mean_in_flight"]
        goal = IN_FLIGHT if who == OURS else None
        what = f"64 allowed, {SCRIPTS.get(who, who)}: mean in flight / allowed"
        rows.append(Row(what, 100 * used / 64, "%", goal, True))
    return rows


def _hwm_mb(one: Spent) -> float:
    return float(one.said["hwm_mb"])


def main() -> int:
    sections: dict[str, Callable[[Farm, Sizes], Sequence[Row]]] = {
        "cpu": lambda farm, sizes: cpu(farm, sizes, args.repeat),
        "slots": lambda farm, sizes: [*many(farm, sizes), *memory(farm, sizes), *in_use(farm, sizes)],
        "limits": pressure.limits,
        "faults": pressure.faults,
        "storm": pressure.storm,
        "budget": pressure.budget,
    }
    arguments = parser(__doc__)
    arguments.add_argument("--only", nargs="+", choices=tuple(sections), default=list(sections))
    arguments.add_argument("--tiny", action="store_true", help="sizes at which the figures mean nothing, for the tests")
    args = arguments.parse_args()
    many_files()
    for name in args.only:
        started = time.monotonic()
        with scratch() as folder, Served() as served:
            rows = sections[name](Farm(folder, served), TINY if args.tiny else Sizes())
        report(f"bench/backends.py --only {name}", rows, time.monotonic() - started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
