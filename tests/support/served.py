"""A real server on loopback with a model behind it, which refuses, ignores and thinks as it is told."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from prefsmith.backends.probe import LARGEST

Body = dict[str, Any]


class Model(ThreadingHTTPServer):
    """`refuses`: fields answered with a 400 that names them; `only`: fields that must be 1; `ignores`: fields without
    an effect; `thinks`: where thoughts stand; `cut`: every other thought is cut off; `statuses`: those of the first
    requests. `probes` and `bodies`: what was asked to find out, and what for work."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        *,
        refuses: Sequence[str] = (),
        only: Sequence[str] = (),
        ignores: Sequence[str] = (),
        thinks: str | None = None,
        cut: bool = False,
        statuses: Sequence[int] = (),
        usage: bool = True,
        on_probe: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.refuses, self.only, self.ignores, self.thinks, self.cut = refuses, only, ignores, thinks, cut
        self.statuses, self.usage, self.on_probe = list(statuses), usage, on_probe
        self.probes: list[Body] = []
        self.bodies: list[Body] = []
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def answer(self, body: Body) -> tuple[int, Any]:
        probing = body["messages"] == list(LARGEST.messages)
        with self.lock:
            (self.probes if probing else self.bodies).append(body)
            status = self.statuses.pop(0) if self.statuses else 200
        if probing:
            self.on_probe()
        if status != 200:
            return status, {"error": {"message": "not now", "type": "x"}}
        for name in (*self.refuses, *(n for n in self.only if body.get(n, 1) != 1)):
            if name in body:
                message = f"Unsupported parameter: '{name}' is not for this model."
                return 400, {"error": {"message": message, "type": "invalid_request_error", "param": name}}
        takes = {k: v for k, v in body.items() if k not in self.ignores}
        choices = [self._choice(takes, k) for k in range(takes.get("n", 1))]
        reply: Body = {"choices": choices, "model": "m"}
        if self.usage:
            reply["usage"] = {"prompt_tokens": 7, "completion_tokens": 5 * len(choices)}
        return 200, reply

    def _choice(self, takes: Body, k: int) -> Body:
        seed = takes["seed"] + k if "seed" in takes else random.randrange(2**31)
        text = f"It is {seed} quality={seed % 10}"
        said = takes["messages"][-1]["content"]
        if "VERDICT" in said:
            text = f"VERDICT: {_verdict([int(q) for q in re.findall('quality=([0-9])', said)])}"
        message, thought = {"role": "assistant", "content": text}, f"SECRET {seed}"
        finish = "stop"
        if self.thinks == "think":
            cut = self.cut and seed % 2
            message["content"] = f"<think>{thought}" + ("" if cut else f"</think>\n{text}")
            finish = "length" if cut else "stop"
        elif self.thinks == "template":
            message["content"] = f"{thought}\n</think>\n\n{text}"
        elif self.thinks:
            message[self.thinks] = thought
        choice: Body = {"index": k, "message": message, "finish_reason": finish}
        if takes.get("logprobs"):
            choice["logprobs"] = {"content": [{"token": "x", "logprob": -1.0}]}
        return choice


def _verdict(qualities: list[int]) -> str:
    """Of one answer its quality, of two the better one, as the shipped judges want it."""
    if len(qualities) < 2:
        return str(min(9, 1 + sum(qualities)))
    first, second = qualities
    return "AB"[first < second] if first != second else "TIE"


class _Answer(BaseHTTPRequestHandler):
    server: Model
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        status, reply = self.server.answer(orjson.loads(self.rfile.read(int(self.headers["content-length"]))))
        body = orjson.dumps(reply)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(**options: Any) -> Iterator[Model]:
    server = Model(**options)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
