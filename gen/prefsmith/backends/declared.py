"""From an `endpoints:` entry with URLs to backends: one for each address and key.

Whatever can be refused before money or time is spent is refused here: a URL that is none, a variable that is not set, a
file that is not there. Nothing is opened yet.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from prefsmith.backends import wire
from prefsmith.backends.access import OPENAI_HOST, Access, Route
from prefsmith.backends.can import MaxTokensField
from prefsmith.backends.keys import CommandKey, fit
from prefsmith.backends.openai_compatible import OpenAICompatible
from prefsmith.backends.probe import Declared
from prefsmith.endpoints import Endpoint
from prefsmith.errors import UsageError, at
from prefsmith.records import CONCURRENCY, Capabilities


class Servers(NamedTuple):
    """What an entry stands for: its members, in the order of its URLs or keys, and what is known of them all."""

    capabilities: Capabilities
    members: tuple[tuple[Callable[..., OpenAICompatible], float], ...]
    notes: tuple[str, ...]


def servers(name: str, target: str, endpoint: Endpoint, *, keyless: bool = False) -> Servers:
    """`name`: the entry's; `target`: what stands in keys; `keyless`: a secret that is not there is a note. Raises
    UsageError."""
    urls = _checked_urls(endpoint, name)
    secrets = _Secrets(name, keyless)
    keys = [(secrets.of(variable, "its key"), variable) for variable in endpoint.key_envs]
    n = max(len(urls), len(keys))
    urls = urls * n if len(urls) == 1 else urls
    weights = endpoint.weights or [1.0] * n
    declared = _declared(endpoint, urls)
    # llama.cpp counts the tokens of one choice only when asked for several.
    n_per_request = 1 if endpoint.server == "llama.cpp" or endpoint.can.n is False else endpoint.n_per_request
    limits = endpoint.limits
    capabilities = Capabilities(
        wire.KNOWS[endpoint.server],
        n_per_request,
        limits.concurrency or CONCURRENCY,
        rpm=limits.rpm,
        tpm=limits.tpm,
        remote=True,
    )
    access = _access(name, endpoint, secrets)
    command = CommandKey(endpoint.key_command, endpoint.key_ttl_s) if endpoint.key_command else None
    members = []
    for i, (url, weight) in enumerate(zip(urls, weights, strict=True)):
        key, key_name = keys[i % len(keys)] if keys else (command, "key_command" if command else None)
        make = partial(
            OpenAICompatible,
            access(url=url, key=key or None, key_name=key_name),
            target=target,
            endpoint=name if n == 1 else f"{name}/{i}",
            server=endpoint.server,
            capabilities=capabilities,
            declared=declared,
        )
        members.append((make, weight))
    if not endpoint.verify:
        secrets.notes.append(f"{name!r}: verify is off, so WHOEVER answers there gets the key and the prompts")
    return Servers(capabilities, tuple(members), tuple(secrets.notes))


class _Secrets:
    """Values out of the environment. `notes`: what is not there, where nothing will be sent."""

    def __init__(self, endpoint: str, keyless: bool) -> None:
        self._endpoint, self._keyless = endpoint, keyless
        self.notes: list[str] = []

    def of(self, variable: str, what: str) -> str:
        """Its value; empty for one that is not there and not needed. Raises UsageError."""
        value = os.environ.get(variable, "").strip()
        where = f"endpoint {self._endpoint!r} takes {what} from the variable {_named(variable)}, which"
        if not value and self._keyless:
            self.notes.append(f"{where} is not set; a run needs it")
        elif not value:
            raise UsageError(f"{where} is not set; export it first")
        elif not fit(value):
            raise UsageError(f"{where} holds characters that no header may")
        return value


def _declared(endpoint: Endpoint, urls: list[str]) -> Declared:
    openai_itself = all(urlsplit(url).hostname == OPENAI_HOST for url in urls)
    default: MaxTokensField = "max_completion_tokens" if openai_itself else "max_tokens"
    can, field = endpoint.can, endpoint.max_tokens_field
    return Declared(can.n, can.temperature, can.logprobs, can.seed, can.reasoning, field or default, field is not None)


def _access(name: str, endpoint: Endpoint, secrets: _Secrets) -> Callable[..., Access]:
    """What the members of a pool share."""
    hidden = []
    headers = {}
    for header, value in endpoint.headers.items():
        if value.startswith("env:"):
            value = secrets.of(value.removeprefix("env:"), f"its header {header}")
            hidden.append(value)
        headers[header] = value
    proxy = endpoint.proxy
    if proxy.startswith("env:"):
        proxy = secrets.of(proxy.removeprefix("env:"), "its proxy")
        hidden += [part for part in (proxy, urlsplit(proxy).password) if part]
    files = [endpoint.ca_file, endpoint.client_cert, endpoint.client_key]
    ca_file, cert, cert_key = (None if file is None else _checked_file(file, name) for file in files)
    return partial(
        Access,
        headers=headers,
        hidden=tuple(hidden),
        organization=endpoint.organization,
        project=endpoint.project,
        azure=endpoint.azure,
        route=Route(proxy, ca_file, cert, cert_key, endpoint.verify),
        timeout_s=endpoint.timeout_s,
    )


def _checked_file(file: Path, name: str) -> Path:
    path = file.expanduser()
    if not path.is_file():
        raise UsageError(f"endpoint {name!r}: there is no file {str(file)!r}; a PEM file is expected")
    return path


def _checked_urls(endpoint: Endpoint, name: str) -> list[str]:
    """Each as it is asked. One that stands twice for the same key would pass for two servers, with twice the limits."""
    seen: dict[tuple[str, str], int] = {}
    urls = []
    for i, url in enumerate(endpoint.urls):
        with at("endpoints", name, "urls", i):
            urls.append(_checked_url(url))
            key = endpoint.key_envs[i] if len(endpoint.key_envs) > 1 and len(endpoint.urls) > 1 else ""
            if seen.setdefault((urls[i], key), i) != i:
                raise UsageError(
                    f"{url!r} stands here twice, and each URL is one server; `weights:` gives one a larger share, "
                    "`limits: {concurrency: N}` more requests at a time"
                )
    return urls


def _checked_url(url: str) -> str:
    """The URL without a trailing slash, or with the part that people paste too much of taken off."""
    try:
        parts = urlsplit(url)
        port_ok = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_ok = urlsplit(""), False
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_ok:
        raise UsageError(f"{url!r} is no URL; expected something like http://host:8000/v1")
    if parts.username or parts.password or parts.query:
        raise UsageError(
            "a URL must hold no user, password or query; name the variable that holds the key under key_env:"
        )
    return url.rstrip("/").removesuffix("/chat/completions")


def _named(variable: str) -> str:
    """The variable's name, unless it looks as if the key itself had been written there."""
    return (
        variable if variable.isidentifier() and len(variable) < 64 else "named under key_env (is that the key itself?)"
    )
