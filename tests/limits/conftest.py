"""Virtual time: asyncio's own heap of events, whose clock jumps to the next of them instead of sleeping."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import asyncio_throttle.throttler
import pytest

Run = Callable[[Coroutine[Any, Any, Any]], None]


class _Jumps(selectors.SelectSelector):
    now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        assert timeout is not None, "everything waits and nothing will happen"
        self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumps = _Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.now


@pytest.fixture
def in_virtual_time(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a coroutine to its end. asyncio-throttle reads the machine's clock by itself, so it is handed this one."""

    def run(work: Coroutine[Any, Any, Any]) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            clock = SimpleNamespace(monotonic=runner.get_loop().time)
            monkeypatch.setattr(asyncio_throttle.throttler, "time", clock)
            runner.run(work)

    return run
