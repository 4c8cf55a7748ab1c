"""What a verdict costs beside a sampled answer, and how many are lost: `python bench/verdicts.py [--prompts N]`.

The same job twice over the loopback stub: 4 samples a prompt graded by a program, then besides a one-token judge about
each of the 4. The difference is the judge's, its rows in the ledger included. Then the judged job once more over a stub
of which one answer in eight is faulty. Times are CPU of the whole process, raw; the stub's are counted for nobody.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from collections import Counter
from contextlib import closing
from statistics import median
from typing import Any

from answers import JUDGE, MODEL, TEMPERATURES
from farm import OURS, SCRIPTS, Farm, Ran
from measure import Row, Served, parser, report, scratch
from pressure import LATENCY_S, TIMEOUT_S
from stub import many_files

SLOTS = 64
DEARER, LOST = 1.5, 0.5
GRADED: dict[str, Any] = {"judge": [{"use": "contains", "text": "e"}]}
JUDGED: dict[str, Any] = {"judge": [{"use": "quick-help", "model": f"farm:{JUDGE}"}]}


def costs(farm: Farm, n: int, repeat: int) -> list[Row]:
    rounds = []
    for _ in range(repeat):
        alone, plain, judged, script = (
            farm.ran(who, k, SLOTS, latency_s=0.05, recipe=recipe)
            for who, k, recipe in ((OURS, 1, GRADED), (OURS, n, GRADED), (OURS, n, JUDGED), ("sdk", n, {}))
        )
        n_asked = n * len(TEMPERATURES)
        if (asked := judged.stats["n_requests"]) != 2 * n_asked:
            raise SystemExit(f"{asked} requests, expected a verdict for each of {n_asked} samples")
        sample_us = (plain.spent.cpu_s - alone.spent.cpu_s) / n_asked * 1e6
        verdict_us = (judged.spent.cpu_s - plain.spent.cpu_s) / n_asked * 1e6
        script_us = script.spent.said["cpu_s"] / script.stats["n_requests"] * 1e6
        rounds.append((sample_us, verdict_us, script_us, verdict_us / sample_us))
    sample_us, verdict_us, script_us, ratio = (median(one) for one in zip(*rounds, strict=True))
    return [
        Row(f"a sampled answer of {MODEL}, ledger and pairs included", sample_us, "µs"),
        Row(f"a verdict of a one-token judge, {n * len(TEMPERATURES):,} of them", verdict_us, "µs"),
        Row("a verdict / a sampled answer", ratio, "x", DEARER),
        Row("verdicts a core-second", 1e6 / verdict_us, ""),
        Row(f"requests a core-second of {SCRIPTS['sdk']}", 1e6 / script_us, ""),
    ]


def losses(farm: Farm, n: int) -> list[Row]:
    ran = farm.ran(OURS, n, SLOTS, latency_s=LATENCY_S, timeout_s=TIMEOUT_S, faults=3, recipe=JUDGED)
    n_asked, n_scored, reasons = n * len(TEMPERATURES), *_verdicts(ran)
    told = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common()) or "none"
    return [
        Row("faulty answers", 100 * sum(ran.stats["faults"].values()) / (2 * n_asked), "% of needed"),
        Row(f"verdicts lost of {n_asked:,} ({told})", 100 * (n_asked - n_scored) / n_asked, "%", LOST),
        Row("of these without a reason", n_asked - n_scored - reasons.total(), "", 0.0),
    ]


def _verdicts(ran: Ran) -> tuple[int, Counter[str]]:
    """How many texts a score was found for, and why not for others."""
    with closing(sqlite3.connect(f"file:{ran.left / 'ledger.db'}?mode=ro", uri=True)) as db:
        rows = db.execute("SELECT value, reason FROM verdict WHERE call IS NOT NULL OR reason IS NOT NULL").fetchall()
    return sum(value is not None for value, _ in rows), Counter(reason for _, reason in rows if reason is not None)


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--prompts", type=int, default=2500, help="4 verdicts each (default 2500)")
    args = arguments.parse_args()
    many_files()
    started = time.monotonic()
    with scratch() as folder, Served() as served:
        farm = Farm(folder, served)
        rows = [*costs(farm, args.prompts, args.repeat), *losses(farm, args.prompts)]
    report(f"bench/verdicts.py --prompts {args.prompts} --repeat {args.repeat}", rows, time.monotonic() - started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
