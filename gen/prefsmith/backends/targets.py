"""From TARGET:MODEL to something that can be opened: the one place that knows which backends there are.

Everything that can be refused before money or time is spent is refused here: an unknown target, a key that is not
in the environment, a file that is no model, a CPU that cannot run one. Nothing is opened yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from prefsmith.backends.access import OPENAI_HOST
from prefsmith.backends.declared import servers
from prefsmith.backends.embedded import Embedded, capabilities_of, check_cpu
from prefsmith.backends.files import sha256_of
from prefsmith.backends.gguf import read_gguf
from prefsmith.backends.scripted import Scripted
from prefsmith.backends.scripted import capabilities_of as scripted_capabilities
from prefsmith.backends.smollm2 import fetched
from prefsmith.backends.vllm import local
from prefsmith.endpoints import Endpoint, Script, Vllm
from prefsmith.errors import UsageError, at, did_you_mean
from prefsmith.records import Backend, Capabilities
from prefsmith.shelf import shelf

BUILT_IN = ("embedded", "openai", "scripted", "vllm")
OPENAI = Endpoint(urls=[f"https://{OPENAI_HOST}/v1"], key_env="OPENAI_API_KEY")
SCRIPTED = Endpoint(script=Script())
IN_PROCESS = Endpoint(vllm=Vllm())


@dataclass(frozen=True, slots=True)
class Identity:
    """What stands in keys: the endpoint's identity or name, and the model's name or its file's content."""

    target: str
    model: str


class Member(NamedTuple):
    """One address of a model, and its share of the requests beside the others'."""

    backend: Backend
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Resolved:
    """A model that can be opened. Equal `backend_key`s share one pool of backends; requests carry `wire_model`.

    `capabilities` are those known before opening; an embedded model's context may turn out smaller. `notes`: what the
    user should know before anything is sent.
    """

    identity: Identity
    endpoint_name: str
    wire_model: str
    backend_key: str
    capabilities: Capabilities
    make: Callable[[], tuple[Member, ...]]
    notes: tuple[str, ...] = ()


def resolve(model: str, endpoints: Mapping[str, Endpoint], *, keyless: bool = False) -> Resolved:
    """What `TARGET:MODEL` means under these endpoints. Raises UsageError, before anything is spent; `keyless`: nothing
    will be sent, so that a key which is not there is a note."""
    target, colon, name = model.partition(":")
    if not colon or not target or not name:
        raise UsageError(f"a model is written TARGET:MODEL, such as embedded:tiny; got {model!r}")
    endpoint = endpoints.get(target)
    if endpoint is None:
        if target == "embedded":
            return _embedded(name)
        if target == "azure":
            raise UsageError(
                f"{model!r}: Azure's addresses are your own; declare `endpoints: azure: {{urls: "
                "https://NAME.openai.azure.com, azure: {api_version: …}, key_env: …}` in a recipe"
            )
        endpoint = {"openai": OPENAI, "scripted": SCRIPTED, "vllm": IN_PROCESS}.get(target)
    if endpoint is None:
        known = did_you_mean(target, {*endpoints, *BUILT_IN})
        raise UsageError(f"{model!r}: there is no target {target!r}; {known}. Declare it under `endpoints:`")
    if target not in endpoints:
        return _declared(target, name, endpoint, keyless)
    with at("endpoints", target):
        return _declared(target, name, endpoint, keyless)


def _declared(name: str, model: str, endpoint: Endpoint, keyless: bool) -> Resolved:
    identity, key = Identity(endpoint.identity or name, model), f"{name}:{model}"
    if endpoint.vllm is not None:
        engine = local(name, model, endpoint, identity.target)
        identity = Identity(identity.target, engine.identity)
        return Resolved(identity, name, engine.name, engine.key, engine.capabilities, lambda: (Member(engine.make()),))
    if endpoint.script is not None:
        capabilities = scripted_capabilities(endpoint)
        fake = partial(
            Scripted, target=identity.target, endpoint=name, script=endpoint.script, capabilities=capabilities
        )
        return Resolved(identity, name, model, key, capabilities, lambda: (Member(fake()),))
    pool = servers(name, identity.target, endpoint, keyless=keyless)
    return Resolved(
        identity,
        name,
        model,
        key,
        pool.capabilities,
        lambda: tuple(Member(make(), weight) for make, weight in pool.members),
        pool.notes,
    )


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
        lambda: (Member(Embedded(gguf, model=identity.model, name=name)),),
    )


def _gguf_path(name: str) -> Path:
    if name == "tiny":
        return shelf("data") / "tiny.gguf"
    if name == "smollm2":
        return fetched()
    if name.endswith(".gguf"):
        return Path(name)
    if Path(name).expanduser().is_dir():
        raise UsageError(
            f"embedded:{name} is a folder, and llama.cpp reads one GGUF file: convert it (llama.cpp's "
            "convert_hf_to_gguf.py; merge an adapter into its model first) and name the .gguf, or take vllm:"
            f"{name} where there is a GPU"
        )
    raise UsageError(
        f"there is no embedded model {name!r}; {did_you_mean(name, ('tiny', 'smollm2'))}, or the path of a file that "
        "ends in .gguf"
    )
