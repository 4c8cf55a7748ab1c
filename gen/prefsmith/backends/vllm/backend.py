"""The two backends over supervised engines: `VllmInProcess` and `VllmServer`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

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
        engines: Sequence[InProcess] | Sequence[Served],
    ) -> None:
        self.target = target
        self.endpoint = endpoint
        self._checkpoint, self._vllm = checkpoint, vllm
        self._capabilities = capabilities
        self._engines = engines
        name = f"{endpoint}:{checkpoint.name}"
        self._supervised = Supervised(engines, name=name, stall_s=vllm.stall_s)
        self._opened = False

    async def open(self, longest: Sequence[tuple[Message, ...]], extra_tokens: int) -> None:
        # A prompt that is too long is closed by itself, with its reason; the others need not wait for it.
        del longest, extra_tokens
        if not self._opened:
            await self._supervised.open()
            self._opened = True
            self._capabilities = replace(self._capabilities, n_ctx_tokens=self._engines[0].n_ctx_tokens)

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
        }

    @property
    def n_restarts(self) -> int:
        return self._supervised.n_restarts

    async def send(self, request: Request) -> Reply:
        if not self._opened:
            raise RuntimeError("a backend is opened before it sends")
        return await self._supervised.send(request)

    async def sleep(self, level: int = 1) -> None:
        """Give the devices' memory back; requests wait until `wake`. Returns when nothing is in flight any more."""
        await self._supervised.sleep(level)

    async def wake(self) -> None:
        await self._supervised.wake()

    async def close(self) -> None:
        self._opened = False
        await self._supervised.close()


def _devices(vllm: Vllm) -> list[list[int] | None]:
    """Of each engine; None leaves the choice to vLLM."""
    return [None] if vllm.gpus is None else [*vllm.gpus]


class VllmInProcess(_Managed):
    """Engines beside this process, asked without HTTP."""

    def __init__(
        self, *, target: str, endpoint: str, checkpoint: Checkpoint, vllm: Vllm, capabilities: Capabilities
    ) -> None:
        engines = [
            InProcess(checkpoint.model, checkpoint.name, vllm, checkpoint.adapters, ids) for ids in _devices(vllm)
        ]
        super().__init__(
            target=target, endpoint=endpoint, checkpoint=checkpoint, vllm=vllm, capabilities=capabilities,
            engines=engines,
        )  # fmt: skip

    async def close(self) -> None:
        await super().close()
        await asyncio.to_thread(WARDEN.dismiss)


class VllmServer(_Managed):
    """Servers of our own on this machine, asked over loopback."""

    def __init__(
        self, *, target: str, endpoint: str, checkpoint: Checkpoint, vllm: Vllm, capabilities: Capabilities
    ) -> None:
        self.servers = [
            Served(checkpoint.model, checkpoint.name, vllm, checkpoint.adapters, ids, capabilities)
            for ids in _devices(vllm)
        ]
        super().__init__(
            target=target, endpoint=endpoint, checkpoint=checkpoint, vllm=vllm, capabilities=capabilities,
            engines=self.servers,
        )  # fmt: skip

    async def close(self) -> None:
        await super().close()
        for server in self.servers:
            server.forget_log()
