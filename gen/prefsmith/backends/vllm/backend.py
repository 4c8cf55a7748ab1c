"""The two backends over supervised engines: `VllmInProcess` and `VllmServer`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from prefsmith.backends.probe import Declared
from prefsmith.backends.vllm import arguments
from prefsmith.backends.vllm.children import WARDEN
from prefsmith.backends.vllm.in_process import InProcess
from prefsmith.backends.vllm.serve import Served
from prefsmith.backends.vllm.supervise import Supervised
from prefsmith.endpoints import Vllm
from prefsmith.records import Capabilities, Json, Message, Reply, Request


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is loaded: a folder or a hub's name, what requests call it, and its adapters' folders by name."""

    model: str
    name: str
    adapters: Mapping[str, Path]


def enough(n_seqs: int) -> int:
    """Requests in flight that keep an engine full: some must wait in it when others end."""
    return min(65536, n_seqs + n_seqs // 4)


class _Managed:
    """Backend over engines that are equal but for their devices."""

    def __init__(
        self,
        *,
        target: str,
        endpoint: str,
        checkpoint: Checkpoint,
        vllm: Vllm,
        capabilities: Capabilities,
        declared: Declared,
        limited: bool,
        engines: Sequence[InProcess] | Sequence[Served],
    ) -> None:
        self.target = target
        self.endpoint = endpoint
        self._checkpoint, self._vllm = checkpoint, vllm
        self._capabilities, self._declared, self._limited = capabilities, declared, limited
        self._engines = engines
        self._supervised: Supervised | None = None
        self._n_restarts = 0

    async def open(self, longest: Sequence[tuple[Message, ...]], extra_tokens: int) -> None:
        # A prompt that is too long is closed by itself, with its reason; the others need not wait for it.
        del longest, extra_tokens
        if self._supervised is None:
            named = f"{self._checkpoint.model} ({len(self._engines)} engines)" if len(self._engines) > 1 else ""
            print(f"vLLM {arguments.installed()} loads {named or self._checkpoint.model}", file=sys.stderr)
            # A new one each time: in a staged run a model has more than one turn.
            name = f"{self.endpoint}:{self._checkpoint.name}"
            self._supervised = Supervised(self._engines, name=name, stall_s=self._vllm.stall_s)
            await self._supervised.open()
            self._capabilities = replace(self._capabilities, n_ctx_tokens=self._engines[0].n_ctx_tokens)
            if not self._limited and (n_seqs := sum(engine.n_seqs or 0 for engine in self._engines)):
                self._capabilities = replace(self._capabilities, concurrency=enough(n_seqs))

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def facts(self) -> Mapping[str, Json]:
        return {
            "vllm": arguments.installed(),
            "mode": self._vllm.mode,
            "model": self._checkpoint.model,
            "adapters": {name: str(folder) for name, folder in self._checkpoint.adapters.items()},
            "args": dict(self._vllm.args),
            "n_engines": len(self._engines),
            "n_ctx_tokens": self._capabilities.n_ctx_tokens,
            "can": self._declared.can().told(),
        }

    @property
    def n_restarts(self) -> int:
        """Engines that were started again after they died or hung."""
        return self._n_restarts + (self._supervised.n_restarts if self._supervised else 0)

    async def send(self, request: Request) -> Reply:
        return await self._open().send(request)

    def _open(self) -> Supervised:
        if self._supervised is None:
            raise RuntimeError("a backend is opened before it sends")
        return self._supervised

    async def close(self) -> None:
        supervised, self._supervised = self._supervised, None
        if supervised is not None:
            await supervised.close()
            self._n_restarts += supervised.n_restarts


def _devices(vllm: Vllm) -> list[list[int] | None]:
    """Of each engine; None leaves the choice to vLLM."""
    return [None] if vllm.gpus is None else [*vllm.gpus]


class VllmInProcess(_Managed):
    """Engines beside this process, asked without HTTP."""

    def __init__(
        self, *, target: str, endpoint: str, checkpoint: Checkpoint, vllm: Vllm, capabilities: Capabilities,
        declared: Declared, limited: bool,
    ) -> None:  # fmt: skip
        model, name, adapters = checkpoint.model, checkpoint.name, checkpoint.adapters
        thinks = declared.reasoning == "think"
        super().__init__(
            target=target, endpoint=endpoint, checkpoint=checkpoint, vllm=vllm, capabilities=capabilities,
            declared=declared, limited=limited,
            engines=[InProcess(model, name, vllm, adapters, ids, thinks=thinks) for ids in _devices(vllm)],
        )  # fmt: skip

    async def close(self) -> None:
        await super().close()
        await asyncio.to_thread(WARDEN.dismiss)


class VllmServer(_Managed):
    """Servers of our own on this machine, asked over loopback."""

    def __init__(
        self, *, target: str, endpoint: str, checkpoint: Checkpoint, vllm: Vllm, capabilities: Capabilities,
        declared: Declared, limited: bool,
    ) -> None:  # fmt: skip
        model, name, adapters = checkpoint.model, checkpoint.name, checkpoint.adapters
        self.servers = [Served(model, name, vllm, adapters, ids, capabilities, declared) for ids in _devices(vllm)]
        super().__init__(
            target=target, endpoint=endpoint, checkpoint=checkpoint, vllm=vllm, capabilities=capabilities,
            declared=declared, limited=limited, engines=self.servers,
        )  # fmt: skip

    async def close(self) -> None:
        await super().close()
        for server in self.servers:
            server.forget_log()
