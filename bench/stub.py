"""A loopback server of the chat completions format that behaves as it is told: `stub.py [PORT [SETTINGS]]`.

In a process of its own and cheap, so that a client's CPU is counted alone. It prints its port. `POST /control` with
settings as JSON begins a new account, `GET /stats` tells it: requests, refusals, tokens, money, in flight.
"""

from __future__ import annotations

import asyncio
import gc
import re
import resource
import socket
import struct
import sys
from dataclasses import asdict

import orjson
from account import ERROR, Account, Answer, Settings
from answers import MODEL

_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")


class Stub:
    """The listening socket, its connections and the account of the moment."""

    def __init__(self, settings: Settings) -> None:
        self.account = Account(settings)
        self.connections: set[Connection] = set()
        self.port = 0
        self._server: asyncio.Server | None = None
        self._planned: list[asyncio.TimerHandle] = []
        self._opening: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), "127.0.0.1", self.port, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]

    def begin(self, settings: Settings) -> None:
        for timer in self._planned:
            timer.cancel()
        self._planned = []
        self.account.close()
        self.account = Account(settings)

    def take(self, body: bytes) -> tuple[Answer, float]:
        outage = self.account.settings.outage
        if outage is not None and self.account.n_requests == 0:
            loop = asyncio.get_running_loop()
            self._planned = [
                loop.call_later(outage[0], self._vanish),
                loop.call_later(sum(outage), self._come_back),
            ]
        return self.account.take(body)

    def _vanish(self) -> None:
        assert self._server is not None
        self._server.close()
        for connection in list(self.connections):
            connection.reset()

    def _come_back(self) -> None:
        self._opening = asyncio.get_running_loop().create_task(self.listen())


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive and Content-Length, which is all that the clients here send."""

    def __init__(self, stub: Stub) -> None:
        self._stub = stub
        self._got = b""
        self._account: Account | None = None  # while a request of this connection is in flight
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._out = transport
        self._stub.connections.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._stub.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._done()

    def reset(self) -> None:
        """Cut off as a crashed server does, without a goodbye."""
        found = self._out.get_extra_info("socket")
        found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._out.abort()

    def data_received(self, data: bytes) -> None:
        data = self._got + data if self._got else data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(data, 0, end + 2)
            length = end + 4 + (int(found[1]) if found else 0)
            if len(data) < length:
                break
            path, body = data[: data.find(b" HTTP/")], data[end + 4 : length]
            data = data[length:]
            self._asked(path, body)
        self._got = data

    def _asked(self, path: bytes, body: bytes) -> None:
        if path.startswith(b"POST") and path.endswith(b"/chat/completions"):
            self._answer(*self._stub.take(body))
        elif path == b"POST /control":
            self._stub.begin(Settings(**orjson.loads(body)))
            self._write(Answer(200, orjson.dumps(asdict(self._stub.account.settings))))
        elif path == b"GET /stats":
            self._write(Answer(200, orjson.dumps(self._stub.account.stats())))
        elif path == b"GET /v1/models":
            self._write(Answer(200, b'{"object":"list","data":[{"id":"%b","object":"model"}]}' % MODEL.encode()))
        else:
            self._write(Answer(404, ERROR % (b"No such path", b"invalid_request_error")))

    def _answer(self, answer: Answer, wait_s: float) -> None:
        if answer.status != 429:
            self._account = self._stub.account
            self._account.move(1)
        if answer.fault == "hang":
            return
        if wait_s:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._write, answer)
        else:
            self._write(answer)

    def _write(self, answer: Answer) -> None:
        self._done()
        if answer.fault == "reset":
            self.reset()
            return
        head = b"HTTP/1.1 %d %b\r\ncontent-type: %b\r\n%bcontent-length: %d\r\n\r\n"
        word = b"OK" if answer.status == 200 else b"Not"
        self._out.write(head % (answer.status, word, answer.kind, answer.headers, len(answer.body)) + answer.body)

    def _done(self) -> None:
        self._timer = None
        if self._account is not None:
            self._account.move(-1)
            self._account = None


async def serve(port: int, settings: Settings) -> None:
    stub = Stub(settings)
    stub.port = port
    await stub.listen()
    print(stub.port, flush=True)
    await asyncio.Event().wait()


def many_files() -> None:
    """Thousands of connections are as many open files."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    many_files()
    gc.disable()  # nothing here is in a cycle, and a pause would look like a slow client
    port, told = ([*sys.argv[1:], "0", "{}"] if len(sys.argv) < 2 else [*sys.argv[1:], "{}"])[:2]
    asyncio.run(serve(int(port), Settings(**orjson.loads(told))))
