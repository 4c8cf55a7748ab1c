"""The road: connections, TLS and proxies on real sockets, and how far a request had come when it failed."""

from __future__ import annotations

import asyncio
import gzip
import resource
import ssl
from pathlib import Path
from typing import ClassVar

import httpx2
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from yarl import URL

from prefsmith.backends.access import Access, Route
from prefsmith.backends.openai_compatible import OpenAICompatible
from prefsmith.backends.transport import N_CONNECTING, Transport, make_room
from prefsmith.errors import CallFailed, UsageError
from prefsmith.reasons import Reason
from prefsmith.records import Capabilities

TLS = Path(__file__).parent.parent / "data" / "tls"
LINE = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
DIRECT = Route(proxy="none")


def exchanged(handle, body=b"{}", route=DIRECT, timeout_s=5.0):
    """What one POST to a server of raw streams ends in."""

    async def closing(reader, writer):
        try:
            await handle(reader, writer)
        finally:
            writer.close()

    async def main():
        server = await asyncio.start_server(closing, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        transport = Transport(url, route, timeout_s)
        try:
            return await transport.exchange("POST", URL(url), {"Content-Type": "application/json"}, body)
        except httpx2.TransportError as error:
            return error
        finally:
            await transport.aclose()
            server.close()

    return asyncio.run(asyncio.wait_for(main(), 20))


async def whole_request(reader):
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
    return head + await reader.readexactly(length)


def test_a_whole_reply_comes_back_with_its_headers_and_unpacked():
    packed = gzip.compress(b'{"a": 1}')

    async def handle(reader, writer):
        await whole_request(reader)
        head = (
            f"HTTP/1.1 299 Odd\r\nX-Request-Id: r1\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
        )
        writer.write(head.encode() + packed)

    answer = exchanged(handle)
    assert (answer.status, answer.content, answer.headers["x-request-id"]) == (299, b'{"a": 1}', "r1")


def test_a_server_that_hangs_up_after_the_request_may_have_worked():
    async def handle(reader, writer):
        await whole_request(reader)

    assert isinstance(exchanged(handle), httpx2.ReadError)


def test_a_request_that_was_not_sent_in_full_cost_nothing():
    """Far more than the sockets' buffers hold, to a server that reads the head and hangs up."""

    async def handle(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    error = exchanged(handle, b"x" * 64_000_000)
    assert isinstance(error, httpx2.WriteError)


def test_a_server_that_says_nothing_in_time_may_have_worked():
    async def handle(reader, writer):
        await whole_request(reader)
        await asyncio.sleep(1)

    assert isinstance(exchanged(handle, timeout_s=0.2), httpx2.ReadTimeout)


def test_what_is_no_http_may_have_been_billed():
    async def handle(reader, writer):
        await whole_request(reader)
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")

    assert isinstance(exchanged(handle), httpx2.RemoteProtocolError)


def test_a_redirect_is_not_followed():
    """The key would go along, to wherever the answer says."""

    async def handle(reader, writer):
        await whole_request(reader)
        writer.write(b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n")

    assert exchanged(handle).status == 307


class Gate(asyncio.Protocol):
    """Answers nobody until `n_wanted` requests have arrived, each on its own connection; then everybody."""

    n_wanted = 0
    answer = b""
    arrived: ClassVar[list[asyncio.Transport]] = []

    def connection_made(self, transport):
        self.out, self.got = transport, b""

    def data_received(self, data):
        self.got += data
        head, end, rest = self.got.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
        if end and len(rest) >= length:
            self.arrived.append(self.out)
            if len(self.arrived) == Gate.n_wanted:
                for out in self.arrived:
                    out.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(Gate.answer), Gate.answer))


@pytest.mark.parametrize(("at_once", "fast"), [(1024, False), (1024, True), (4096, True)])
def test_thousands_are_in_flight_at_once_and_all_come_back(at_once, fast, request_, completion):
    """The SDK's own client ends in connect time-outs at 1,024."""
    Gate.n_wanted, Gate.answer = at_once, orjson.dumps(completion("x"))
    Gate.arrived.clear()

    async def main():
        make_room(2 * at_once)
        server = await asyncio.get_running_loop().create_server(Gate, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        can = Capabilities(frozenset(), 1, at_once)
        backend = OpenAICompatible(Access(url), target="t", endpoint="t", server="openai", capabilities=can, fast=fast)
        await backend.open((), 0)
        replies = await asyncio.gather(*(backend.send(request_._replace(seed=i)) for i in range(at_once)))
        await backend.close()
        server.close()
        return len(replies)

    assert asyncio.run(main()) == at_once


def test_connections_are_opened_a_few_at_a_time():
    """Seen by a proxy that takes its time over each tunnel."""
    waiting = peak = 0

    async def main():
        async def handle(reader, writer):
            nonlocal waiting, peak
            await reader.readuntil(b"\r\n\r\n")
            waiting += 1
            peak = max(peak, waiting)
            await asyncio.sleep(0.05)
            waiting -= 1
            writer.write(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        proxy = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        transport = Transport("https://host.invalid/v1", Route(proxy=proxy), 5.0)
        asked = (transport.exchange("POST", URL("https://host.invalid/v1"), {}, b"{}") for _ in range(100))
        ends = await asyncio.gather(*asked, return_exceptions=True)
        await transport.aclose()
        server.close()
        return ends

    ends = asyncio.run(main())
    assert {type(end) for end in ends} == {httpx2.ProxyError}, "a tunnel that is refused was never a request"
    assert peak == N_CONNECTING


def test_room_is_made_for_connections_and_too_many_are_refused():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        make_room(512)
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= 576
        with pytest.raises(UsageError, match="concurrency 99000000 needs as many open files"):
            make_room(99_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- TLS


def served(route, request_, completion, *, asks_who=False):
    """One request to a server with the test certificate; `asks_who`: it wants a certificate too."""

    async def main():
        async def handle(call):
            return web.json_response(completion("safe"))

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / "server.pem")
        if asks_who:
            context.load_verify_locations(TLS / "ca.pem")
            context.verify_mode = ssl.CERT_REQUIRED
        app = web.Application()
        app.router.add_post("/v1/chat/completions", handle)
        server = TestServer(app, scheme="https")
        await server.start_server(ssl=context)
        url = f"https://localhost:{server.port}/v1"
        backend = OpenAICompatible(
            Access(url, route=route), target="t", endpoint="t", server="openai", capabilities=Capabilities(frozenset())
        )
        try:
            await backend.open((), 0)
            return await backend.send(request_)
        except CallFailed as failed:
            return failed
        finally:
            await backend.close()
            await server.close()

    return asyncio.run(main())


def test_a_certificate_that_nobody_vouches_for_is_no_connection(request_, completion):
    failed = served(Route("none"), request_, completion)
    assert (failed.reason, failed.maybe_billed) == (Reason.CONNECTION, False)
    assert "certificate" in failed.detail.lower()


def test_a_ca_file_vouches_for_it_and_so_does_trusting_anyone(request_, completion):
    for route in (Route("none", ca_file=TLS / "ca.pem"), Route("none", verify=False)):
        assert served(route, request_, completion).choices[0].message["content"] == "safe"


def test_a_client_certificate_is_shown(request_, completion):
    known = Route("none", ca_file=TLS / "ca.pem", client_cert=TLS / "client.pem")
    assert served(known, request_, completion, asks_who=True).choices[0].message["content"] == "safe"
    unknown = served(Route("none", ca_file=TLS / "ca.pem"), request_, completion, asks_who=True)
    assert unknown.reason is Reason.CONNECTION


def test_a_file_that_is_no_certificate_is_told(tmp_path):
    (tmp_path / "no.pem").write_text("no certificate")
    with pytest.raises(UsageError, match=r"no\.pem cannot be used"):
        Route(ca_file=tmp_path / "no.pem").tls()


# -- proxies


def through_proxy(monkeypatch, proxy, target="http://model.invalid/v1", variable=None):
    """Heads that a proxy saw of one POST; `{}` in `proxy` stands for its address."""
    heads = []

    async def handle(reader, writer):
        heads.append((await whole_request(reader)).decode())
        writer.write(LINE)
        writer.close()

    async def main():
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        at = proxy.format(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        if variable is not None:
            monkeypatch.setenv(variable, at)
        transport = Transport(target, Route("env" if variable else at), 5.0)
        answer = await transport.exchange("POST", URL(f"{target}/chat"), {}, b"{}")
        await transport.aclose()
        server.close()
        return answer

    assert asyncio.run(main()).content == b"{}"
    return heads


def test_a_proxy_is_asked_and_gets_its_password_in_a_header(monkeypatch):
    (head,) = through_proxy(monkeypatch, "http://user:p%40ss@{}")
    assert head.startswith("POST http://model.invalid/v1/chat HTTP/1.1")
    assert "Proxy-Authorization: Basic dXNlcjpwQHNz" in head


def test_the_environments_proxy_is_asked_unless_the_host_is_here(monkeypatch):
    for name in ("no_proxy", "NO_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    (head,) = through_proxy(monkeypatch, "http://{}", variable="http_proxy")
    assert head.startswith("POST http://model.invalid")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert Route().proxy_of("http://127.0.0.1:8000/v1") is None
    assert Route().proxy_of("http://gpu1:8000/v1") == "http://127.0.0.1:9"
    assert Route("none").proxy_of("http://gpu1:8000/v1") is None
    monkeypatch.setenv("no_proxy", "gpu1")
    assert Route().proxy_of("http://gpu1:8000/v1") is None
