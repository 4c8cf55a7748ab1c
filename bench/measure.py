"""What the benches share: the stub, CPU-seconds of child processes, a yardstick for the machine, the printed table.

Every figure is CPU time (user and system) of a process and of what it waited for, unless its unit says otherwise; wall
time says more about a machine's other users. The yardstick is the script that people write without a tool.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from answers import prompt_of

HERE = Path(__file__).resolve().parent
JOB, CLIENTS, STUB = (HERE / name for name in ("job.py", "clients.py", "stub.py"))
REFERENCE_US = 1950.0
"""What the usual script costs a request on the machine of the goals: the middle of what a harness measured there."""
ASKED = 5
"""Requests of a prompt: 4 samples and 1 verdict."""
_STALE_S, _LONG_S = 15.0, 2.0
_OUTAGE_S = 60.0


class Cost(NamedTuple):
    """CPU time as it was counted, and as the machine of the goals would have counted it."""

    raw: float
    scaled: float

    def less(self, other: Cost) -> Cost:
        return Cost(self.raw - other.raw, self.scaled - other.scaled)

    def times(self, factor: float) -> Cost:
        return Cost(self.raw * factor, self.scaled * factor)


class Spent(NamedTuple):
    """What a child cost, all of it, what it printed as its last line, and how it ended. `factor`: raw times this is
    scaled."""

    cpu_s: float
    wall_s: float
    said: dict[str, Any]
    code: int = 0
    factor: float = 1.0


def whole(one: Spent) -> float:
    return one.cpu_s


def step(one: Spent) -> float:
    return float(one.said["cpu_s"])


def median(runs: Sequence[Spent], cost_s: Callable[[Spent], float] = whole) -> Cost:
    return Cost(statistics.median(map(cost_s, runs)), statistics.median(cost_s(run) * run.factor for run in runs))


def spent(*command: str | Path, codes: Sequence[int] = (0,)) -> Spent:
    """Run a program of this folder to its end. Raises SystemExit when it ends with another code."""
    started = time.monotonic()
    child = start(*command)
    assert child.stdout is not None
    told = child.stdout.read().strip().splitlines()
    cpu_s = reaped(child)
    if child.returncode not in codes:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {child.returncode}")
    return Spent(cpu_s, time.monotonic() - started, json.loads(told[-1]) if told else {}, child.returncode)


class Served:
    """The stub in a process of its own; `url` as a client wants it."""

    def __init__(self) -> None:
        self._child = start(STUB)
        assert self._child.stdout is not None
        self._port = int(self._child.stdout.readline())
        self.url = f"http://127.0.0.1:{self._port}/v1"

    def begin(self, **settings: Any) -> None:
        """A new account, under these settings and no others."""
        self._call("POST", "/control", json.dumps(settings, default=str))

    def stats(self) -> dict[str, Any]:
        return self._call("GET", "/stats")

    def _call(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        """Waits for the end of an outage: a job may have given up before it."""
        until = time.monotonic() + _OUTAGE_S
        while True:
            with closing(HTTPConnection("127.0.0.1", self._port, timeout=60)) as connection:
                try:
                    connection.request(method, path, body)
                    answer: dict[str, Any] = json.loads(connection.getresponse().read())
                    return answer
                except ConnectionError:
                    if time.monotonic() > until:
                        raise
                    time.sleep(0.1)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        reaped(self._child)


class Yardstick:
    """What the usual script costs a request just now: AsyncOpenAI, Semaphore(64), a loopback server, imports apart.

    Read between children, so that its readings and what they measure lie side by side: other users slow a machine
    down for seconds at a time. The script does what prefsmith does (JSON, sockets, a loop), so both are slowed alike.
    """

    def __init__(self, folder: Path, n_prompts: int) -> None:
        self.taken_us: list[float] = []
        self._n = n_prompts
        self._prompts = wrote_prompts(folder / "yardstick.jsonl", n_prompts)
        self._taken_at = 0.0

    def take(self) -> None:
        with Served() as served:
            served.begin(latency_s=0.05)
            one = spent(CLIENTS, "sdk", served.url, self._prompts, str(self._n))
        self.taken_us.append(step(one) / (self._n * ASKED) * 1e6)
        self._taken_at = time.monotonic()

    def factor(self, since: int = 0) -> float:
        """Raw times this is scaled, by the readings from `since` on."""
        return REFERENCE_US / statistics.fmean(self.taken_us[since:])

    def spend(self, *command: str | Path) -> Spent:
        """Run a program of this folder between two readings; a short one takes the reading before it alone."""
        if time.monotonic() - self._taken_at > _STALE_S:
            self.take()
        since, one = len(self.taken_us) - 1, spent(*command)
        if one.wall_s > _LONG_S:
            self.take()
        return one._replace(factor=self.factor(since))


def start(*command: str | Path) -> subprocess.Popen[str]:
    """With bytecode on disk, as pip leaves it: a start that compiles everything drowns what a short run costs."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    return subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.PIPE, text=True, env=env)


