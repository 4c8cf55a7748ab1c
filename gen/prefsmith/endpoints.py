"""The `endpoints:` section of a recipe: which servers there are, how to reach them and what they can do.

Secrets are named by environment variable and never stand here. Nothing here opens a connection.
"""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

_SECRET_NAME = re.compile(r"(?i)auth|cookie|token|secret|passw|api-?key|access-?key")
_SECRET_VALUE = re.compile(r"(?i)(bearer|basic|token)\s|sk-")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def listed(value: Any) -> Any:
    """One value is short for a list of it."""
    return value if isinstance(value, list | tuple) else [value]


def dated(value: Any) -> Any:
    """YAML reads a version such as 2024-10-21 as a date."""
    return value.isoformat() if isinstance(value, date) else value


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


class Azure(Strict):
    """Makes the addresses under `urls:` those of Azure OpenAI resources, such as https://NAME.openai.azure.com."""

    api_version: Annotated[str, Field(min_length=1), BeforeValidator(dated)]
    """The API's version, such as 2024-10-21."""
    deployment: str | None = None
    """Name of the deployment; by default the model's name is taken for it."""


class Abilities(Strict):
    """What the models of an endpoint can do, as far as it is known; what is left out is not ruled out."""

    n: bool | None = None
    """Whether several choices can be asked for in one request."""
    temperature: bool | None = None
    """Whether a temperature other than 1 is accepted."""
    logprobs: bool | None = None
    """Whether replies can hold the log-probabilities of their tokens."""
    seed: bool | None = None
    """Whether a seed is accepted; false: none is sent."""
    reasoning: Literal["reasoning_content", "reasoning", "think", "none"] | None = None
    """Where the model's thoughts stand: in a field of their own, or before `</think>` in the text."""


class Limits(Strict):
    """What one endpoint may be sent. What its headers tell counts too, and the smaller wins."""

    concurrency: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Most requests in flight for each model at each URL; fewer when the server refuses so many. By default 64, and for
    a vLLM engine of our own a quarter more than the sequences that it holds in one step."""
    rpm: Annotated[float, Field(gt=0)] | None = None
    """Requests a minute for each model, with each key."""
    tpm: Annotated[float, Field(gt=0)] | None = None
    """Tokens a minute for each model, of prompts and answers, with each key."""


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
    """Base URLs, such as http://host:8000/v1; several make a pool of servers that hold the same models."""
    key_env: str | list[str] | None = None
    """Name of the environment variable that holds the key; never the key itself. Several names make a pool: all for
    one URL, or as many as there are URLs, in their order."""
    key_command: list[str] = []
    """A program and its arguments that print a key that lives for a while, run without a shell; for Azure it prints a
    token of Entra ID."""
    key_ttl_s: Annotated[float, Field(gt=0)] = 600.0
    """How long a key of `key_command` is used; a 401 makes a new one at once."""
    weights: Annotated[list[Annotated[float, Field(gt=0)]], BeforeValidator(listed)] = []
    """Shares of the members of a pool, in their order; equal by default."""
    organization: str | None = None
    """OpenAI's organization that pays."""
    project: str | None = None
    """OpenAI's project that pays."""
    headers: dict[str, str] = {}
    """Further headers of each request; `env:NAME` stands for the value of a variable, and a secret must be one."""
    azure: Azure | None = None
    """Makes this endpoint one of Azure OpenAI."""
    proxy: str = "env"
    """`env`: what HTTPS_PROXY and its like say; `none`; a proxy's URL; or `env:NAME` for a variable that holds it,
    user and password included."""
    ca_file: Path | None = None
    """PEM file of certificates to trust besides the usual ones."""
    client_cert: Path | None = None
    """PEM file of the certificate to show to the server, its key included or under `client_key`."""
    client_key: Path | None = None
    """PEM file of that certificate's key."""
    verify: bool = True
    """False trusts whoever answers: anyone on the way can read the key and the prompts."""
    server: Literal["openai", "vllm", "llama.cpp"] = "openai"
    """Which sampling parameters the server knows, all of which are then sent: openai knows temperature, top_p and
    the two penalties; vllm and llama.cpp also top_k, min_p and repetition_penalty."""
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = None
    """The name that the server gives the cap; by default max_completion_tokens for api.openai.com."""
    can: Abilities = Abilities()
    """What the models there can do."""
    n_per_request: Annotated[int, Field(ge=1, le=128)] = 8
    """Most completions asked for in one request."""
    limits: Limits = Limits()
    """What each member may be sent."""
    timeout_s: Annotated[float, Field(gt=0)] = 600.0
    """Longest wait for one reply."""
    identity: str | None = None
    """Stands for this endpoint in keys instead of its name: give two names one identity to share their answers."""
    script: Script | None = None
    """Makes this endpoint the scripted fake."""
    vllm: Vllm | None = None
    """Makes this endpoint a vLLM engine that prefsmith runs itself; MODEL is a checkpoint's folder or its name."""

    @property
    def key_envs(self) -> list[str]:
        return [] if self.key_env is None else listed(self.key_env)

    @model_validator(mode="after")
    def _one_kind(self) -> Endpoint:
        kinds = [bool(self.urls), self.vllm is not None, self.script is not None]
        if not any(kinds):
            raise ValueError("an endpoint needs a URL under `urls:` (or `vllm:`, or `script:` for the fake)")
        if sum(kinds) > 1:
            raise ValueError("an endpoint has one of `urls:`, `vllm:` and `script:`")
        return self

    @model_validator(mode="after")
    def _whole_pool(self) -> Endpoint:
        n_urls, n_keys = len(self.urls), len(self.key_envs)
        if n_keys and self.key_command:
            raise ValueError("an endpoint has either `key_env:` or `key_command:`, not both")
        if n_urls > 1 and n_keys > 1 and n_urls != n_keys:
            raise ValueError(f"{n_keys} keys under `key_env:` for {n_urls} URLs: name one, or one for each URL")
        if self.weights and len(self.weights) != max(n_urls, n_keys):
            raise ValueError(f"`weights:` has {len(self.weights)} for a pool of {max(n_urls, n_keys)}: one for each")
        if self.client_key is not None and self.client_cert is None:
            raise ValueError("`client_key:` needs the certificate that it belongs to under `client_cert:`")
        if self.azure is not None and not n_keys and not self.key_command:
            raise ValueError("Azure needs a key: name its variable under `key_env:`, or a `key_command:`")
        return self

    @field_validator("headers")
    @classmethod
    def _no_secret_in_clear(cls, headers: dict[str, str]) -> dict[str, str]:
        """The recipe is written into each run's folder, so its headers must be fit to be read by anyone."""
        for name, value in headers.items():
            if not value.startswith("env:") and (_SECRET_NAME.search(name) or _SECRET_VALUE.match(value)):
                raise ValueError(
                    f"the header {name!r} looks like a secret; put it into a variable and write `{name}: env:VARIABLE`"
                )
            if not _HEADER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a header")
        return headers

    @field_validator("proxy")
    @classmethod
    def _no_password_in_clear(cls, proxy: str) -> str:
        if "@" in proxy:
            raise ValueError(
                "a proxy's user and password do not belong here; put the URL into a variable and write `env:VARIABLE`"
            )
        if proxy not in ("env", "none") and not re.match(r"(env:\w+$|https?://[^/\s]+/?$)", proxy):
            raise ValueError(f"{proxy!r} is no proxy; expected env, none, http://host:port or env:VARIABLE")
        return proxy
