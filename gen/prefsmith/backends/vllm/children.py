"""The processes of engines in this process: started out of reach of Ctrl-C, and never left behind.

vLLM 0.32 starts its engine as a child in our process group. Ctrl-C in a terminal would end it before us, in the middle
of answers that are paid for; and when we are killed it stays, with the device's memory. Both are mended here.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Final

_POLL_S: Final = 0.5
_ENGINE: Final = "EngineCore"
"""How vLLM names the processes of its engines."""
# Waits for the end of its standard input, which comes when we are gone, however we went.
_WARDEN: Final = """
import os, signal, sys
def born(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[19]
    except OSError:
        return None
wards = {}
for line in sys.stdin:
    wards[int(line)] = born(line.strip())
for pid, when in wards.items():
    if born(pid) == when:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
"""


class _Warden:
    """A process that kills the engines when this one is gone; one for all, started with the first."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._told: set[int] = set()

    def look(self) -> None:
        """Tell it of every engine that it does not know yet."""
        for pid in engines().keys() - self._told:
            if self._process is None:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _WARDEN],
                    stdin=subprocess.PIPE,
                    text=True,
                    start_new_session=True,
                )
            assert self._process.stdin is not None
            self._told.add(pid)
            with suppress(OSError):
                self._process.stdin.write(f"{pid}\n")
                self._process.stdin.flush()

    def dismiss(self) -> None:
        """End it when no engine is left."""
        if self._process is not None and not engines():
            process, self._process, self._told = self._process, None, set()
            assert process.stdin is not None
            process.stdin.close()
            process.wait()


WARDEN: Final = _Warden()


def engines() -> dict[int, BaseProcess]:
    """The living ones, by process id."""
    children: list[BaseProcess] = [*multiprocessing.active_children()]
    return {c.pid: c for c in children if c.pid is not None and c.name.startswith(_ENGINE)}


async def started(make: Callable[[], None]) -> None:
    """Let `make` start an engine, in a thread; when we are cancelled, the processes that it started are killed."""
    before = engines().keys()
    work = asyncio.ensure_future(asyncio.to_thread(_sheltered, make))
    try:
        while not work.done():
            await asyncio.wait((work,), timeout=_POLL_S)
            WARDEN.look()
        work.result()
    except asyncio.CancelledError:
        # The thread cannot be stopped, but what it waits for can; it then ends by itself.
        while not work.done():
            for child in (child for pid, child in engines().items() if pid not in before):
                child.kill()
            await asyncio.wait((work,), timeout=0.1)
        work.exception()  # looked at, or asyncio complains
        raise


def _sheltered(make: Callable[[], None]) -> None:
    """A child inherits the mask of the thread that starts it, and keeps it: SIGINT never reaches the engine."""
    # This helper of multiprocessing unblocks SIGINT when it is started; let that be behind us.
    resource_tracker.ensure_running()
    usual = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with _without_main():
            make()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, usual)


_main_lock = threading.Lock()
_main_hidden: list[tuple[object, str | None]] = []
_n_hiding = 0


@contextmanager
def _without_main() -> Iterator[None]:
    """A spawned child imports the main module first: a script without `if __name__ == "__main__"` would run again in
    it, and start engines of its own. An engine needs nothing of that module."""
    global _n_hiding
    main = sys.modules["__main__"]
    with _main_lock:
        if _n_hiding == 0:
            _main_hidden[:] = [(main.__spec__, getattr(main, "__file__", None))]
            main.__spec__ = None
            main.__dict__.pop("__file__", None)
        _n_hiding += 1
    try:
        yield
    finally:
        with _main_lock:
            _n_hiding -= 1
            if _n_hiding == 0:
                spec, file = _main_hidden[0]
                main.__dict__["__spec__"] = spec
                if file is not None:
                    main.__dict__["__file__"] = file
