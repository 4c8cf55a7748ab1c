"""What people write without a tool, and a server for it: `reference.py serve`, `reference.py ask URL PROMPTS N JUDGED`.

The server is a bare protocol that answers at once, in a process of its own, so that a client's CPU is counted alone.
The client is the usual script: AsyncOpenAI, one task a request behind a Semaphore(64), answers into a JSONL file, best
against worst at the end. It keeps nothing that a crash would not lose, and checks nothing.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from pathlib import Path
from typing import TextIO

TEMPERATURES = (0.3, 0.7, 1.0, 1.3)
N = 2
WORD = "willows"
_WORDS = f"the river runs past an old stone mill where children fish under {WORD} and nobody counts the hours".split()
_ASKED_FOR = re.compile(rb'"n": ?(\d+)')
_N_BYTES = 240


class Server(asyncio.Protocol):
    """HTTP/1.1 with keep-alive and Content-Length, which is all that the clients here send."""

    def __init__(self) -> None:
        self._got = b""
        self._draws = random.Random(7)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._out = transport

    def data_received(self, data: bytes) -> None:
        self._got += data
        while (end := self._got.find(b"\r\n\r\n")) >= 0:
            head = self._got[:end].lower()
            length = int(head.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(self._got) < end + 4 + length:
                return
            body, self._got = self._got[end + 4 : end + 4 + length], self._got[end + 4 + length :]
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        found = _ASKED_FOR.search(body)
        n = int(found[1]) if found else 1
        texts = [self._verdict() if b"VERDICT" in body else self._text() for _ in range(n)]
        choices = [
            {"index": i, "finish_reason": "stop", "message": {"role": "assistant", "content": t}}
            for i, t in enumerate(texts)
        ]
        usage = {"prompt_tokens": 30, "completion_tokens": 60 * n, "total_tokens": 30 + 60 * n}
        whole = {"id": "x", "object": "chat.completion", "created": 1, "model": "fake", "choices": choices}
        raw = json.dumps({**whole, "usage": usage}).encode()
        self._out.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(raw), raw)
        )

    def _verdict(self) -> str:
        return f"Read with care.\nVERDICT: {self._draws.randint(1, 9)}"

    def _text(self) -> str:
        text = f"{self._draws.getrandbits(40):x} " + " ".join(self._draws.choices(_WORDS, k=_N_BYTES // 4))
        return text[:_N_BYTES]


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def ask(url: str, rows: list[dict[str, str]], judged: bool, kept: TextIO, out: TextIO) -> None:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(base_url=url, api_key="none")
    limit = asyncio.Semaphore(64)

    async def asked(content: str, temperature: float, n: int) -> list[str]:
        async with limit:
            reply = await client.chat.completions.create(
                model="fake", messages=[{"role": "user", "content": content}], temperature=temperature, n=n
            )
        return [choice.message.content or "" for choice in reply.choices]

    async def score(prompt: str, text: str) -> float:
        if not judged:
            return float(WORD in text)
        wanted = f"Grade the answer from 1 to 9; end with VERDICT: N.\n\nQUESTION\n{prompt}\n\nANSWER\n{text}"
        (said,) = await asked(wanted, 0.0, 1)
        found = re.search(r"VERDICT: (\d)", said)
        return float(found[1]) if found else 0.0

    async def one(row: dict[str, str]) -> None:
        prompt = row["prompt"]
        texts = [t for some in await asyncio.gather(*(asked(prompt, t, N) for t in TEMPERATURES)) for t in some]
        scores = await asyncio.gather(*(score(prompt, text) for text in texts))
        for text, value in zip(texts, scores, strict=True):
            kept.write(json.dumps({"prompt": prompt, "text": text, "score": value}) + "\n")
        ranked = sorted(zip(scores, texts, strict=True))
        if ranked[0][0] < ranked[-1][0]:
            out.write(json.dumps({"prompt": prompt, "chosen": ranked[-1][1], "rejected": ranked[0][1]}) + "\n")

    await asyncio.gather(*(one(row) for row in rows))
    await client.close()


def main() -> None:
    if sys.argv[1] == "serve":
        asyncio.run(serve())
    else:
        url, prompts, n, judged = sys.argv[2:]
        rows = [json.loads(line) for line in Path(prompts).read_text().splitlines()[: int(n)]]
        folder = Path(prompts).parent
        with (folder / "answers.jsonl").open("w") as kept, (folder / "pairs.jsonl").open("w") as out:
            asyncio.run(ask(url, rows, judged == "judged", kept, out))


if __name__ == "__main__":
    main()
