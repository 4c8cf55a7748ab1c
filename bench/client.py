"""What a request costs the client: `python bench/client.py [--requests N] [--at 64 256] [--ways …] [--repeat N]`.

One loopback server whose CPU is not counted, one short question, one answer of 240 bytes, so many requests in flight
the whole time. Each way to ask is a process of its own; its imports and its first round, which opens connections, are
not counted. Two ways that people take; ours, every request through the SDK (lane A) or the SDK's headers taken once
(lane B); and aiohttp with orjson, which checks nothing.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack

from engine import server
from measure import HERE, Row, Spent, Yardstick, median, parser, report, step

QUESTION = "Tell me in three sentences what a traveller should know about the village before noon."
MESSAGES = ({"role": "user", "content": QUESTION},)
Ask = Callable[[int], Awaitable[str]]
"""Sends a request with this seed; returns the text of its answer."""
WAYS = {
    "sdk": "AsyncOpenAI as it comes",
    "sdk-aiohttp": "AsyncOpenAI over DefaultAioHttpClient",
    "lane-a": "prefsmith, through the SDK (lane A)",
    "lane-b": "prefsmith, headers taken once (lane B)",
    "aiohttp": "aiohttp and orjson, bare",
}


async def by_sdk(url: str, stack: AsyncExitStack, over_aiohttp: bool) -> Ask:
    import openai

    http = openai.DefaultAioHttpClient() if over_aiohttp else None
    client = await stack.enter_async_context(openai.AsyncOpenAI(base_url=url, api_key="none", http_client=http))

    async def ask(seed: int) -> str:
        reply = await client.chat.completions.create(
            model="fake",
            messages=list(MESSAGES),
            temperature=0.7,
            max_tokens=200,
            seed=seed,  # type: ignore[arg-type]
        )
        return reply.choices[0].message.content or ""

    return ask


async def by_prefsmith(url: str, stack: AsyncExitStack, fast: bool) -> Ask:
    from prefsmith.backends.access import Access
    from prefsmith.backends.openai_compatible import OpenAICompatible
    from prefsmith.records import Capabilities, Request, Sampling

    backend = OpenAICompatible(
        Access(url=url), target="bench", endpoint="bench", server="openai", capabilities=Capabilities(frozenset()),
        fast=fast,
    )  # fmt: skip
    await backend.open((), 0)
    stack.push_async_callback(backend.close)
    request = Request("fake", MESSAGES, Sampling(temperature=0.7, max_tokens=200))  # type: ignore[arg-type]

    async def ask(seed: int) -> str:
        reply = await backend.send(request._replace(seed=seed))
        return reply.choices[0].message["content"] or ""

    return ask


async def by_aiohttp(url: str, stack: AsyncExitStack) -> Ask:
    import aiohttp
    import orjson

    connector = aiohttp.TCPConnector(limit=0)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
    body = {"model": "fake", "messages": MESSAGES, "temperature": 0.7, "max_tokens": 200}
    headers = {"Content-Type": "application/json"}

    async def ask(seed: int) -> str:
        raw = orjson.dumps({**body, "seed": seed})
        async with session.post(f"{url}/chat/completions", data=raw, headers=headers) as reply:
            text: str = orjson.loads(await reply.read())["choices"][0]["message"]["content"]
            return text

    return ask


async def asked(way: str, url: str, at: int, n: int) -> dict[str, float]:
    """Keep `at` requests in flight until `n` are answered; a round of `at` before that is not counted."""
    async with AsyncExitStack() as stack:
        if way.startswith("sdk"):
            ask = await by_sdk(url, stack, way == "sdk-aiohttp")
        elif way.startswith("lane"):
            ask = await by_prefsmith(url, stack, way == "lane-b")
        else:
            ask = await by_aiohttp(url, stack)
        n_failed = 0

        async def work(seeds: Iterator[int]) -> None:
            nonlocal n_failed
            for seed in seeds:
                try:
                    assert await ask(seed)
                except Exception as error:
                    n_failed += 1
                    print(f"{type(error).__name__}: {error}", file=sys.stderr)

        for k in (at, n):
            seeds, before_s = iter(range(k)), time.process_time()
            await asyncio.gather(*(work(seeds) for _ in range(at)))
        return {"n_failed": n_failed, "cpu_s": time.process_time() - before_s}


def rows_of(url: str, at: int, n: int, ways: Sequence[str], repeat: int, yard: Yardstick) -> list[Row]:
    runs: dict[str, list[Spent]] = {way: [] for way in ways}
    for _ in range(repeat):
        for way in ways:
            runs[way].append(yard.spend(HERE / "client.py", "ask", way, url, str(at), str(n)))
    rows = []
    for way, spent in runs.items():
        failed = int(max(run.said["n_failed"] for run in spent))
        what = f"{at} at once: {WAYS[way]}" + (f", {failed} FAILED" if failed else "")
        rows.append(Row(what, median(spent, step).times(1e3 / n), "ms a request"))
    return rows


def main() -> int:
    if sys.argv[1:2] == ["ask"]:
        way, url, at, n = sys.argv[2:]
        print(json.dumps(asyncio.run(asked(way, url, int(at), int(n)))))
        return 0
    arguments = parser(__doc__)
    arguments.add_argument("--requests", type=int, default=3_000)
    arguments.add_argument("--at", type=int, nargs="+", default=[64, 256], help="requests in flight")
    arguments.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=list(WAYS))
    args = arguments.parse_args()
    started, yardstick, rows = time.monotonic(), Yardstick(), list[Row]()
    with server() as (url, _):
        for at in args.at:
            rows += rows_of(url, at, args.requests, args.ways, args.repeat, yardstick)
    title = f"bench/client.py, {args.requests:,} requests, median of {args.repeat}"
    report(title, rows, yardstick, time.monotonic() - started)
    return 0


if __name__ == "__main__":
    sys.exit(main())
