"""From the recipe's words to an engine that can be opened: which checkpoint, which adapter, under which identity.

Everything that can be refused before a model is loaded is refused here. Nothing here imports vLLM.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import orjson

from prefsmith.backends import wire
from prefsmith.backends.files import folder_sha256
from prefsmith.backends.probe import Declared
from prefsmith.backends.vllm import arguments
from prefsmith.backends.vllm.backend import Checkpoint, VllmInProcess, VllmServer, enough
from prefsmith.endpoints import Endpoint, Vllm
from prefsmith.errors import UsageError, did_you_mean
from prefsmith.records import Backend, Capabilities, Json, canonical

N_SEQS = 256
"""vLLM's usual default of sequences in one step; an engine in this process says its own once it is up."""
_CHANGES_ANSWERS = (
    "revision", "code_revision", "tokenizer", "tokenizer_revision", "tokenizer_mode", "dtype", "quantization",
    "kv_cache_dtype", "hf_overrides", "rope_scaling", "chat_template", "default_chat_template_kwargs",
    "reasoning_parser", "tool_call_parser",
)  # fmt: skip
"""Arguments that make another model of one checkpoint, as far as its answers go."""


@dataclass(frozen=True, slots=True)
class Local:
    """An engine that can be made. `identity`: what stands for the model in keys; `name`: what requests carry;
    `key`: equal for the models that one engine serves."""

    identity: str
    name: str
    key: str
    capabilities: Capabilities
    make: Callable[[], Backend]


def local(endpoint_name: str, model: str, endpoint: Endpoint, target: str) -> Local:
    """What MODEL or MODEL+ADAPTER means at a vLLM endpoint. Raises UsageError."""
    vllm = endpoint.vllm
    assert vllm is not None
    where = f"{endpoint_name}:{model}"
    arguments.check(vllm, where)
    base, adapter = _parted(model, vllm, where)
    folder = _folder(base, where)
    name = folder.name if folder else base
    if name in vllm.adapters:
        raise UsageError(f"{where}: the model and an adapter are both called {name!r}; give the adapter another name")
    adapters = {n: _adapter_folder(p, where) for n, p in vllm.adapters.items()}
    checkpoint = Checkpoint(str(folder) if folder else base, name, adapters)
    capabilities = _capabilities(endpoint, vllm, folder)
    kind = VllmInProcess if vllm.mode == "in_process" else VllmServer
    return Local(
        _identity(base, folder, adapters[adapter] if adapter else None, vllm.args),
        adapter or name,
        f"{endpoint_name}:{base}",
        capabilities,
        partial(
            kind,
            target=target,
            endpoint=endpoint_name,
            checkpoint=checkpoint,
            vllm=vllm,
            capabilities=capabilities,
            declared=_declared(endpoint, vllm, where),
            limited=endpoint.limits.concurrency is not None,
        ),
    )


def _parted(model: str, vllm: Vllm, where: str) -> tuple[str, str | None]:
    """MODEL+ADAPTER in its parts; a plus in a folder's own name parts nothing."""
    base, plus, adapter = model.rpartition("+")
    if not plus or Path(model).expanduser().is_dir():
        return model, None
    if adapter in vllm.adapters:
        return base, adapter
    raise UsageError(
        f"{where}: there is no adapter {adapter!r} under adapters:; {did_you_mean(adapter, vllm.adapters)}"
    )


def _folder(base: str, where: str) -> Path | None:
    """The checkpoint's folder, None for a hub's name such as Qwen/Qwen3-8B."""
    path = Path(base).expanduser()
    if path.is_dir():
        if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
            raise UsageError(
                f"{where}: {str(path)!r} is a LoRA adapter, not a model: declare it under adapters: of the endpoint "
                "and write MODEL+ADAPTER, or merge it into its model"
            )
        if not (path / "config.json").is_file():
            raise UsageError(
                f"{where}: {str(path)!r} holds no config.json, so it is no checkpoint in Hugging Face's form"
            )
        return path.resolve()
    looks_like_a_path = base.startswith((".", "/", "~")) or base.count("/") > 1
    if looks_like_a_path or not base:
        raise UsageError(
            f"{where}: there is no folder {str(path)!r}; expected a checkpoint or a name such as org/model"
        )
    return None


def _adapter_folder(path: Path, where: str) -> Path:
    folder = path.expanduser().resolve()
    if not (folder / "adapter_config.json").is_file():
        raise UsageError(
            f"{where}: {str(path)!r} holds no adapter_config.json, so it is no LoRA adapter in peft's form"
        )
    return folder


def _identity(base: str, folder: Path | None, adapter: Path | None, args: Mapping[str, Json]) -> str:
    """A folder is its content, a hub's name is itself; then the adapter's content and what changes answers."""
    out = f"hf-{folder_sha256(folder)[:16]}" if folder else base
    if adapter is not None:
        out += f"+lora-{folder_sha256(adapter)[:16]}"
    changed = {n: args[n] for n in _CHANGES_ANSWERS if args.get(n) is not None}
    return f"{out} {canonical(changed).decode()}" if changed else out


def _capabilities(endpoint: Endpoint, vllm: Vllm, folder: Path | None) -> Capabilities:
    n_engines = len(vllm.gpus or [[]]) * int(vllm.args.get("data_parallel_size") or 1)
    n_seqs = int(vllm.args.get("max_num_seqs") or N_SEQS)
    limits = endpoint.limits
    return Capabilities(
        wire.KNOWS["vllm"],
        endpoint.n_per_request,
        limits.concurrency or enough(n_seqs * n_engines),
        control_tokens=_control_tokens(folder) if folder else (),
        rpm=limits.rpm,
        tpm=limits.tpm,
    )


def _declared(endpoint: Endpoint, vllm: Vllm, where: str) -> Declared:
    """What every model of this vLLM can do (tests/vllm asks the real one), so that nobody has to ask it."""
    can = endpoint.can
    if (can.n, can.temperature, can.logprobs, can.seed) != (None, None, None, None):
        raise UsageError(f"{where}: what vLLM can do is known; under `can:` only `reasoning` has a meaning here")
    parsed = "reasoning" if vllm.args.get("reasoning_parser") else "none"
    return Declared(n=True, temperature=True, logprobs=True, seed=True, reasoning=can.reasoning or parsed, sure=True)


def _control_tokens(folder: Path) -> tuple[str, ...]:
    """The special tokens that the checkpoint's tokenizer declares."""
    try:
        added = orjson.loads((folder / "tokenizer.json").read_bytes())["added_tokens"]
        return tuple(sorted(t["content"] for t in added if t["special"]))
    except (OSError, ValueError, KeyError, TypeError):
        return ()  # another kind of tokenizer; the usual control tokens are known anyway
