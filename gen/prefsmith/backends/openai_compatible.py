"""One backend for every server that speaks OpenAI's chat completions: api.openai.com, vLLM, llama.cpp, proxies.

The openai package sends, authenticates and names its errors; retries, waiting and rates are not its business here.
Only its public API is used, by the cheap path: the body goes in as a mapping, the response comes back as bytes.
It does not know prompts, keys of the ledger or what a reply is for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from prefsmith.backends import wire
from prefsmith.backends.failures import from_openai, redacted
from prefsmith.errors import CallFailed
from prefsmith.reasons import Reason
from prefsmith.records import Capabilities, Json, Message, Reply, Request, Sampling

if TYPE_CHECKING:
    import openai

OPENAI_HOST = "api.openai.com"
CONNECT_S = 30.0
"""The SDK's 5 s are too short for hundreds of cold connections at once: each costs milliseconds of the same loop."""
POOL = 16
"""Connections of one client. httpcore2 walks its whole pool twice per request: with 256 connections in one pool a
request cost 1.9 ms of CPU, in pools of 16 it costs 1.2 ms, nearly as with few."""
KEEP_ALIVE_S = 4.0
"""Below the 5 s after which uvicorn (vLLM) closes an idle connection: else a request may meet the closing."""


class OpenAICompatible:
    def __init__(
        self,
        *,
        target: str,
        endpoint: str,
        url: str,
        server: wire.Server,
        capabilities: Capabilities,
        max_tokens_field: wire.MaxTokensField = "max_tokens",
        key: str | None = None,
        key_name: str | None = None,
        timeout_s: float = 600.0,
    ) -> None:
        """`url` ends before /chat/completions. `key_name`: the variable that holds the key, for messages."""
        self.target = target
        self.endpoint = endpoint
        self._url = url
        self._server: wire.Server = server
        self._capabilities = capabilities
        self._max_tokens_field: wire.MaxTokensField = max_tokens_field
        self._key = key
        self._key_name = key_name
        self._timeout_s = timeout_s
        self._clients: list[openai.AsyncOpenAI] = []
        self._in_flight: list[int] = []
        self._headers: dict[str, str | openai.Omit] = {}
        self._fields: dict[Sampling, Mapping[str, Json]] = {}

    async def open(self, longest: Sequence[tuple[Message, ...]], extra_tokens: int) -> None:
        del longest, extra_tokens  # a server far away was started with the context that it has
        if not self._clients:
            self._clients = self._connected()
            self._in_flight = [0] * len(self._clients)

    def _connected(self) -> list[openai.AsyncOpenAI]:
        """Clients with a small connection pool each, enough of them for every request in flight."""
        import httpx2
        import openai

        url = httpx2.URL(self._url)
        # The SDK fills these from OPENAI_… variables, which are not meant for just any server.
        if url.host != OPENAI_HOST:
            self._headers |= {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
        if self._key is None:
            self._headers["Authorization"] = openai.Omit()
        n_clients = -(-self._capabilities.concurrency // POOL)
        timeout = httpx2.Timeout(self._timeout_s, connect=CONNECT_S)
        limits = httpx2.Limits(max_connections=POOL, max_keepalive_connections=POOL, keepalive_expiry=KEEP_ALIVE_S)
        tls = httpx2.create_ssl_context()
        # A proxy of the environment must not catch this machine's own address.
        trust_env = url.host not in ("127.0.0.1", "::1", "localhost")
        return [
            openai.AsyncOpenAI(
                api_key=self._key or "none",
                base_url=self._url,
                max_retries=0,
                timeout=timeout,
                http_client=httpx2.AsyncClient(verify=tls, timeout=timeout, limits=limits, trust_env=trust_env),
            )
            for _ in range(n_clients)
        ]

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def facts(self) -> Mapping[str, Json]:
        return {"url": self._url, "server": self._server, "max_tokens_field": self._max_tokens_field}

    async def send(self, request: Request) -> Reply:
        try:
            return await self._post(request)
        except CallFailed as failed:
            secrets = (self._key,) if self._key else ()
            failed.detail = redacted(failed.detail, secrets)
            failed.args = (f"{failed.reason}: {failed.detail}",)
            raise

    async def _post(self, request: Request) -> Reply:
        """The boundary: whatever the SDK raises leaves here as CallFailed."""
        import httpx2
        import openai

        if not self._clients:
            raise RuntimeError("a backend is opened before it sends")
        body = wire.body_of(request, self._sampling(request.sampling))
        at = self._in_flight.index(min(self._in_flight))
        self._in_flight[at] += 1
        try:
            # httpx2's own limit is per read: a server that drips a byte a minute would never end.
            async with asyncio.timeout(self._timeout_s + CONNECT_S):
                response = await self._clients[at].post(
                    "/chat/completions", cast_to=httpx2.Response, body=body, options={"headers": self._headers}
                )
        except openai.OpenAIError as error:
            raise from_openai(error, model=request.model, url=self._url, key_name=self._key_name) from None
        except TimeoutError:
            detail = f"no whole reply from {self._url} in time"
            raise CallFailed(Reason.TIMEOUT, detail, maybe_billed=True) from None
        except UnicodeEncodeError as error:
            raise CallFailed(Reason.BAD_REQUEST, f"the request is no UTF-8: {error}") from None
        finally:
            self._in_flight[at] -= 1
        headers = response.headers
        return wire.reply_of(
            response.content,
            request.n,
            content_type=headers.get("content-type", ""),
            request_id=headers.get("x-request-id"),
        )

    def _sampling(self, sampling: Sampling) -> Mapping[str, Json]:
        """The body's sampling part, made once for each cell of the grid."""
        fields = self._fields.get(sampling)
        if fields is None:
            fields = wire.sampling_fields(sampling, self._server, self._max_tokens_field)
            self._fields[sampling] = fields
        return fields

    async def close(self) -> None:
        clients, self._clients = self._clients, []
        for client in clients:
            await client.close()
