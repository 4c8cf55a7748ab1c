"""From TARGET:MODEL to something that can be opened: the one place that knows which backends there are.

Everything that can be refused before money or time is spent is refused here: an unknown target, a key that is not
in the environment, a file that is no model, a CPU that cannot run one. Nothing is opened yet.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from prefsmith.backends import wire
from prefsmith.backends.embedded import Embedded, capabilities_of, check_cpu
from prefsmith.backends.files import sha256_of
from prefsmith.backends.gguf import read_gguf
from prefsmith.backends.openai_compatible import OPENAI_HOST, OpenAICompatible
from prefsmith.backends.scripted import Scripted
from prefsmith.backends.scripted import capabilities_of as scripted_capabilities
from prefsmith.backends.smollm2 import fetched
from prefsmith.backends.vllm import local
from prefsmith.endpoints import Endpoint, Script, Vllm
from prefsmith.errors import UsageError, did_you_mean
from prefsmith.records import Backend, Capabilities
from prefsmith.shelf import shelf

BUILT_IN = ("embedded", "openai", "scripted", "vllm")
LATER = ("azure",)
"""Targets of the design that are not built yet."""
OPENAI = Endpoint(urls=[f"https://{OPENAI_HOST}/v1"], key_env="OPENAI_API_KEY")
SCRIPTED = Endpoint(script=Script())
IN_PROCESS = Endpoint(vllm=Vllm())


@dataclass(frozen=True, slots=True)
class Identity:
    """What stands in keys: the endpoint's identity or name, and the model's name or its file's content."""

    target: str
    model: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """A model that can be opened. Equal `backend_key`s share one backend; requests carry `wire_model`.

    `capabilities` are those known before opening; an embedded model's context may turn out smaller.
    """

    identity: Identity
    endpoint_name: str
    wire_model: str
    backend_key: str
    capabilities: Capabilities
    make: Callable[[], Backend]


def resolve(model: str, endpoints: Mapping[str, Endpoint]) -> Resolved:
    """What `TARGET:MODEL` means under these endpoints. Raises UsageError, before anything is spent."""
    target, colon, name = model.partition(":")
    if not colon or not target or not name:
        raise UsageError(f"a model is written TARGET:MODEL, such as embedded:tiny; got {model!r}")
    endpoint = endpoints.get(target)
    if endpoint is None:
        if target == "embedded":
            return _embedded(name)
        if target in LATER:
            raise UsageError(f"{model!r}: the target {target!r} is not built yet; use an endpoint with urls: instead")
        endpoint = {"openai": OPENAI, "scripted": SCRIPTED, "vllm": IN_PROCESS}.get(target)
    if endpoint is None:
        known = did_you_mean(target, {*endpoints, *BUILT_IN})
        raise UsageError(f"{model!r}: there is no target {target!r}; {known}. Declare it under `endpoints:`")
    return _declared(target, name, endpoint)


def _declared(name: str, model: str, endpoint: Endpoint) -> Resolved:
    identity = Identity(endpoint.identity or name, model)
    if endpoint.vllm is not None:
        engine = local(name, model, endpoint, identity.target)
        identity = Identity(identity.target, engine.identity)
        return Resolved(identity, name, engine.name, engine.key, engine.capabilities, engine.make)
    if endpoint.script is not None:
        capabilities = scripted_capabilities(endpoint)
        make: Callable[[], Backend] = partial(
            Scripted, target=identity.target, endpoint=name, script=endpoint.script, capabilities=capabilities
        )
        return Resolved(identity, name, model, name, capabilities, make)
    url = _checked_url(endpoint.urls[0], name)
    # llama.cpp counts the tokens of one choice only when asked for several.
    n_per_request = 1 if endpoint.server == "llama.cpp" else endpoint.n_per_request
    capabilities = Capabilities(wire.KNOWS[endpoint.server], n_per_request, endpoint.concurrency)
    default: wire.MaxTokensField = "max_completion_tokens" if urlsplit(url).hostname == OPENAI_HOST else "max_tokens"
    make = partial(
        OpenAICompatible,
        target=identity.target,
        endpoint=name,
        url=url,
        server=endpoint.server,
        capabilities=capabilities,
        max_tokens_field=endpoint.max_tokens_field or default,
        key=_key(endpoint.key_env, name),
        key_name=endpoint.key_env,
        timeout_s=endpoint.timeout_s,
    )
    return Resolved(identity, name, model, name, capabilities, make)


def _checked_url(url: str, name: str) -> str:
    """The URL without a trailing slash, or with the part that people paste too much of taken off."""
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_ok = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_ok:
        raise UsageError(f"endpoints.{name}.urls: {url!r} is no URL; expected something like http://host:8000/v1")
    if parts.username or parts.password or parts.query:
        raise UsageError(
            f"endpoints.{name}.urls: a URL must hold no user, password or query; name the variable that holds the key "
            "under key_env:"
        )
    return url.rstrip("/").removesuffix("/chat/completions")


def _named(variable: str) -> str:
    """The variable's name, unless it looks as if the key itself had been written there."""
    return (
        variable if variable.isidentifier() and len(variable) < 64 else "named under key_env (is that the key itself?)"
    )


def _key(variable: str | None, name: str) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UsageError(
            f"endpoint {name!r} takes its key from the variable {_named(variable)}, which is not set; export it first"
        )
    if not key.isascii() or not key.isprintable():
        raise UsageError(
            f"the variable {variable} of endpoint {name!r} does not hold a key: it has characters no header may"
        )
    return key


def _embedded(name: str) -> Resolved:
    check_cpu()
    gguf = read_gguf(_gguf_path(name).expanduser().resolve())
    if not gguf.has_template:
        raise UsageError(
            f"embedded:{name}: {gguf.path.name} holds no chat template, so it is a base model that cannot be asked; "
            "take an instruction-tuned one"
        )
    identity = Identity("embedded", f"gguf-{sha256_of(gguf.path)[:16]}")
    return Resolved(
        identity,
        "embedded",
        identity.model,
        f"embedded:{gguf.path}",
        capabilities_of(gguf, gguf.n_ctx_train),
        partial(Embedded, gguf, model=identity.model, name=name),
    )


def _gguf_path(name: str) -> Path:
    if name == "tiny":
        return shelf("data") / "tiny.gguf"
    if name == "smollm2":
        return fetched()
    if name.endswith(".gguf"):
        return Path(name)
    raise UsageError(
        f"there is no embedded model {name!r}; {did_you_mean(name, ('tiny', 'smollm2'))}, or the path of a file that "
        "ends in .gguf"
    )
