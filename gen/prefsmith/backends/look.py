"""One look at a server, which costs nothing: does it answer, which models does it list, what does it say of limits.

Foreign errors become CallFailed here, as they do when work is sent. It does not judge what it sees.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

import orjson

from prefsmith.backends.access import OPENAI_HOST
from prefsmith.backends.failures import from_openai, redacted
from prefsmith.errors import CallFailed
from prefsmith.reasons import Reason
from prefsmith.records import Json

if TYPE_CHECKING:
    import httpx2
    import openai

CONNECT_S, PATIENCE_S = 5.0, 15.0
"""Short on purpose: nothing is lost when a look fails."""


class Door(NamedTuple):
    """Where a server is and what lets one in. `key_name`: the variable that holds the key, for messages."""

    url: str
    key: str | None = None
    key_name: str | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.key,) if self.key else ()


class Sight(NamedTuple):
    """`models` is None when the server does not list any, and `unlisted` says what it did instead. `limits`: its
    x-ratelimit headers, by what comes after that. `vllm`: the version that it tells when it is a vLLM."""

    seconds: float
    models: tuple[str, ...] | None
    unlisted: str = ""
    limits: tuple[tuple[str, str], ...] = ()
    vllm: str | None = None


async def look(door: Door, *, vllm: bool = False, patience_s: float = PATIENCE_S) -> Sight:
    """Ask for the list of models and, of a vLLM, its version. Raises CallFailed, without any key in it."""
    try:
        async with asyncio.timeout(patience_s):
            seen = await _looked(door, vllm)
    except TimeoutError:
        failed = CallFailed(Reason.TIMEOUT, f"no whole reply from {door.url} in {patience_s:g} s")
    except CallFailed as error:
        failed = error
    else:
        models = None if seen.models is None else tuple(_clean(name, door) for name in seen.models)
        limits = tuple((_clean(name, door), _clean(value, door)) for name, value in seen.limits)
        vllm_version = None if seen.vllm is None else _clean(seen.vllm, door)
        return Sight(seen.seconds, models, _clean(seen.unlisted, door), limits, vllm_version)
    raise CallFailed(failed.reason, _clean(failed.detail, door), http_status=failed.http_status) from None


def _clean(text: str, door: Door) -> str:
    return redacted(text, door.secrets)


async def _looked(door: Door, vllm: bool) -> Sight:
    import httpx2
    import openai

    client = _client(door)
    gone: dict[str, str | openai.Omit] = {} if door.key else {"Authorization": openai.Omit()}
    if urlsplit(door.url).hostname != OPENAI_HOST:
        # The SDK fills these from OPENAI_… variables, which are not meant for just any server.
        gone |= {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
    begun = time.monotonic()
    try:
        response = await client.get("/models", cast_to=httpx2.Response, options={"headers": gone})
        seconds = time.monotonic() - begun
        version = await _version(client, door, gone) if vllm else None
    except openai.APIStatusError as error:
        seconds = time.monotonic() - begun
        if error.status_code not in (404, 405, 501):
            raise _translated(error, door) from None
        return Sight(seconds, None, f"HTTP {error.status_code} at {door.url}/models", _limits(error.response))
    except openai.OpenAIError as error:
        raise _translated(error, door) from None
    finally:
        await client.close()
    models = _names(response.content)
    unlisted = "" if models is not None else f"{door.url}/models answers with something that is no list of models"
    return Sight(seconds, models, unlisted, _limits(response), version)


def _client(door: Door) -> openai.AsyncOpenAI:
    import httpx2
    import openai

    timeout = httpx2.Timeout(PATIENCE_S, connect=CONNECT_S)
    # A proxy of the environment must not catch this machine's own address.
    trust_env = urlsplit(door.url).hostname not in ("127.0.0.1", "::1", "localhost")
    return openai.AsyncOpenAI(
        api_key=door.key or "none",
        base_url=door.url,
        max_retries=0,
        timeout=timeout,
        http_client=httpx2.AsyncClient(timeout=timeout, trust_env=trust_env),
    )


def _translated(error: openai.OpenAIError, door: Door) -> CallFailed:
    failed = from_openai(error, model="", url=door.url, key_name=door.key_name)
    if failed.http_status is not None and failed.reason is not Reason.AUTH:
        # No model was asked for: what the server said comes after the first colon.
        failed.detail = f"HTTP {failed.http_status} at {door.url}/models: {failed.detail.partition(': ')[2]}"
    return failed


async def _version(client: openai.AsyncOpenAI, door: Door, gone: dict[str, str | openai.Omit]) -> str | None:
    """vLLM tells its version beside /v1, not below it."""
    import httpx2
    import openai

    root = door.url.removesuffix("/v1")
    try:
        response = await client.get(f"{root}/version", cast_to=httpx2.Response, options={"headers": gone})
        version = orjson.loads(response.content)["version"]
    except (openai.OpenAIError, orjson.JSONDecodeError, KeyError, TypeError):
        return None
    return version if isinstance(version, str) else None


def _names(content: bytes) -> tuple[str, ...] | None:
    try:
        listed: Json = orjson.loads(content)["data"]
        return tuple(sorted(str(one["id"]) for one in listed))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


def _limits(response: httpx2.Response) -> tuple[tuple[str, str], ...]:
    prefix = "x-ratelimit-"
    return tuple(sorted((k[len(prefix) :], v) for k, v in response.headers.items() if k.lower().startswith(prefix)))
