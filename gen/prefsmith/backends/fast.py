"""The short way to an endpoint whose headers never change: what the SDK would send, without building it each time.

URL and headers are taken from one real request of the SDK that never reaches the road; then bytes go out over the same
transport. Whatever is no 2xx goes back through the SDK, so that its error classes are all that anyone sees.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, NamedTuple

import httpx2
import openai
import orjson
from multidict import CIMultiDict
from yarl import URL

from prefsmith.backends.transport import Answer, Transport, intercepted
from prefsmith.records import Json

TAKEN_FOR_S = 900.0
"""The SDK may have come to send something else since; a fresh look costs one request that is not sent."""


class _Head(NamedTuple):
    url: URL
    headers: CIMultiDict[str]
    until_s: float


class Fast:
    def __init__(self, client: openai.AsyncOpenAI, transport: Transport, options: Any) -> None:
        """`options`: what the SDK is told with each request."""
        self._client = client
        self._transport = transport
        self._options = options
        self._heads: dict[tuple[str, str], _Head] = {}
        self._one_at_a_time = asyncio.Lock()

    async def post(self, path: str, body: dict[str, Json]) -> Answer:
        """A 2xx. Raises httpx2.TransportError, and openai.APIStatusError for any other status."""
        content = orjson.dumps(body)
        # Azure's URL holds the model's name.
        model = (path, body["model"])
        head = self._heads.get(model)
        if head is None or time.monotonic() > head.until_s:
            async with self._one_at_a_time:
                head = self._heads.get(model)
                if head is None or time.monotonic() > head.until_s:
                    head = self._heads[model] = await self._taken(path, body)
        answer = await self._transport.exchange("POST", head.url, head.headers, content)
        if 200 <= answer.status < 300:
            return answer
        if answer.status == 401:
            self._heads.clear()
        with intercepted(lambda _: answer):
            await self._post(path, body)
        raise AssertionError("the SDK took no offence at a status that is no 2xx")

    async def _taken(self, path: str, body: dict[str, Json]) -> _Head:
        seen: list[httpx2.Request] = []

        def see(request: httpx2.Request) -> Answer:
            seen.append(request)
            return Answer(200, {"content-type": "application/json"}, b"{}")

        with intercepted(see):
            await self._post(path, body)
        kept = [(k, v) for k, v in seen[0].headers.multi_items() if k.lower() != "content-length"]
        return _Head(URL(str(seen[0].url), encoded=True), CIMultiDict(kept), time.monotonic() + TAKEN_FOR_S)

    async def _post(self, path: str, body: dict[str, Json]) -> None:
        await self._client.post(path, cast_to=httpx2.Response, body=body, options=self._options)
