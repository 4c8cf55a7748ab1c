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


class Endpoint(Strict):
    """An OpenAI-compatible server, or the scripted fake."""

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

    @model_validator(mode="after")
    def _one_kind(self) -> Endpoint:
        if self.script is None and len(self.urls) != 1:
            raise ValueError("an endpoint needs exactly one URL under `urls:` (or `script:` for the fake)")
        if self.script is not None and self.urls:
            raise ValueError("an endpoint has either `urls:` or `script:`, not both")
        return self
