"""A GGUF on this machine's CPU: llama.cpp's server inside this process, spoken to like any other server.

Above `open` there is no second code path: requests go over loopback through the OpenAI-compatible client. One
server per GGUF; it lives from `open` to `close`. It does not know what the model is for.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefsmith.backends import wire
from prefsmith.backends.access import Access
from prefsmith.backends.gguf import Gguf
from prefsmith.backends.openai_compatible import OpenAICompatible
from prefsmith.errors import ContextTooShort, ProviderError, UsageError
from prefsmith.records import Capabilities, Json, Message, Reply, Request

SMALL_BYTES = 20_000_000
N_SLOTS_SMALL, N_SLOTS = 16, 8
"""A tiny model is bound by the loop around it and gains from many slots; a real one by its arithmetic."""
QUEUED = 4
"""Requests beyond the slots that keep the server busy while replies are on their way."""
SLOT_STEP = 256
"""llama.cpp rounds a slot's context up to a multiple of this."""
PATIENCE_S = 3600.0
"""A server in this process does not lose a request; it may be slow."""
MAX_THREADS = 8
_NEEDED_FLAGS = ("avx2", "fma", "f16c")


def lacking(machine: str, cpuinfo: str) -> tuple[str, ...]:
    """The instructions of x86-64 that the engine's wheel needs and /proc/cpuinfo does not list; () elsewhere."""
    if machine.lower() not in ("x86_64", "amd64") or "flags" not in cpuinfo:
        return ()
    line = next(line for line in cpuinfo.splitlines() if line.startswith("flags"))
    return tuple(flag for flag in _NEEDED_FLAGS if flag not in line.split())


def check_cpu() -> None:
    """Raises UsageError where the engine would die of an illegal instruction."""
    try:
        cpuinfo = Path("/proc/cpuinfo").read_text()
    except OSError:
        return
    missing = lacking(platform.machine(), cpuinfo)
    if missing:
        raise UsageError(
            f"embedded models need a CPU with {', '.join(_NEEDED_FLAGS)}; this one lacks {', '.join(missing)}: "
            "use an endpoint with urls: instead"
        )


def n_slots(n_bytes: int) -> int:
    return N_SLOTS_SMALL if n_bytes < SMALL_BYTES else N_SLOTS


def n_threads(load: float, n_cpus: int, n_bytes: int) -> int:
    """Compute threads: one for a tiny model or on a busy machine, where two spin at each other's barriers."""
    if n_bytes < SMALL_BYTES or load > n_cpus / 2:
        return 1
    return max(1, min(n_cpus, MAX_THREADS))


def capabilities_of(gguf: Gguf, n_ctx_tokens: int) -> Capabilities:
    """`n_per_request` is 1: for more, llama.cpp counts the tokens of one choice only, and waits for free slots."""
    return Capabilities(
        knows=wire.KNOWS["llama.cpp"],
        n_per_request=1,
        concurrency=n_slots(gguf.n_bytes) + QUEUED,
        n_ctx_tokens=n_ctx_tokens,
        control_tokens=gguf.control_tokens,
    )


