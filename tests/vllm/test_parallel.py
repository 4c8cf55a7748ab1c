"""Several engines for one model: data parallel inside vLLM, and engines of our own side by side."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from tests.vllm.conftest import Loop, asked, endpoint_of, texts, until

from prefsmith.backends.vllm.children import engines

REQUESTS = [asked(f"What is {i} plus 6?", n=2, seed=10 * i, temperature=1.5, max_tokens=64) for i in range(40)]


def test_two_engines_answer_as_one_and_one_works_on_when_the_other_is_killed(
    open_engine: Callable[..., Loop],
) -> None:
    engine = open_engine(endpoint_of(args={"max_num_seqs": 8}, gpus=[[0], [1]]))
    expected = [texts(r) for r in engine.send_all(*REQUESTS)]
    assert len(engines()) == 2

    async def hit() -> list[list[str]]:
        tasks = [asyncio.create_task(engine.backend.send(r)) for r in REQUESTS]
        await until(lambda: sum(t.done() for t in tasks) >= 3)
        os.kill(min(engines()), signal.SIGKILL)
        replies = await asyncio.wait_for(asyncio.gather(*tasks), 60)
        # The other one had them all before the dead one was back.
        assert engine.backend.n_restarts == 0
        return [texts(r) for r in replies]

    assert engine.run(hit()) == expected
    engine.run(engine.backend.close())


@pytest.mark.parametrize(
    ("args", "processes"),
    [
        ({"data_parallel_size": 2}, {"EngineCore_DP0", "EngineCore_DP1"}),
        ({"tensor_parallel_size": 2, "distributed_executor_backend": "mp"}, {"EngineCore"}),
    ],
)
def test_parallel_arguments_are_passed_through(
    open_engine: Callable[..., Loop], args: dict[str, Any], processes: set[str]
) -> None:
    engine = open_engine(endpoint_of(args=args | {"max_num_seqs": 8}))
    assert {c.name for c in engines().values()} >= processes
    together, apart = engine.send_all(*REQUESTS), [engine.send(r) for r in REQUESTS[:5]]
    assert [texts(r) for r in together[:5]] == [texts(r) for r in apart]
    engine.run(engine.backend.close())
    assert engines() == {}
