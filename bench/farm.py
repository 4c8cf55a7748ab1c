"""Ours and the scripts set to the same work over the stub, each run a process of its own with a fresh account.

The work: 4 samples at 4 temperatures, one request each, and 1 verdict a prompt, pairs into a file. Ours has a grader
that decides three prompts in four and a rubric judge that is asked about each text of the fourth; the scripts ask for
one verdict a prompt. So both send five requests a prompt; ours keeps a ledger besides.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any, NamedTuple

from answers import JUDGE, MODEL, TEMPERATURES, WORD
from audit import Entry, Found, entries, needed, our_rows, prompts_of, script_rows
from measure import CLIENTS, JOB, Served, Spent, reaped, spent, start, wrote_prompts, wrote_recipe

SCRIPTS = {
    "sdk": "the usual script",
    "sdk-aio": "the script with aiohttp",
    "aiohttp": "bare aiohttp",
    "sockets": "bare sockets",
}
OURS = "prefsmith"
KEY_ENV = "PREFSMITH_BENCH_KEY"
_POLL_S = 0.005


class Ran(NamedTuple):
    """One run: what it cost, what the stub made of it, what the job needed and what it left."""

    spent: Spent
    stats: dict[str, Any]
    needed: int
    prompts: list[str]
    left: Path
    log: Path
    ours: bool

    @property
    def extra(self) -> float:
        """Requests beyond those needed, as a share of them."""
        return float(self.stats["n_requests"] / self.needed - 1)

    def found(self) -> Found:
        return our_rows(self.left, self.prompts) if self.ours else script_rows(self.left, self.prompts)

    def entries(self) -> list[Entry]:
        return entries(self.log)


class Farm:
    def __init__(self, folder: Path, served: Served) -> None:
        os.environ.setdefault(KEY_ENV, "bench")
        self._folder, self._served, self._n_runs = folder, served, 0

    def ran(self, who: str, n: int, concurrency: int, *, timeout_s: float = 600.0, **told: Any) -> Ran:
        """`told`: the stub's settings, and under `recipe` what our recipe has besides."""
        recipe, heavy_of = told.pop("recipe", {}), told.pop("heavy_of", None)
        prompts, log = self._begin(n, heavy_of, told)
        if who == OURS:
            left = log.with_suffix("")
            recipe_path = wrote_recipe(log.with_suffix(".json"), self.recipe(prompts, concurrency, timeout_s) | recipe)
            cost = spent(JOB, "run", recipe_path, left, codes=(0, 3, 5))
        else:
            left = prompts.with_suffix(f".{who}.pairs")
            cost = spent(CLIENTS, who, self._served.url, prompts, str(n), str(concurrency), str(timeout_s))
        return self._ended(cost, prompts, left, log, ours=who == OURS)

    def killed(self, n: int, concurrency: int, kill_at: int, **told: Any) -> Ran:
        """Ours, killed -9 after so many requests and started again over the same folder: one account for both."""
        recipe = told.pop("recipe", {})
        prompts, log = self._begin(n, None, told)
        recipe_path = wrote_recipe(log.with_suffix(".json"), self.recipe(prompts, concurrency, 600.0) | recipe)
        left = log.with_suffix("")
        child = start(JOB, "run", recipe_path, left)
        _wait_for(child, log, kill_at)
        child.send_signal(signal.SIGKILL)
        reaped(child)
        cost = spent(JOB, "run", recipe_path, left, codes=(0, 3, 5))
        return self._ended(cost, prompts, left, log, ours=True)

    def _begin(self, n: int, heavy_of: int | None, settings: dict[str, Any]) -> tuple[Path, Path]:
        self._n_runs += 1
        log = self._folder / f"run-{self._n_runs}.log"
        self._served.begin(**settings, log=log)
        return wrote_prompts(self._folder / f"prompts-{self._n_runs}.jsonl", n, heavy_of), log

    def _ended(self, cost: Spent, prompts: Path, left: Path, log: Path, *, ours: bool) -> Ran:
        texts = prompts_of(prompts)
        return Ran(cost, self._served.stats(), needed(texts, ours=ours), texts, left, log, ours)

    def priced(self, prices: str) -> dict[str, Any]:
        """The part of a recipe that knows what the stub asks for."""
        table = self._folder / "prices.toml"
        table.write_text(prices)
        return {"prices": str(table)}

    def capped(self, prices: str, usd: float) -> dict[str, Any]:
        """The part of a recipe that stops it at so much money."""
        return {"budget": {"usd": usd}, **self.priced(prices)}

    def recipe(self, prompts: Path, concurrency: int, timeout_s: float) -> dict[str, Any]:
        return {
            "prompts": {"path": str(prompts)},
            "endpoints": {"farm": self.endpoint(concurrency, timeout_s)},
            "sample": [{"model": f"farm:{MODEL}", "temperature": list(TEMPERATURES)}],
            "judge": [{"use": "contains", "text": WORD}, {"use": "rubric-help", "model": f"farm:{JUDGE}"}],
            # Four requests of each open prompt: fewer prompts could not fill so many slots.
            "window": max(512, concurrency),
            "export": ["trl"],
            # Every request of the account is one of the work.
            "probe": False,
        }

    def endpoint(self, concurrency: int, timeout_s: float = 600.0, **limits: int) -> dict[str, Any]:
        told = {"urls": [self._served.url], "key_env": KEY_ENV, "timeout_s": timeout_s}
        return told | {"limits": {"concurrency": concurrency, **limits}}


def _wait_for(child: subprocess.Popen[str], log: Path, n_lines: int) -> None:
    while not log.exists() or log.read_bytes().count(b"\n") < n_lines:
        if child.poll() is not None:
            raise SystemExit(f"the job ended with {child.returncode} before it had asked {n_lines} requests")
        time.sleep(_POLL_S)
