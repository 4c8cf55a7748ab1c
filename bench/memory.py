"""Memory and resuming at size: `python bench/memory.py --prompts N [--small N] [--keep DIR]`. Linux only (/proc).

The whole job over the scripted fake (n = 2, one temperature, texts of 200 bytes), twice: over few prompts undisturbed,
and over many, where it is killed with SIGKILL half-way and started again over the same folder. Resident memory must
not grow with the prompts, and the second start must soon ask its first request: the fake logs each before it answers.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from measure import (
    JOB,
    Cost,
    Row,
    Yardstick,
    hwm_mb,
    median,
    parser,
    reaped,
    report,
    scratch,
    spent,
    start,
    step,
    wrote_prompts,
    wrote_recipe,
)

GROWTH_MB = 30.0
FIRST_REQUEST_S = 15.0
_POLL_S = 0.01


def recipe_of(prompts: Path, log: Path) -> dict[str, Any]:
    return {
        "prompts": {"path": str(prompts)},
        "endpoints": {"farm": {"script": {"chars": 200, "log": str(log)}}},
        "sample": [{"model": "farm:fake", "temperature": 0.7, "n": 2}],
        "judge": [{"use": "contains", "text": "willows"}],
        "export": ["trl"],
    }


def size_of(log: Path) -> int:
    return log.stat().st_size if log.exists() else 0


def wait_for(child: subprocess.Popen[str], log: Path, n_bytes: int) -> None:
    """Until the log holds so much. Raises SystemExit when the child ends before."""
    while size_of(log) < n_bytes:
        if child.poll() is not None:
            raise SystemExit(f"the job ended with {child.returncode} before its log held {n_bytes} bytes")
        time.sleep(_POLL_S)


def cpu_so_far_s(pid: int) -> float:
    """User and system time of a living process, to a hundredth of a second."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def small_run(folder: Path, n: int) -> float:
    """The most memory of a run over `n` prompts, MB."""
    recipe = wrote_recipe(
        folder / "small.json", recipe_of(wrote_prompts(folder / "small.jsonl", n), folder / "small.log")
    )
    return float(spent(JOB, "run", recipe, folder / "small").said["hwm_mb"])


def killed_run(folder: Path, n: int, kill_at: float, yardstick: Yardstick) -> tuple[Cost, float, float, float]:
    """(CPU-s from the second start to its first request; most memory of the first start until it was killed, of the
    second at its first request and in all, MB)."""
    log, recipe = folder / "many.log", folder / "many.json"
    child = start(JOB, "run", recipe, folder / "out")
    wait_for(child, log, 1)
    line = len(log.read_bytes().partition(b"\n")[0]) + 1
    wait_for(child, log, int(line * n * kill_at))
    first_mb = hwm_mb(child.pid)
    child.send_signal(signal.SIGKILL)
    reaped(child)
    yardstick.take()
    logged, since = size_of(log), len(yardstick.taken_us) - 1
    child = start(JOB, "run", recipe, folder / "out")
    wait_for(child, log, logged + 1)
    cpu_s, at_once_mb = cpu_so_far_s(child.pid), hwm_mb(child.pid)
    assert child.stdout is not None
    said = child.stdout.read().strip().splitlines()
    reaped(child)
    yardstick.take()
    if child.returncode:
        raise SystemExit(f"the second start ended with {child.returncode}")
    whole_mb = float(json.loads(said[-1])["hwm_mb"])
    return Cost(cpu_s, cpu_s * yardstick.factor(since)), first_mb, at_once_mb, whole_mb


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--prompts", type=int, default=50_000)
    arguments.add_argument("--small", type=int, default=10_000, help="what growth is counted from (default 10,000)")
    arguments.add_argument("--kill-at", type=float, default=0.5, help="share of the requests sent before the kill")
    arguments.add_argument("--keep", metavar="DIR", help="leave the run there, for bench/ledger.py --folder DIR")
    args = arguments.parse_args()
    started = time.monotonic()
    with scratch(args.keep) as folder:
        yardstick = Yardstick(folder, args.script)
        small_mb = small_run(folder, args.small)
        recipe = wrote_recipe(
            folder / "many.json", recipe_of(wrote_prompts(folder / "many.jsonl", args.prompts), folder / "many.log")
        )
        reads = [yardstick.spend(JOB, "read", recipe, folder / f"read-{i}") for i in range(args.repeat)]
        first_request, first_mb, at_once_mb, second_mb = killed_run(folder, args.prompts, args.kill_at, yardstick)
    n, most = f"{args.prompts:,} prompts", max(first_mb, second_mb)
    rows = [
        Row(f"most memory, {args.small:,} prompts", small_mb, "MB"),
        Row(f"most memory, {n}, until the kill", first_mb, "MB"),
        Row(f"most memory, {n}, second start, at its first request", at_once_mb, "MB"),
        Row(f"most memory, {n}, second start, to the end", second_mb, "MB"),
        Row(f"growth from {args.small:,} to {n}", most - small_mb, "MB", GROWTH_MB),
        Row(f"second start to its first request, {n}", first_request, "CPU-s", FIRST_REQUEST_S),
        Row(f"reading the source, {n}", median(reads, step).times(1e6 / args.prompts), "µs a row"),
    ]
    title = f"bench/memory.py, n = 2, texts of 200 bytes, killed at {args.kill_at:.0%}"
    report(title, rows, time.monotonic() - started, yardstick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
