"""A real HTTP server on loopback that answers as the test says, and the backend that talks to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from multidict import CIMultiDict

from prefsmith.backends.declared import servers
from prefsmith.endpoints import Endpoint
from prefsmith.errors import CallFailed
from prefsmith.records import Reply, Request, Sampling

HELLO = ({"role": "user", "content": "Say hello."},)
REQUEST = Request("some-model", HELLO, Sampling(temperature=0.7, max_tokens=50), 1, 11)
Answer = Any
"""A JSON value (200), bytes (200, as JSON), or a function of the aiohttp request."""


@dataclass
class Heard:
    """What came of one request, and what the server saw."""

    reply: Reply | None = None
    failed: CallFailed | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[CIMultiDict[str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


async def _ask(answer: Answer, request: Request, options: dict[str, Any], fast: bool, models: Answer) -> Heard:
    heard = Heard()

    async def handle(call: web.Request) -> web.StreamResponse:
        heard.bodies.append(await call.json())
        heard.headers.append(call.headers.copy())
        heard.paths.append(call.path)
        if callable(answer):
            response: web.StreamResponse = await answer(call)
            return response
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/json")
        return web.json_response(answer)

    app = web.Application()

    async def listed(call: web.Request) -> web.StreamResponse:
        heard.paths.append(call.path)
        return web.json_response(models) if models is not None else web.Response(status=404)

    app.router.add_post("/{path:.*}", handle)
    app.router.add_get("/{path:.*}", listed)
    async with TestServer(app) as server:
        path = "" if "azure" in options else "/v1"
        endpoint = Endpoint(urls=[str(server.make_url(path))], **options)
        ((make, _), *_rest) = servers("farm", "farm", endpoint).members
        backend = make(fast=fast)
        await backend.open((), 0)
        try:
            heard.reply = await backend.send(request)
        except CallFailed as failed:
            heard.failed = failed
        finally:
            await backend.close()
    return heard


@pytest.fixture
def ask() -> Callable[..., Heard]:
    def run(
        answer: Answer, request: Request = REQUEST, *, fast: bool = True, models: Answer = None, **options: Any
    ) -> Heard:
        return asyncio.run(_ask(answer, request, options, fast, models))

    return run


@pytest.fixture
def request_() -> Request:
    return REQUEST


@pytest.fixture
def completion() -> Callable[..., dict[str, Any]]:
    """A chat completion of these texts, as a server writes it."""

    def make(*texts: str, **more: Any) -> dict[str, Any]:
        choices = [
            {"index": i, "message": {"role": "assistant", "content": t}, "finish_reason": "stop"}
            for i, t in enumerate(texts)
        ]
        usage = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
        return {"object": "chat.completion", "model": "served", "choices": choices, "usage": usage} | more

    return make


@pytest.fixture
def cut_connection() -> Callable[[bytes], Awaitable[tuple[asyncio.Server, str]]]:
    """A server that writes these bytes to whoever asks, and hangs up."""

    async def start(raw: bytes) -> tuple[asyncio.Server, str]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(65536)
            writer.write(raw)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"

    return start
