"""The short way: the SDK's own request, taken once, and its own errors."""

from __future__ import annotations

import asyncio
from pathlib import Path

import openai
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from prefsmith.backends import fast as module
from prefsmith.backends.access import Access
from prefsmith.backends.fast import Fast
from prefsmith.backends.transport import Transport

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "n": 1}


def on_server(answer, use):
    """What `use` makes of the short way to a server that answers so, and the heads and bodies that it saw."""
    seen = []

    async def main():
        async def handle(call):
            seen.append((call.headers.copy(), await call.json()))
            return await answer(call)

        app = web.Application()
        app.router.add_post("/v1/chat/completions", handle)
        async with TestServer(app) as server:
            access = Access(str(server.make_url("/v1")), key="sk-1")
            transport = Transport(access.url, access.route, 5.0)
            client = access.client(transport)
            options = {"headers": access.without()}
            try:
                return await use(Fast(client, transport, options), client, options)
            finally:
                await client.close()

    return asyncio.run(main()), seen


async def fine(call):
    return web.json_response({"ok": True}, headers={"x-request-id": "r1"})


def test_the_request_is_the_sdks_own_and_only_the_body_changes():
    async def use(fast, client, options):
        import httpx2

        await client.post("/chat/completions", cast_to=httpx2.Response, body=BODY, options=options)
        await fast.post("/chat/completions", BODY)
        return await fast.post("/chat/completions", {**BODY, "n": 2})

    answer, seen = on_server(fine, use)
    (by_sdk, body), (first, body_1), (second, body_2) = seen
    assert (answer.status, answer.content, answer.headers["X-Request-ID"]) == (200, b'{"ok": true}', "r1")
    assert dict(by_sdk) | {"Content-Length": ""} == dict(first) | {"Content-Length": ""}
    assert dict(first) == dict(second)
    assert not [name for name in by_sdk if "stainless" in name.lower()]
    assert body == body_1 == BODY
    assert body_2 == {**BODY, "n": 2}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, openai.RateLimitError),
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (503, openai.InternalServerError),
        (307, openai.APIStatusError),
    ],
)
def test_a_refusal_is_the_sdks_error_and_was_asked_once(status, kind):
    async def refuse(call):
        error = {"error": {"message": "no", "code": "because", "param": "n"}}
        return web.json_response(error, status=status, headers={"retry-after": "7"})

    async def use(fast, client, options):
        with pytest.raises(kind) as raised:
            await fast.post("/chat/completions", BODY)
        return raised.value

    error, seen = on_server(refuse, use)
    assert len(seen) == 1
    assert (error.status_code, error.response.headers["retry-after"]) == (status, "7")
    if status != 307:
        assert (error.code, error.param, error.body["message"]) == ("because", "n", "no")


def test_many_at_once_take_the_headers_once_and_a_401_takes_them_again():
    n_taken, n_calls = 0, 0

    async def answer(call):
        nonlocal n_calls
        n_calls += 1
        return web.json_response({}, status=401 if n_calls == 21 else 200)

    async def use(fast, client, options):
        nonlocal n_taken
        post = client.post

        async def counted(*args, **kwargs):
            nonlocal n_taken
            n_taken += 1
            return await post(*args, **kwargs)

        client.post = counted
        await asyncio.gather(*(fast.post("/chat/completions", BODY) for _ in range(20)))
        taken_at_first = n_taken
        with pytest.raises(openai.AuthenticationError):
            await fast.post("/chat/completions", BODY)
        refused = n_taken
        await fast.post("/chat/completions", BODY)
        return taken_at_first, refused - taken_at_first, n_taken - refused

    taken, seen = on_server(answer, use)
    assert taken == (1, 1, 1), "once for all, once for the error, once anew"
    assert len(seen) == 22


def test_it_is_short():
    assert len(Path(module.__file__).read_text().splitlines()) <= 100
