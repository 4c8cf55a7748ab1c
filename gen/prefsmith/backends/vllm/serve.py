"""One `vllm serve` of our own: started on a free loopback port, watched, asked like any other server, and stopped.

It is asked through the OpenAI-compatible backend; here are only its process, its health and its pulse.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
import sys
import tempfile
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from prefsmith.backends.access import Access, Route
from prefsmith.backends.failures import redacted
from prefsmith.backends.openai_compatible import OpenAICompatible
from prefsmith.backends.probe import Declared
from prefsmith.backends.vllm import arguments
from prefsmith.backends.vllm.supervise import Died
from prefsmith.endpoints import Vllm
from prefsmith.errors import CallFailed, ProviderError
from prefsmith.reasons import Reason
from prefsmith.records import Capabilities, Reply, Request

PATIENCE_S: Final = 86_400.0
"""Our own server loses no request without our seeing it; it may be slow."""
_POLL_S: Final = 0.5
_GET_S: Final = 10.0
_GONE_S: Final = 5.0
TAIL_BYTES: Final = 2_000
# Not the console script: that one wants a distribution of the name vllm. A thread ends the server when its standard
# input ends, which it does when we are gone, however we went.
_START: Final = """
import os, signal, sys, threading
def leave():
    os.read(0, 1)
    os.killpg(0, signal.SIGTERM)
threading.Thread(target=leave, daemon=True).start()
from vllm.entrypoints.cli.main import main
sys.argv[0] = "vllm"
main()
"""
_DEFAULTS: Mapping[str, str] = {
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    # Its 5 s meet our own pause between requests, and a request then meets the closing.
    "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "75",
}


class Served:
    def __init__(
        self,
        model: str,
        name: str,
        vllm: Vllm,
        adapters: Mapping[str, Path],
        gpus: Sequence[int] | None,
        capabilities: Capabilities,
        declared: Declared,
    ) -> None:
        """`model`: a folder or a hub's name; `name`: what requests call it."""
        self._model, self._name, self._vllm, self._adapters, self._gpus = model, name, vllm, adapters, gpus
        self._capabilities, self._declared = capabilities, declared
        self._process: asyncio.subprocess.Process | None = None
        self._client: OpenAICompatible | None = None
        self._log: Path | None = None
        self._port = 0
        # A server tells neither; what is too long comes back as a 400.
        self.n_ctx_tokens: int | None = None
        self.n_seqs: int | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def port(self) -> int:
        return self._port

    async def start(self) -> None:
        self._port, key = _free_port(), secrets.token_urlsafe(16)
        words = arguments.for_server(self._model, self._name, self._vllm, self._adapters, self._gpus, self._port)
        if self._log is None:
            handle, name = tempfile.mkstemp(prefix="prefsmith-vllm-", suffix=".log")
            os.close(handle)
            self._log = Path(name)
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _START, *words, stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log,
                env={**_DEFAULTS, **os.environ, **self._vllm.env, "VLLM_API_KEY": key}, start_new_session=True,
            )  # fmt: skip
        await self._healthy()
        access = Access(f"http://127.0.0.1:{self._port}/v1", key, route=Route("none"), timeout_s=PATIENCE_S)
        self._client = OpenAICompatible(
            access,
            target=self._name,
            endpoint=self._name,
            server="vllm",
            capabilities=self._capabilities,
            declared=self._declared,
        )
        await self._client.open((), 0)

    async def _healthy(self) -> None:
        """Until it answers. Raises ProviderError with the end of its log."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._vllm.start_timeout_s
        while await self._get("/health") is None:
            assert self._process is not None
            if self._process.returncode is not None:
                raise ProviderError(f"`vllm serve {self._model}` ended before it was ready{self._tail()}")
            if loop.time() > deadline:
                await self.stop(0)
                raise ProviderError(
                    f"`vllm serve {self._model}` was not ready after {self._vllm.start_timeout_s:g} s "
                    f"(start_timeout_s){self._tail()}"
                )
            await asyncio.sleep(_POLL_S)

    def _tail(self) -> str:
        if self._log is None:
            return ""
        written = self._log.read_bytes()[-TAIL_BYTES:].decode(errors="replace")
        lines = [redacted(line, ()) for line in written.splitlines()[-12:]]
        return f"; the end of its log {self._log}:\n" + "\n".join(f"  {line}" for line in lines)

    async def ask(self, request: Request) -> Reply:
        if self._client is None:
            raise Died
        if request.sampling.temperature == 0 and request.n > 1:
            request = request._replace(n=1)  # vLLM refuses to give one greedy answer n times
        try:
            return await self._client.send(request)
        except CallFailed as failed:
            if failed.reason in (Reason.SERVER_ERROR, Reason.CONNECTION) and await self._get("/health") is None:
                raise Died from None
            raise

    async def pulse(self) -> Hashable:
        if self._process is None or self._process.returncode is not None:
            raise Died
        told = await self._get("/metrics")
        # Nothing is no sign of life; the supervisor waits for one as long as it is told to.
        return told and tuple(line for line in told.splitlines() if line.startswith(b"vllm:generation_tokens_total"))

    async def stop(self, wait_s: float) -> None:
        """TERM, then KILL for its whole group; the port is free when this returns."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        process, self._process = self._process, None
        if process is not None:
            if process.returncode is None and wait_s > 0:
                with suppress(ProcessLookupError):
                    process.terminate()
                with suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), wait_s)
            # Its engine is a process of its own, may outlive it, and holds the device's memory until it is gone.
            with suppress(ProcessLookupError, PermissionError, TimeoutError):
                async with asyncio.timeout(_GONE_S):
                    while True:
                        os.killpg(process.pid, signal.SIGKILL)
                        await asyncio.sleep(0.05)
            await process.wait()

    def forget_log(self) -> None:
        if self._log is not None:
            self._log.unlink(missing_ok=True)
            self._log = None

    async def _get(self, path: str) -> bytes | None:
        """The body of a 200, None for everything else."""
        try:
            async with asyncio.timeout(_GET_S):
                reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
                try:
                    writer.write(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
                    told = await reader.read()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return None
        head, _, body = told.partition(b"\r\n\r\n")
        return body if b" 200 " in head.partition(b"\r\n")[0] else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
