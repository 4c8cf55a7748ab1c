"""The worker processes of graders that may never end, and the time limit on each text.

A worker belongs to one grader: two files that import modules of one name never meet in a process. It starts when it is
first needed, with an environment of PATH, LANG and PYTHONPATH (no keys), and ends with the pool or with its parent.
A text that hangs or kills its worker loses its own score only: the rest of the batch goes to a fresh worker.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import orjson

from prefsmith.errors import MachineError
from prefsmith.judging.graders.grader import Grader, no_score
from prefsmith.outcomes import Score
from prefsmith.reasons import Reason
from prefsmith.records import Item, Json, canonical

LOAD_LIMIT_S = 60.0
"""Longest time that a file may take to import what it needs; not counted against any text."""
GRACE_S = 1.0
"""The worker's own timer ends it; this much later it is killed, should a grader have taken that timer."""
_WORKER = Path(__file__).with_name("worker.py")
_PACKAGES = Path(__file__).resolve().parents[3]


class GraderPool:
    """Grades texts with any grader: `async with GraderPool() as pool: await pool.grade(grader, texts, item)`."""

    def __init__(self) -> None:
        self._workers: dict[bytes, _Worker] = {}

    async def __aenter__(self) -> GraderPool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        workers = list(self._workers.values())
        self._workers.clear()
        await asyncio.gather(*(worker.stop() for worker in workers))

    async def load(self, grader: Grader) -> str | None:
        """Why the grader's file cannot be loaded, None when it can: to be asked before anything is paid for."""
        return None if grader.work is None else await self._worker(grader).load()

    def _worker(self, grader: Grader) -> _Worker:
        work = grader.work or {}
        return self._workers.setdefault(canonical([dict(work), grader.timeout_s]), _Worker(work, grader.timeout_s))

    async def grade(self, grader: Grader, texts: Sequence[str], item: Item) -> list[Score]:
        """One item's batch, in order. Raises MachineError when no process can be started; else a fault is a Score."""
        if grader.work is None:
            return grader.grade(texts, item)
        if not texts:
            return []
        columns = item.read(grader.reads)
        try:
            batch = orjson.dumps(columns).decode()
            orjson.dumps(list(texts))
        except TypeError as error:
            return [no_score(f"the texts or columns are no JSON: {error}")] * len(texts)
        return await self._worker(grader).grade(texts, batch)


class _Worker:
    """One process and the two pipes to it; started again after each death."""

    def __init__(self, work: Mapping[str, Json], timeout_s: float) -> None:
        self._load = {**work, "timeout_s": timeout_s, "load_limit_s": LOAD_LIMIT_S}
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._answers: asyncio.StreamReader | None = None
        self._transport: asyncio.BaseTransport | None = None
        self._unloadable: Score | None = None

    async def grade(self, texts: Sequence[str], columns: str) -> list[Score]:
        async with self._lock:
            scores: list[Score] = []
            try:
                while len(scores) < len(texts):
                    if self._process is None or self._process.returncode is not None:
                        await self._start()
                    if self._unloadable is not None:
                        return scores + [self._unloadable] * (len(texts) - len(scores))
                    scores += await self._ask(texts[len(scores) :], columns)
            except BaseException:
                # Cancelled half-way: answers that are still to come would be taken for the next batch's.
                await self._kill()
                raise
            return scores

    async def load(self) -> str | None:
        async with self._lock:
            if self._process is None:
                await self._start()
            parts = self._unloadable.parts if self._unloadable else None
            return None if parts is None else str(parts["error"])

    async def stop(self) -> None:
        """Let an idle worker end by itself at the end of its input; kill a busy one."""
        if self._process is not None and not self._lock.locked():
            _stdin(self._process).close()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), GRACE_S)
        await self._kill()

    async def _start(self) -> None:
        await self._kill()
        reading, writing = os.pipe()
        answers = os.fdopen(reading, "rb", 0)
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                str(_WORKER),
                str(writing),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(writing,),
                env=worker_environment(),
                # Ctrl-C is for the run, which lets open batches end; and the whole group can be killed at once.
                start_new_session=True,
            )
            self._answers = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(self._answers)
            self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, answers)
        except OSError as error:
            answers.close()
            raise MachineError(f"cannot start a grader's worker process ({sys.executable}): {error}") from None
        except BaseException:
            answers.close()
            raise
        finally:
            os.close(writing)
        await self._send(self._load)
        loaded = await self._answer(LOAD_LIMIT_S)
        if loaded is None:
            self._unloadable = await self._death("while loading")
        elif "error" in loaded:
            self._unloadable = no_score(str(loaded["error"]))

    async def _ask(self, texts: Sequence[str], columns: str) -> list[Score]:
        """Scores up to and with the first text that ended the worker."""
        await self._send({"columns": columns, "texts": list(texts)})
        scores: list[Score] = []
        for _ in texts:
            answer = await self._answer(self._timeout_s)
            if answer is None:
                return [*scores, await self._death("on this text")]
            error = answer.get("error")
            scores.append(Score(answer["value"]) if error is None else no_score(error))
        return scores

    async def _send(self, message: Json) -> None:
        assert self._process is not None
        stdin = _stdin(self._process)
        # A worker that is gone is seen where its answer is missing.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            stdin.write(orjson.dumps(message) + b"\n")
            await stdin.drain()

    async def _answer(self, limit_s: float) -> dict[str, Json] | None:
        """The next answer; None when the worker died or is still silent after its limit and the grace."""
        assert self._answers is not None
        # Asked a second time, shortly: when this process itself was held up, the answer lies in the pipe, unread.
        for wait_s in (limit_s + GRACE_S, 0.05):
            try:
                line = await asyncio.wait_for(self._answers.readuntil(b"\n"), wait_s)
            except TimeoutError:
                continue
            except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                return None
            answer: dict[str, Json] = orjson.loads(line)
            return answer
        return None

    async def _death(self, when: str) -> Score:
        """Why there is no answer: its time was over, or the worker died. Leaves no process behind."""
        assert self._process is not None and self._answers is not None
        silent = not self._answers.at_eof()
        if not silent:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), GRACE_S)
        code = self._process.returncode
        await self._kill()
        if code == -signal.SIGALRM or (code is None and silent):
            limit_s = self._timeout_s if when == "on this text" else LOAD_LIMIT_S
            return no_score(f"no answer within {limit_s:g} s {when}", Reason.GRADER_TIMEOUT)
        if code is None:
            return no_score(f"the worker process closed its pipe {when}")
        how = f"ended with exit status {code}" if code >= 0 else f"was killed by signal {_signal_name(-code)}"
        return no_score(f"the worker process {how} {when}")

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        if process is None:
            return
        # The group also holds what a grader has started; it may be empty already.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        _stdin(process).close()
        await process.wait()


def worker_environment() -> dict[str, str]:
    """PATH, LANG and PYTHONPATH; whatever else this process was given, keys above all, stays here."""
    environment = {name: os.environ[name] for name in ("PATH", "LANG", "PYTHONPATH") if name in os.environ}
    # So that a file can import prefsmith from a checkout. Installed packages are found anyway, and named here they
    # would come before the standard library.
    if _PACKAGES.name not in ("site-packages", "dist-packages"):
        given = environment.get("PYTHONPATH")
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (given, str(_PACKAGES))))
    return environment


def _stdin(process: asyncio.subprocess.Process) -> asyncio.StreamWriter:
    assert process.stdin is not None
    return process.stdin


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
