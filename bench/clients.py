"""What people write without a tool, over four clients: `clients.py CLIENT URL PROMPTS N [CONCURRENCY [TIMEOUT_S]]`.

    sdk       AsyncOpenAI as it comes: the usual script
    sdk-aio   AsyncOpenAI with the SDK's aiohttp client
    aiohttp   aiohttp and orjson, no SDK
    sockets   an asyncio.Protocol and orjson: the floor

One task a prompt behind one Semaphore: 4 samples at 4 temperatures, one request each, one verdict on the four, the
pair into a JSONL file. An exception loses its row, as it does for people. Nothing outlives a crash, nothing is checked.
Its last line is JSON, as `job.py` has it: what it cost with imports done, its most memory, rows and losses.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any, Protocol, TextIO

import orjson
from answers import MODEL, TEMPERATURES, question
from measure import hwm_mb
from stub import many_files

_VERDICT = re.compile(r"VERDICT: (\d) (\d)")


class Client(Protocol):
    async def ask(self, content: str, temperature: float) -> str: ...
    async def close(self) -> None: ...


class Sdk:
    def __init__(self, url: str, timeout_s: float, *, aio: bool) -> None:
        from openai import AsyncOpenAI, DefaultAioHttpClient

        http = DefaultAioHttpClient() if aio else None
        self._client = AsyncOpenAI(base_url=url, api_key="bench", timeout=timeout_s, http_client=http)

    async def ask(self, content: str, temperature: float) -> str:
        reply = await self._client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": content}], temperature=temperature
        )
        return reply.choices[0].message.content or ""

    async def close(self) -> None:
        await self._client.close()


def body_of(content: str, temperature: float) -> bytes:
    return orjson.dumps(
        {"model": MODEL, "messages": [{"role": "user", "content": content}], "temperature": temperature}
    )


def said(raw: bytes) -> str:
    return str(orjson.loads(raw)["choices"][0]["message"]["content"])


class Aiohttp:
    def __init__(self, url: str, timeout_s: float, concurrency: int) -> None:
        import aiohttp

        self._url = f"{url}/chat/completions"
        self._session = aiohttp.ClientSession(
            headers={"Authorization": "Bearer bench", "Content-Type": "application/json"},
            connector=aiohttp.TCPConnector(limit=concurrency),
            timeout=aiohttp.ClientTimeout(timeout_s),
        )

    async def ask(self, content: str, temperature: float) -> str:
        async with self._session.post(self._url, data=body_of(content, temperature)) as response:
            response.raise_for_status()
            return said(await response.read())

    async def close(self) -> None:
        await self._session.close()


class Socket(asyncio.Protocol):
    """One connection, one request at a time; reads a status and a Content-Length and nothing else."""

    def __init__(self) -> None:
        self._got = b""
        self._reply: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._out = transport

    def send(self, raw: bytes) -> asyncio.Future[bytes]:
        self._out.write(raw)
        self._reply = asyncio.get_running_loop().create_future()
        return self._reply

    def data_received(self, data: bytes) -> None:
        data = self._got + data
        end = data.find(b"\r\n\r\n")
        at = data.find(b"content-length: ", 0, end) + 16
        if end < 0 or len(data) < end + 4 + int(data[at : data.find(b"\r", at)]):
            self._got = data
            return
        self._got, reply, self._reply = b"", self._reply, None
        assert reply is not None
        if data.startswith(b"HTTP/1.1 200"):
            reply.set_result(data[end + 4 :])
        else:
            reply.set_exception(ConnectionError(data[:12].decode()))

    def connection_lost(self, error: Exception | None) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error or ConnectionError("closed"))

    def close(self) -> None:
        self._out.close()


class Sockets:
    def __init__(self, url: str) -> None:
        self._port = int(url.split(":")[2].partition("/")[0])
        self._idle: deque[Socket] = deque()

    async def ask(self, content: str, temperature: float) -> str:
        body = body_of(content, temperature)
        head = (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer bench\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        )
        if self._idle:
            one = self._idle.pop()
        else:
            _, one = await asyncio.get_running_loop().create_connection(Socket, "127.0.0.1", self._port)
        raw = await one.send(head + body)
        self._idle.append(one)
        return said(raw)

    async def close(self) -> None:
        for one in self._idle:
            one.close()


def made(name: str, url: str, timeout_s: float, concurrency: int) -> Client:
    if name == "aiohttp":
        return Aiohttp(url, timeout_s, concurrency)
    if name == "sockets":
        return Sockets(url)
    return Sdk(url, timeout_s, aio=name == "sdk-aio")


async def work(client: Client, prompts: list[str], concurrency: int, out: TextIO) -> dict[str, Any]:
    limit, lost = asyncio.Semaphore(concurrency), Counter[str]()

    async def ask(content: str, temperature: float) -> str:
        async with limit:
            return await client.ask(content, temperature)

    async def one(prompt: str) -> None:
        try:
            texts = await asyncio.gather(*(ask(prompt, t) for t in TEMPERATURES))
            found = _VERDICT.search(await ask(question(prompt, texts), 0.0))
            if found is None:
                raise ValueError("no verdict")
        except Exception as error:
            lost[type(error).__name__] += 1
            return
        best, worst = (texts[int(digit) - 1] for digit in found.groups())
        out.write(json.dumps({"prompt": prompt, "chosen": best, "rejected": worst}) + "\n")

    await asyncio.gather(*(one(prompt) for prompt in prompts))
    await client.close()
    return {"n": len(prompts) - lost.total(), "n_lost": lost.total(), "lost": dict(lost)}


async def measured(client: Client, prompts: list[str], concurrency: int, out: TextIO) -> dict[str, Any]:
    cpu, wall = time.process_time(), time.monotonic()
    counted = await work(client, prompts, concurrency, out)
    spent = {"cpu_s": time.process_time() - cpu, "wall_s": time.monotonic() - wall, "hwm_mb": hwm_mb()}
    return {**spent, **counted}


def main() -> None:
    name, url, path, n, concurrency, timeout_s = (*sys.argv[1:], "64", "600")[:6]
    many_files()
    prompts = [json.loads(line)["prompt"] for line in Path(path).read_text().splitlines()[: int(n)]]

    async def all_of_it(out: TextIO) -> dict[str, Any]:
        client = made(name, url, float(timeout_s), int(concurrency))
        return await measured(client, prompts, int(concurrency), out)

    with Path(path).with_suffix(f".{name}.pairs").open("w") as out:
        print(json.dumps(asyncio.run(all_of_it(out))))


if __name__ == "__main__":
    main()
