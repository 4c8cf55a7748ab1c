"""Real engines that are killed, stopped and poisoned: every request is answered once, or has its reason."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.vllm.conftest import ENV, Loop, asked, endpoint_of, texts, until

from prefsmith.backends.vllm.children import engines
from prefsmith.errors import CallFailed
from prefsmith.reasons import Reason
from prefsmith.records import Request

REQUESTS = [asked(f"What is {i} plus {i % 7}?", n=2, seed=10 * i, temperature=1.5, max_tokens=64) for i in range(60)]


@pytest.fixture(scope="module")
def engine(open_engine: Callable[..., Loop]) -> Loop:
    return open_engine(endpoint_of(args={"max_num_seqs": 16}, stall_s=6.0))


@pytest.fixture(scope="module")
def expected(engine: Loop) -> list[list[str]]:
    return [texts(r) for r in engine.send_all(*REQUESTS)]


async def hit(engine: Loop, number: signal.Signals) -> list[list[str]]:
    """Every request is sent, and the engine gets a signal once some of them are answered."""
    tasks = [asyncio.create_task(engine.backend.send(r)) for r in REQUESTS]
    await until(lambda: sum(t.done() for t in tasks) >= 10)
    for pid in engines():
        os.kill(pid, number)
    replies = await asyncio.wait_for(asyncio.gather(*tasks), 120)
    return [texts(r) for r in replies]


def test_a_killed_engine_is_started_again_and_every_request_answered_as_before(
    engine: Loop, expected: list[list[str]]
) -> None:
    assert engine.run(hit(engine, signal.SIGKILL)) == expected
    assert engine.backend.n_restarts == 1
    assert len(engines()) == 1


def test_a_hung_engine_is_noticed_and_every_request_answered_as_before(engine: Loop, expected: list[list[str]]) -> None:
    before = engine.backend.n_restarts
    assert engine.run(hit(engine, signal.SIGSTOP)) == expected
    assert engine.backend.n_restarts == before + 1
    assert len(engines()) == 1


def test_a_closed_engine_can_be_opened_again_and_answers_as_before(engine: Loop, expected: list[list[str]]) -> None:
    engine.run(engine.backend.close())
    assert engines() == {}
    engine.run(engine.backend.open((), 0))
    assert [texts(r) for r in engine.send_all(*REQUESTS)] == expected


def test_the_prompt_that_kills_the_engine_is_found_and_the_others_are_answered(
    open_engine: Callable[..., Loop],
) -> None:
    """A seeded prompt prefilled in two parts: what kills vLLM 0.32 on a CPU."""
    engine = open_engine(
        endpoint_of(args={"enable_chunked_prefill": True, "max_num_batched_tokens": 128, "max_num_seqs": 4})
    )
    poison = asked("word " * 80)
    others = REQUESTS[:3]

    async def sent(request: Request) -> list[str] | CallFailed:
        try:
            return texts(await engine.backend.send(request))
        except CallFailed as failed:
            return failed

    async def all_of_them() -> list[list[str] | CallFailed]:
        return await asyncio.wait_for(asyncio.gather(*(sent(r) for r in (poison, *others))), 300)

    first, *rest = engine.run(all_of_them())
    assert isinstance(first, CallFailed)
    assert first.reason is Reason.POISON
    assert not first.stops_endpoint
    assert rest == [texts(r) for r in engine.send_all(*others)]
    assert engine.backend.n_restarts <= 5


SCRIPT = f"""
import asyncio, os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from prefsmith.backends import resolve
from prefsmith.backends.vllm.children import engines
from tests.vllm.conftest import TINY, endpoint_of

async def main():
    backend = resolve(f"local:{{TINY}}", {{"local": endpoint_of()}}).make()[0].backend
    await backend.open((), 0)
    print(*engines(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

# No guard of __main__: the engine's process must not run this again.
asyncio.run(main())
"""


def test_no_engine_outlives_a_killed_process_and_a_script_needs_no_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, **ENV},
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL
    (pid,) = map(int, done.stdout.split())
    asyncio.run(until(lambda: not Path(f"/proc/{pid}").exists(), 20))
