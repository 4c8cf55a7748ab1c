"""A `vllm serve` of our own: started, asked, killed, started again, and stopped with its port free.

It serves the model that thinks, with the parsers of its thoughts and calls.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.vllm.conftest import PARSERS, SUM, TINY, Loop, asked, endpoint_of, texts, until

from prefsmith.backends import resolve
from prefsmith.backends.vllm import VllmServer
from prefsmith.errors import CallFailed, ProviderError
from prefsmith.reasons import Reason


def server_of(model: Path = TINY, **more: Any) -> VllmServer:
    backend = resolve(f"local:{model}", {"local": endpoint_of(mode="serve", **more)}).make()[0].backend
    assert isinstance(backend, VllmServer)
    return backend


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def group_of(pid: int) -> list[int]:
    """The living processes of a process group."""
    out = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(group) == pid and state != "Z":
            out.append(int(stat.parent.name))
    return out


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def server(runner: asyncio.Runner, thinker: Path, adapter: Path) -> Iterator[VllmServer]:
    backend = server_of(thinker, adapters={"odd": adapter}, args=PARSERS, start_timeout_s=300, stall_s=15)
    try:
        runner.run(backend.open((), 0))
        yield backend
    finally:
        runner.run(backend.close())


def test_it_samples_by_seed_and_tells_of_cached_tokens(runner: asyncio.Runner, server: VllmServer) -> None:
    request = asked("word " * 60, n=4, seed=7)
    first, again = (runner.run(server.send(request)) for _ in range(2))
    assert len({*texts(first)}) > 1
    assert texts(first) == texts(again)
    assert (again.usage.n_cached_tokens or 0) > 100
    assert len(runner.run(server.send(asked(n=4, temperature=0.0))).choices) == 1


def test_an_adapter_reaches_it(runner: asyncio.Runner, server: VllmServer) -> None:
    assert runner.run(server.send(asked(model="odd"))).model_reported == "odd"


def test_what_is_declared_of_its_models_is_what_they_can_do(runner: asyncio.Runner, server: VllmServer) -> None:
    """As a server that nobody knows would be asked. Where thoughts stand shows only when the model has some."""
    client = server.servers[0]._client
    assert client is not None
    unknown = replace(client.declared, n=None, temperature=None, logprobs=None, seed=None, sure=False)
    declared, client.declared = client.declared, unknown
    try:
        found, _ = runner.run(client.probe("tiny"))
    finally:
        client.declared = declared
    assert replace(found, ignores_unknown=None) == declared.can()
    assert server.facts()["can"] == found.told()


SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


def test_it_says_what_an_engine_in_process_says(
    runner: asyncio.Runner, server: VllmServer, open_engine: Callable[..., Loop], thinker: Path
) -> None:
    engine = open_engine(endpoint_of(args=PARSERS), str(thinker))
    turns = [("user", "hello"), ("assistant", "good day"), ("user", SUM)]
    requests = [
        asked(SUM, n=4, seed=5),
        asked(SUM, n=4, seed=5, temperature=0.0),
        asked(messages=tuple({"role": role, "content": text} for role, text in turns), n=4, top_p=0.8, stop=("=",)),
        asked(SUM, n=4, seed=6, schema=SCHEMA, max_tokens=64),
        asked(SUM, n=4, seed=7, tools=(TOOL,), logprobs=True),
        asked("word " * 40, n=2, seed=8, min_p=0.05, top_k=20, repetition_penalty=1.1),
    ]
    for request in requests:
        theirs, ours = runner.run(server.send(request)), engine.send(request)
        assert [(c.message, c.finish_reason, c.reasoning) for c in ours.choices] == [
            (c.message, c.finish_reason, c.reasoning) for c in theirs.choices
        ]
        sums = [[c.logprob_sum for c in reply.choices] for reply in (ours, theirs)]
        assert sums[0] == pytest.approx(sums[1], abs=1e-4)
        assert ours.usage[:3:2] == theirs.usage[:3:2]
        assert ours.usage.n_reasoning_tokens == theirs.usage.n_reasoning_tokens
    engine.run(engine.backend.close())


def test_a_run_attaches_to_a_running_server_and_keeps_thoughts_apart(server: VllmServer, tmp_path: Path) -> None:
    one = server.servers[0]
    variables = Path(f"/proc/{one.pid}/environ").read_bytes().split(b"\0")
    key = next(v for v in variables if v.startswith(b"VLLM_API_KEY=")).partition(b"=")[2].decode()
    near = {"urls": f"http://127.0.0.1:{one.port}/v1", "key_env": "NEAR_KEY", "server": "vllm"}
    recipe = {
        "prompts": {"path": "demo:tiny", "limit": 12},
        "endpoints": {"near": near},
        "sample": [{"model": "near:tiny", "temperature": [0.7, 1.0], "n": 3, "max_tokens": 48}],
        "judge": [{"use": "contains", "text": "1"}],
        "export": ["trl"],
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    done = subprocess.run(
        [sys.executable, "-m", "prefsmith", "run", tmp_path / "recipe.yaml", "-o", tmp_path / "run"],
        env={**os.environ, "NEAR_KEY": key},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(tmp_path / "run" / "ledger.db") as db:
        rows = db.execute("SELECT c.reasoning, t.body FROM completion c JOIN text t ON t.id = c.text").fetchall()
        (can,) = db.execute("SELECT json FROM fact WHERE name = 'can.near.tiny'").fetchone()
    assert len(rows) == 12 * 6
    assert sum(bool(thought) for thought, _ in rows) > 20
    assert not any("think>" in f"{thought}{body}" for thought, body in rows)
    assert [json.loads(can)[name] for name in ("n", "temperature", "logprobs", "seed")] == [True] * 4
    assert key not in done.stderr + done.stdout


def test_what_does_not_fit_its_context_is_final(runner: asyncio.Runner, server: VllmServer) -> None:
    with pytest.raises(CallFailed) as caught:
        runner.run(server.send(asked("word " * 600)))
    assert caught.value.reason is Reason.CONTEXT_TOO_LONG


@pytest.mark.parametrize("victim", ["engine", "server", "hung engine"])
def test_when_it_dies_or_hangs_it_is_started_again_and_every_request_answered(
    runner: asyncio.Runner, server: VllmServer, victim: str
) -> None:
    requests = [asked(f"What is {i} plus 5?", n=2, seed=i, temperature=1.5, max_tokens=100) for i in range(40)]

    async def hit() -> list[list[str]]:
        pid = server.servers[0].pid
        assert pid is not None
        tasks = [asyncio.create_task(server.send(r)) for r in requests]
        await until(lambda: sum(t.done() for t in tasks) >= 3)
        inner = max(group_of(pid))
        os.kill(pid if victim == "server" else inner, signal.SIGSTOP if "hung" in victim else signal.SIGKILL)
        return [texts(r) for r in await asyncio.wait_for(asyncio.gather(*tasks), 200)]

    before = server.n_restarts
    told = runner.run(hit())
    assert server.n_restarts == before + 1
    assert told == [texts(runner.run(server.send(r))) for r in requests]


def test_closing_frees_the_port_and_leaves_no_process(runner: asyncio.Runner, server: VllmServer) -> None:
    (one,) = server.servers
    pid, port = one.pid, one.port
    assert pid is not None and listens(port)
    runner.run(server.close())
    assert not listens(port)
    assert group_of(pid) == []


def test_a_server_that_does_not_start_says_why() -> None:
    async def opened() -> None:
        backend = server_of(args={"dtype": "float33"})
        try:
            await backend.open((), 0)
        finally:
            await backend.close()

    with pytest.raises(ProviderError, match=r"ended before it was ready; the end of its log(.|\n)*float33"):
        asyncio.run(opened())