def reaped(child: subprocess.Popen[str]) -> float:
    """Wait for the end of a child; its CPU-seconds and those of its own children."""
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.stdout is not None:
        child.stdout.close()
    return used.ru_utime + used.ru_stime


def hwm_mb(pid: int | str = "self") -> float:
    """The most memory that was resident. Not ru_maxrss: that begins with the size of the process that started it."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 1024


class Row(NamedTuple):
    """One line of the table. `goal`: at most this, or with `least` at least. A plain number is no time."""

    what: str
    value: Cost | float
    unit: str
    goal: float | None = None
    least: bool = False


def report(
    title: str, rows: Sequence[Row], wall_s: float, yardstick: Yardstick | None = None, *, scaled: bool = False
) -> None:
    """Print the table and the versions. Goals are for the raw figures, or for the scaled ones; a time that is not
    scaled stands beside its ratio to a request of the usual script."""
    second = "" if yardstick is None else " scaled |" if scaled else " requests of the script |"
    print(f"\n{title}\n\n| what | raw |{second} unit | goal | |\n|---|---|---|---|---|{'---|' if second else ''}")
    for row in rows:
        cost = row.value if isinstance(row.value, Cost) else Cost(row.value, row.value)
        judged = cost.scaled if scaled else cost.raw
        goal = "" if row.goal is None else f"{'>=' if row.least else '<='} {row.goal:,g}"
        met = (
            "" if row.goal is None else "met" if (judged >= row.goal if row.least else judged <= row.goal) else "MISSED"
        )
        beside = "" if yardstick is None else f" {_said(cost.scaled) if scaled else _in_requests(row)} |"
        print(f"| {row.what} | {_said(cost.raw)} |{beside} {row.unit} | {goal} | {met} |")
    if yardstick is not None:
        us = sorted(yardstick.taken_us)
        print(
            f"\nyardstick (the usual script, CPU a request; {REFERENCE_US:,g} µs on the machine of the goals), "
            f"{len(us)} readings: {us[0]:,.0f} to {us[-1]:,.0f}, median {statistics.median(us):,.0f} µs"
        )
    print(f"\nwall, for information: {wall_s:.0f} s\n{versions()}")


def _in_requests(row: Row) -> str:
    if not isinstance(row.value, Cost):
        return ""
    return _said(row.value.scaled / REFERENCE_US * (1 if row.unit.startswith("µs") else 1e6))


def _said(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def versions() -> str:
    named = []
    for name in ("prefsmith", "openai", "httpx2", "aiohttp", "orjson", "pydantic"):
        try:
            named.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            named.append(f"{name} none")
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    return f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {', '.join(named)}; {machine}"


def wrote_prompts(path: Path, n: int, heavy_of: int | None = None) -> Path:
    """`n` prompts of about 110 bytes, all different, with a reference, a category and the source's id; `heavy_of`: one
    in so many is ten times as long."""
    with path.open("w", encoding="utf-8") as out:
        for i in range(n):
            text = prompt_of(i, heavy_of is not None and i % heavy_of == heavy_of // 2)
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
    out.add_argument("--script", type=int, default=100, help="prompts of one reading of the yardstick (default 100)")
    return out
