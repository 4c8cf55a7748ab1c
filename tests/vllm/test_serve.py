"""A `vllm serve` of our own: started, asked, killed, started again, and stopped with its port free."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.vllm.conftest import TINY, asked, endpoint_of, texts, until

from prefsmith.backends import resolve
from prefsmith.backends.vllm import VllmServer
from prefsmith.errors import CallFailed, ProviderError
from prefsmith.reasons import Reason


def server_of(adapter: Path | None = None, **more: object) -> VllmServer:
    adapters = {"adapters": {"odd": adapter}} if adapter else {}
    endpoint = endpoint_of(mode="serve", **adapters, **more)
    backend = resolve(f"local:{TINY}", {"local": endpoint}).make()[0].backend
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
def server(runner: asyncio.Runner, adapter: Path) -> Iterator[VllmServer]:
    backend = server_of(adapter, start_timeout_s=300)
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


def test_a_schema_and_an_adapter_reach_it(runner: asyncio.Runner, server: VllmServer) -> None:
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}
    schema["additionalProperties"] = False
    for text in texts(runner.run(server.send(asked(n=4, schema=schema)))):
        assert {*json.loads(text)} == {"ok"}
    assert runner.run(server.send(asked(model="odd"))).model_reported == "odd"


def test_what_does_not_fit_its_context_is_final(runner: asyncio.Runner, server: VllmServer) -> None:
    with pytest.raises(CallFailed) as caught:
        runner.run(server.send(asked("word " * 600)))
    assert caught.value.reason is Reason.CONTEXT_TOO_LONG


@pytest.mark.parametrize("victim", ["engine", "server"])
def test_when_it_is_killed_it_is_started_again_and_every_request_answered(
    runner: asyncio.Runner, server: VllmServer, victim: str
) -> None:
    requests = [asked(f"What is {i} plus 5?", n=2, seed=i, temperature=1.5, max_tokens=100) for i in range(40)]

    async def hit() -> list[list[str]]:
        pid = server.servers[0].pid
        assert pid is not None
        tasks = [asyncio.create_task(server.send(r)) for r in requests]
        await until(lambda: sum(t.done() for t in tasks) >= 3)
        inner = max(group_of(pid))
        os.kill(pid if victim == "server" else inner, signal.SIGKILL)
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
