"""The bundled tiny model, an adapter of it, and engines of the real vLLM that a whole module shares.

An engine takes 15 s and 20 CPU-seconds to start, so tests borrow one. It lives in an event loop of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import struct
from array import array
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import pytest

from prefsmith.backends import resolve
from prefsmith.backends.vllm import VllmInProcess
from prefsmith.endpoints import Endpoint, Vllm
from prefsmith.records import Message, Reply, Request, Sampling

T = TypeVar("T")
TINY = Path(__file__).parents[1] / "data" / "tiny"
# What makes an engine on a CPU small and quick to start; none of it is for a GPU.
ENV = {
    "TORCH_COMPILE_DISABLE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}
ARGS: dict[str, Any] = {
    "dtype": "float32",
    "max_model_len": 512,
    "enforce_eager": True,
    "block_size": 32,
    "kv_cache_memory_bytes": 64 << 20,
    "distributed_executor_backend": "uni",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """vLLM and torch warn at import and at exit of things that are not ours."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.vllm)
            item.add_marker(pytest.mark.filterwarnings("default"))


@pytest.fixture(scope="session", autouse=True)
def small_engines() -> None:
    """What vLLM and torch read at import, for engines that a test starts by itself too."""
    os.environ.update(ENV)


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter of the tiny model in peft's form, with weights large enough to change what it says."""
    folder = tmp_path_factory.mktemp("adapter")
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(TINY),
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj"],
        "bias": "none",
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    tensors: dict[str, tuple[list[int], list[float]]] = {}
    draw = Random(0)
    for layer in range(4):
        for part in ("q_proj", "v_proj"):
            name = f"base_model.model.model.layers.{layer}.self_attn.{part}"
            tensors[f"{name}.lora_A.weight"] = ([4, 128], [draw.gauss(0, 0.3) for _ in range(512)])
            tensors[f"{name}.lora_B.weight"] = ([128, 4], [draw.gauss(0, 0.3) for _ in range(512)])
    write_safetensors(folder / "adapter_model.safetensors", tensors)
    return folder


@pytest.fixture(scope="session")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model as one that thinks: `####` stands before its final answers, and here that token is `</think>`."""
    folder = tmp_path_factory.mktemp("thinker") / "tiny"
    shutil.copytree(TINY, folder)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    model = tokenizer["model"]
    model["merges"] = [pair for pair in model["merges"] if "####" not in ("".join(pair), *pair)]
    for old, new in (("####", "</think>"), ("<|system|>", "<think>")):
        id_ = model["vocab"].pop(old)
        model["vocab"][new] = id_
        others = [token for token in tokenizer["added_tokens"] if token["id"] != id_]
        usual = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
        tokenizer["added_tokens"] = [*others, {"id": id_, "content": new, **usual}]
    tokenizer["added_tokens"].sort(key=lambda token: token["id"])
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    return folder


def write_safetensors(path: Path, tensors: dict[str, tuple[list[int], list[float]]]) -> None:
    """The format in a few lines: length of the header, header, float32 numbers."""
    header, body = {}, b""
    for name, (shape, numbers) in tensors.items():
        raw = array("f", numbers).tobytes()
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(body), len(body) + len(raw)]}
        body += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def endpoint_of(*, args: dict[str, Any] | None = None, **more: Any) -> Endpoint:
    return Endpoint(vllm=Vllm(args=ARGS | (args or {}), env=ENV, **more))


PARSERS = {"reasoning_parser": "deepseek_r1", "tool_call_parser": "hermes"}
SUM = "Tara had 22 coins and gave away 4. How many coins are left?"
"""What the tiny model works out before it answers."""


def asked(text: str = "What is 3 plus 4?", *, model: str = "tiny", **more: Any) -> Request:
    """A request with the sampling values and the request's own ones in one list of words."""
    named = set(Request._fields)
    sampling = Sampling(**{"temperature": 1.0, "max_tokens": 32} | {k: v for k, v in more.items() if k not in named})
    messages: tuple[Message, ...] = more.pop("messages", ({"role": "user", "content": text},))
    return Request(model, messages, sampling, **{k: v for k, v in more.items() if k in named})


async def until(holds: Callable[[], bool], within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 — what is waited for happens in another process
            await asyncio.sleep(0.001)


def texts(reply: Reply) -> list[str]:
    return [str(choice.message["content"]) for choice in reply.choices]


class Loop:
    """An opened backend and the event loop that it lives in."""

    def __init__(self, backend: VllmInProcess) -> None:
        self.backend = backend
        self._runner = asyncio.Runner()
        try:
            self.run(backend.open((), 0))
        except BaseException:
            self.close()
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def send(self, request: Request) -> Reply:
        return self.run(self.backend.send(request))

    def send_all(self, *requests: Request) -> list[Reply]:
        async def all_of_them() -> list[Reply]:
            return await asyncio.gather(*(self.backend.send(r) for r in requests))

        return self.run(all_of_them())

    def close(self) -> None:
        self.run(self.backend.close())
        self._runner.close()


@pytest.fixture(scope="module")
def open_engine() -> Iterator[Callable[..., Loop]]:
    """Opens the tiny model under an endpoint; closed when the module is done."""
    opened: list[Loop] = []

    def open_(endpoint: Endpoint, model: str = str(TINY)) -> Loop:
        backend = resolve(f"local:{model}", {"local": endpoint}).make()[0].backend
        assert isinstance(backend, VllmInProcess)
        opened.append(Loop(backend))
        return opened[-1]

    yield open_
    for loop in opened:
        loop.close()
