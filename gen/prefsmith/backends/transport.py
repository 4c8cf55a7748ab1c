"""The SDK's bytes over aiohttp: a transport for httpx2 that costs a third of its own, and the same road by itself.

One session, its connections kept alive and opened a few at a time. A whole reply is read before anyone sees it: no
streaming. Every failure leaves as httpx2's, split by what matters later: was the request sent in full?
It knows neither bodies nor keys, and never tries twice.
"""

from __future__ import annotations

import asyncio
import resource
import ssl
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import aiohttp
import httpx2
from aiohttp.abc import AbstractStreamWriter
from yarl import URL

from prefsmith.backends.access import Route
from prefsmith.errors import UsageError

CONNECT_S = 30.0
"""The SDK's 5 s are too short for hundreds of cold connections at once: each costs milliseconds of the same loop."""
KEEP_ALIVE_S = 4.0
"""Below the 5 s after which uvicorn (vLLM) closes an idle connection: else a request may meet the closing."""
N_CONNECTING = 32
"""New connections on their way at a time: a thousand cold ones at once time each other out, or overrun the listener's
queue, whose refusals look like a server that is down."""
_DNS_S = 60
_MANY_FILES, _OTHER_FILES = 65_536, 64
_FRAMING = frozenset({b"content-encoding", b"content-length", b"transfer-encoding"})
"""True of the bytes on the road, no longer of those that are handed on."""


class Answer(NamedTuple):
    """A whole reply, unpacked; `headers` is read without regard to case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


ANSWER = "prefsmith.answer"
"""Where a response of the SDK holds the answer that it was made of: httpx2 reads its own headers slowly."""
Instead = Callable[[httpx2.Request], Answer]
_INSTEAD: ContextVar[Instead | None] = ContextVar("instead", default=None)


class Transport(httpx2.AsyncBaseTransport):
    """Made inside the event loop that uses it. `timeout_s`: longest silence, and with `CONNECT_S` the longest whole."""

    def __init__(self, url: str, route: Route, timeout_s: float) -> None:
        proxy = route.proxy_of(url)
        secure = urlsplit(url).scheme == "https"
        self._proxied: dict[str, Any] = {} if proxy is None else _proxied(proxy)
        self._headers: dict[str, str] = {} if secure else self._proxied.pop("proxy_headers", {})
        self._session = aiohttp.ClientSession(
            connector=_Ramp(route.tls() if secure or (proxy or "").startswith("https:") else True),
            timeout=aiohttp.ClientTimeout(timeout_s + CONNECT_S, sock_connect=CONNECT_S, sock_read=timeout_s),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent",),
        )

    async def exchange(self, method: str, url: URL, headers: Mapping[str, str], content: bytes) -> Answer:
        """One request and its whole reply, whatever its status. Raises httpx2.TransportError."""
        body = _Body(content)
        if self._headers:
            headers = {**headers, **self._headers}
        try:
            async with self._session.request(
                method, url, headers=headers, data=body if content else None, allow_redirects=False, **self._proxied
            ) as response:
                return Answer(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _translated(error, sent=body.sent) from error

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        instead = _INSTEAD.get()
        if instead is not None:
            answer = instead(request)
        else:
            headers = dict(request.headers.multi_items())
            url = URL(str(request.url), encoded=True)
            answer = await self.exchange(request.method, url, headers, request.content)
        raw = [(k.encode(), v.encode("utf-8", "surrogateescape")) for k, v in answer.headers.items()]
        kept = [(name, value) for name, value in raw if name.lower() not in _FRAMING]
        return httpx2.Response(answer.status, headers=kept, content=answer.content, extensions={ANSWER: answer})

    async def aclose(self) -> None:
        await self._session.close()


def make_room(n: int) -> None:
    """Let this process hold `n` connections: the usual limit of 1,024 open files is soon met. Raises UsageError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, _MANY_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft != resource.RLIM_INFINITY and soft < n + _OTHER_FILES:
        raise UsageError(
            f"concurrency {n} needs as many open files, and this process may have {soft}; raise the limit "
            f"(`ulimit -n {n + _OTHER_FILES}`) or lower concurrency to {max(1, soft - _OTHER_FILES)}"
        )


@contextmanager
def intercepted(instead: Instead) -> Iterator[None]:
    """What this task sends through a transport meanwhile goes to `instead`, not to the server."""
    before = _INSTEAD.set(instead)
    try:
        yield
    finally:
        _INSTEAD.reset(before)


class _Ramp(aiohttp.TCPConnector):
    """A pool without a bound, which the limiter in front of it has, that opens few connections at a time."""

    def __init__(self, tls: ssl.SSLContext | bool) -> None:
        super().__init__(ssl=tls, limit=0, keepalive_timeout=KEEP_ALIVE_S, ttl_dns_cache=_DNS_S)
        self._gate = asyncio.Semaphore(N_CONNECTING)

    async def _create_connection(self, *args: Any, **kwargs: Any) -> Any:
        async with self._gate:
            return await super()._create_connection(*args, **kwargs)


class _Body(aiohttp.Payload):
    """JSON bytes that remember whether all of them were handed to the socket."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content, content_type="application/json")
        self._content = content
        self.sent = not content

    @property
    def size(self) -> int:
        return len(self._content)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self._content.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await writer.write(self._content)
        self.sent = True

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        await self.write(writer)


def _proxied(proxy: str) -> dict[str, Any]:
    """Arguments of a request through this proxy; user and password leave its URL and become a header."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return {"proxy": proxy}
    told = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    return {"proxy": bare, "proxy_headers": {"Proxy-Authorization": f"Basic {b64encode(told).decode()}"}}


def _translated(error: Exception, *, sent: bool) -> httpx2.TransportError:
    """aiohttp's failure as httpx2's: Connect… and Write… were never sent in full, Read… may have been paid for."""
    told = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return httpx2.UnsupportedProtocol(told)
    if isinstance(error, aiohttp.ClientHttpProxyError | aiohttp.ClientProxyConnectionError):
        return httpx2.ProxyError(told)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return httpx2.ConnectTimeout(told)
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ServerFingerprintMismatch):
        return httpx2.ConnectError(told)
    if isinstance(error, TimeoutError):
        return httpx2.ReadTimeout(told) if sent else httpx2.WriteTimeout(told)
    if isinstance(error, aiohttp.ClientResponseError):
        return httpx2.RemoteProtocolError(told)
    return httpx2.ReadError(told) if sent else httpx2.WriteError(told)
