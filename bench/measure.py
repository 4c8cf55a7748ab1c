"""What the benches share: a yardstick for the machine, CPU-seconds of child processes, and the table that is printed.

Every figure is CPU time (user and system) of a process and of what it waited for; wall time says more about a
machine's other users. `scaled` is what the machine of the goals would have taken, which does the yardstick's loop in
50 ms.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
JOB = HERE / "job.py"
REFERENCE_MS = 50.0
N_OPERATIONS = 200_000
_LOOPS = 3
_POLL_S = 0.02
_EVERY_S = 0.4
"""One loop each takes a twentieth of a core that the child may want."""


class Cost(NamedTuple):
    """CPU-seconds as they were counted, and as the machine of the goals would have counted them."""

    raw: float
    scaled: float

    def less(self, other: Cost) -> Cost:
        return Cost(self.raw - other.raw, self.scaled - other.scaled)

    def times(self, factor: float) -> Cost:
        return Cost(self.raw * factor, self.scaled * factor)


class Spent(NamedTuple):
    """What a child cost, all of it, and what it printed as its last line. `factor`: raw times this is scaled."""

    cpu_s: float
    wall_s: float
    said: dict[str, Any]
    factor: float


def whole(one: Spent) -> float:
    return one.cpu_s


def step(one: Spent) -> float:
    return float(one.said["cpu_s"])


def median(runs: Sequence[Spent], cost_s: Callable[[Spent], float] = whole) -> Cost:
    return Cost(statistics.median(map(cost_s, runs)), statistics.median(cost_s(run) * run.factor for run in runs))


class Yardstick:
    """How fast this machine is just now. Taken before, between and after children, and every other moment beside one:
    other users slow a machine down for seconds at a time, and the child with it."""

    def __init__(self) -> None:
        self.taken_ms: list[float] = []
        _loop_ms()  # the first one also pays for memory that the next ones reuse
        self.take(_LOOPS)

    def take(self, n: int = 1) -> None:
        self.taken_ms.append(statistics.median(_loop_ms() for _ in range(n)))

    def factor(self, since: int) -> float:
        """Raw times this is scaled, by the readings from `since` on."""
        return REFERENCE_MS / statistics.fmean(self.taken_ms[since:])

    def beside(self, child: subprocess.Popen[str]) -> float:
        """Wait for the end of a child, which is left to be reaped; returns the factor while it ran."""
        since, next_s = len(self.taken_ms) - 1, time.monotonic() + _EVERY_S
        while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(_POLL_S)
            if time.monotonic() >= next_s:
                self.take()
                next_s = time.monotonic() + _EVERY_S
        self.take(_LOOPS)
        return self.factor(since)

    def spend(self, *command: str | Path) -> Spent:
        """Run a program of this folder to its end. Raises SystemExit when it fails."""
        started = time.monotonic()
        child = start(*command)
        assert child.stdout is not None
        factor, wall_s = self.beside(child), time.monotonic() - started
        told = child.stdout.read().strip().splitlines()
        cpu_s = reaped(child)
        if child.returncode:
            raise SystemExit(f"{' '.join(map(str, command))} ended with {child.returncode}")
        return Spent(cpu_s, wall_s, json.loads(told[-1]) if told else {}, factor)


def _loop_ms() -> float:
    started, d = time.process_time(), dict[int, str]()
    for i in range(N_OPERATIONS):
        d[i] = str(i)
    return (time.process_time() - started) * 1e3


def start(*command: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.PIPE, text=True)


def reaped(child: subprocess.Popen[str]) -> float:
    """Wait for the end of a child; its CPU-seconds and those of its own children."""
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.stdout is not None:
        child.stdout.close()
    return used.ru_utime + used.ru_stime


class Row(NamedTuple):
    """One line of the table. `goal`: at most this, scaled. A plain number is no time and is not scaled."""

    what: str
    value: Cost | float
    unit: str
    goal: float | None = None


def report(title: str, rows: Sequence[Row], yardstick: Yardstick, wall_s: float) -> None:
    """Print the table, the yardstick's readings and the versions."""
    print(f"\n{title}\n\n| what | raw | scaled | unit | goal | |\n|---|---|---|---|---|---|")
    for row in rows:
        cost = row.value if isinstance(row.value, Cost) else Cost(row.value, row.value)
        goal = "" if row.goal is None else f"<= {row.goal:,g}"
        met = "" if row.goal is None else "met" if cost.scaled <= row.goal else "MISSED"
        print(f"| {row.what} | {_said(cost.raw)} | {_said(cost.scaled)} | {row.unit} | {goal} | {met} |")
    ms = sorted(yardstick.taken_ms)
    print(
        f"\nyardstick (200,000 x d[i] = str(i); {REFERENCE_MS:g} ms is the reference machine), {len(ms)} readings: "
        f"{ms[0]:.1f} to {ms[-1]:.1f}, median {statistics.median(ms):.1f} ms; each child is scaled by those beside it"
        f"\nwall, for information: {wall_s:.0f} s\n{versions()}"
    )


def _said(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def versions() -> str:
    named = []
    for name in ("prefsmith", "openai", "httpx2", "orjson", "pydantic"):
        try:
            named.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            named.append(f"{name} none")
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    return f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {', '.join(named)}; {machine}"


def wrote_prompts(path: Path, n: int) -> Path:
    """`n` prompts of about 110 bytes, all different, with a reference, a category and the source's id."""
    with path.open("w", encoding="utf-8") as out:
        for i in range(n):
            text = f"Tell me in three sentences what a traveller should know about village number {i} before noon."
            out.write(f'{{"id": "v{i}", "prompt": "{text}", "reference": "{i}", "category": "c{i % 7}"}}\n')
    return path


def wrote_recipe(path: Path, recipe: Mapping[str, Any]) -> Path:
    """As `job.py` reads it; being JSON it is YAML too, for `prefsmith run`."""
    path.write_text(json.dumps(recipe, default=str), encoding="utf-8")
    return path


@contextmanager
def scratch(kept: str | None = None) -> Iterator[Path]:
    """A folder for one bench; `kept`: where it stays when all is done."""
    if kept is not None:
        Path(kept).mkdir(parents=True, exist_ok=True)
        yield Path(kept).resolve()
        return
    with TemporaryDirectory(prefix="bench-") as place:
        yield Path(place)


def parser(doc: str | None) -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    out.add_argument("--repeat", type=int, default=3, help="take the median of so many (default 3)")
    return out