class Embedded:
    def __init__(self, gguf: Gguf, *, model: str, name: str, endpoint: str = "embedded") -> None:
        """`model`: what stands for the file in keys; `name`: what the user called it, for messages."""
        self.target = "embedded"
        self.endpoint = endpoint
        self._gguf = gguf
        self._model = model
        self._name = name
        self._key = secrets.token_urlsafe(16)
        self._n_ctx = gguf.n_ctx_train
        self._server: Any = None
        self._client: OpenAICompatible | None = None

    async def open(self, longest: Sequence[tuple[Message, ...]], extra_tokens: int) -> None:
        if self._client is None:
            try:
                url = await asyncio.to_thread(self._started, longest, extra_tokens)
            except BaseException:
                self._stop()
                raise
            self._client = OpenAICompatible(
                Access(url=f"{url}/v1", key=self._key, timeout_s=PATIENCE_S),
                target=self.target,
                endpoint=self.endpoint,
                server="llama.cpp",
                capabilities=self.capabilities(),
            )
            await self._client.open((), 0)

    def _started(self, longest: Sequence[tuple[Message, ...]], extra_tokens: int) -> str:
        """The address of a server whose slots hold the longest prompt and its answer; started again if need be."""
        cap = self._gguf.n_ctx_train
        self._n_ctx = min(_rounded(extra_tokens + 1), cap)
        url = self._start()
        n_prompt = max((self._n_tokens(url, messages) for messages in longest), default=0)
        needed = n_prompt + extra_tokens
        if needed > cap:
            lower = f"lower max_tokens to {cap - n_prompt}, " if n_prompt < cap else ""
            raise ContextTooShort(
                f"embedded:{self._name} holds {cap} tokens of prompt and answer together; the longest prompt has "
                f"{n_prompt}, and {extra_tokens} are wanted for the answer: {lower}leave out the longest prompts, or "
                "take a model with a longer context",
                f"embedded:{self._name}",
                cap,
                n_prompt,
                extra_tokens,
            )
        if needed > self._n_ctx:
            self._stop()
            self._n_ctx = min(_rounded(needed), cap)
            url = self._start()
        return url

    def _start(self) -> str:
        # Before the first import of any OpenMP user: threads that spin while they wait made a busy 2-core machine
        # five times slower per CPU-second.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        import xllamacpp

        slots = n_slots(self._gguf.n_bytes)
        threads = n_threads(os.getloadavg()[0], os.cpu_count() or 1, self._gguf.n_bytes)
        params = xllamacpp.CommonParams()
        params.model.path = str(self._gguf.path)
        params.hostnames, params.port = ["127.0.0.1"], 0
        params.api_keys = [self._key]
        params.model_alias = {self._model}
        params.n_parallel, params.n_ctx = slots, self._n_ctx * slots
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        params.endpoint_slots = True
        params.use_jinja, params.warmup, params.ui, params.verbosity = True, False, False, 0
        # The store of finished prompts may grow to 8 GiB, and made nothing faster.
        params.cache_ram_mib = 0
        params.sampling.top_k, params.sampling.top_p, params.sampling.min_p = 0, 1.0, 0.0
        try:
            self._server = xllamacpp.Server(params)
        except RuntimeError as error:
            raise UsageError(
                f"llama.cpp cannot load {str(self._gguf.path)!r} ({error}): its header is whole, so the architecture "
                "may be newer than this build, or there is too little memory"
            ) from None
        url = str(self._server.listening_address)
        # The constructor returns before the server's task loop runs, and a server that is dropped before that waits
        # for its loop for ever (on one core each time, on two 1 in 200). The loop itself answers /slots.
        self._asked(url, "/slots", None)
        return url

    def _n_tokens(self, url: str, messages: tuple[Message, ...]) -> int:
        """Tokens of a conversation as the model's template writes it."""
        prompt = self._asked(url, "/apply-template", {"messages": list(messages)})["prompt"]
        return len(
            self._asked(url, "/tokenize", {"content": prompt, "add_special": True, "parse_special": True})["tokens"]
        )

    def _asked(self, url: str, path: str, body: Json) -> Json:
        """A GET for a body of None, else a POST."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url + path, data, headers)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            told = error.read().decode(errors="replace")[:200]
            raise UsageError(f"embedded:{self._name} cannot render a prompt with its chat template: {told}") from None
        except OSError as error:
            raise ProviderError(f"the embedded server of {self._name} does not answer: {error}") from None

    def capabilities(self) -> Capabilities:
        return capabilities_of(self._gguf, self._n_ctx)

    def facts(self) -> Mapping[str, Json]:
        return {
            "gguf": str(self._gguf.path),
            "n_bytes": self._gguf.n_bytes,
            "n_ctx_tokens": self._n_ctx,
            "n_slots": n_slots(self._gguf.n_bytes),
            # A model's identity is of its content; this is what the recipe called it.
            f"{self._model}.name": self._name,
        }

    async def send(self, request: Request) -> Reply:
        if self._client is None:
            raise RuntimeError("a backend is opened before it sends")
        return await self._client.send(request)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.close()
        await asyncio.to_thread(self._stop)

    def _stop(self) -> None:
        # The server stops when its last reference goes; this is the only one.
        self._server = None


def _rounded(n_tokens: int) -> int:
    return -(-n_tokens // SLOT_STEP) * SLOT_STEP
