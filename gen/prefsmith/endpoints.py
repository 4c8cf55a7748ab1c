"""The `endpoints:` section of a recipe: which servers there are, how to reach them and what they can do.

Secrets are named by environment variable and never stand here. Nothing here opens a connection.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def listed(value: Any) -> Any:
    """One value is short for a list of it."""
    return value if isinstance(value, list | tuple) else [value]


class Strict(BaseModel):
    """A section of the recipe: unknown keys are refused, each knob's text stands under it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Script(Strict):
    """How the scripted backend behaves: a deterministic fake for trying recipes and for tests."""

    latency_s: Annotated[float, Field(ge=0)] = 0.0
    """Mean time to answer; each request draws its own from the exponential distribution, by its seed."""
    faults: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of requests that fail on their first attempts (time-outs, 500, dropped connections, 429)."""
    n_ignored: bool = False
    """Return one choice whatever n says."""
    duplicates: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of completions with a text that another index of the same prompt has too."""
    truncated: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of completions that end with finish_reason length."""
    unparseable: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of judge replies without a readable verdict."""
    chars: Annotated[int, Field(ge=1)] = 200
    """Length of a completion."""
    log: Path | None = None
    """Append each request to this file before answering it."""


class Vllm(Strict):
    """A vLLM engine that prefsmith starts, watches and stops itself, on this machine's own devices."""

    mode: Literal["in_process", "serve"] = "in_process"
    """in_process: the engine beside this process, without HTTP. serve: a `vllm serve` of its own on loopback."""
    args: dict[str, Any] = {}
    """Passed to the engine under vLLM's own names (AsyncEngineArgs; with serve also the server's): dtype,
    max_model_len, tensor_parallel_size, gpu_memory_utilization, quantization, tool_call_parser, …"""
    adapters: dict[str, Path] = {}
    """LoRA adapters by name, each a folder in peft's format; TARGET:MODEL+NAME samples with one."""
    gpus: Annotated[list[list[int]], Field(min_length=1)] | None = None
    """The devices of each engine: [[0], [1]] are two engines of one device each, [[0, 1]] is one engine of two.
    By default one engine takes what vLLM gives it."""
    env: dict[str, str] = {}
    """Environment variables for vLLM; in_process they are set in this process."""
    start_timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Longest wait for an engine to load its model."""
    stall_s: Annotated[float, Field(gt=0)] = 300.0
    """An engine that has work and brings no token for so long is taken for hung, stopped and started again."""


class Endpoint(Strict):
    """An OpenAI-compatible server, a vLLM engine of our own, or the scripted fake."""

    urls: Annotated[list[str], BeforeValidator(listed)] = []
    """Base URLs, such as http://host:8000/v1. One for now."""
    key_env: str | None = None
    """Name of the environment variable that holds the key; never the key itself."""
    server: Literal["openai", "vllm", "llama.cpp"] = "openai"
    """Which sampling parameters the server knows, all of which are then sent: openai knows temperature, top_p and
    the two penalties; vllm and llama.cpp also top_k, min_p and repetition_penalty."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    """The name that the server gives the cap; by default max_completion_tokens for api.openai.com."""
    n_per_request: Annotated[int, Field(ge=1, le=128)] = 8
    """Most completions asked for in one request."""
    concurrency: Annotated[int, Field(ge=1, le=65536)] = 64
    """Most requests in flight."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Longest wait for one reply."""
    identity: str | None = None
    """Stands for this endpoint in keys instead of its name: give two names one identity to share their answers."""
    script: Script | None = None
    """Makes this endpoint the scripted fake."""
    vllm: Vllm | None = None
    """Makes this endpoint a vLLM engine that prefsmith runs itself; MODEL is a checkpoint's folder or its name."""

    @model_validator(mode="after")
    def _one_kind(self) -> Endpoint:
        if self.vllm is not None:
            if self.urls or self.script is not None:
                raise ValueError("an endpoint has one of `urls:`, `vllm:` and `script:`")
            return self
        if self.script is None and len(self.urls) != 1:
            raise ValueError("an endpoint needs exactly one URL under `urls:` (or `script:` for the fake)")
        if self.script is not None and self.urls:
            raise ValueError("an endpoint has either `urls:` or `script:`, not both")
        return self
