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
from prefsmith.errors import UsageError
from prefsmith.records import Capabilities


class Servers(NamedTuple):
    """What an entry stands for: its members, in the order of its URLs or keys, and what is known of them all."""

    capabilities: Capabilities
    members: tuple[tuple[Callable[..., OpenAICompatible], float], ...]
    notes: tuple[str, ...]


def servers(name: str, target: str, endpoint: Endpoint) -> Servers:
    """`name`: the entry's; `target`: what stands in keys. Raises UsageError."""
    urls = [_checked_url(url, name) for url in endpoint.urls]
    keys = [(_secret(variable, f"endpoint {name!r} takes its key from"), variable) for variable in endpoint.key_envs]
    n = max(len(urls), len(keys))
    urls = urls * n if len(urls) == 1 else urls
    weights = endpoint.weights or [1.0] * n
    declared = _declared(endpoint, urls)
    # llama.cpp counts the tokens of one choice only when asked for several.
    n_per_request = 1 if endpoint.server == "llama.cpp" or endpoint.can.n is False else endpoint.n_per_request
    limits = endpoint.limits
    capabilities = Capabilities(
        wire.KNOWS[endpoint.server], n_per_request, limits.concurrency, rpm=limits.rpm, tpm=limits.tpm, remote=True
    )
    access = _access(name, endpoint)
    command = CommandKey(endpoint.key_command, endpoint.key_ttl_s) if endpoint.key_command else None
    members = []
    for i, (url, weight) in enumerate(zip(urls, weights, strict=True)):
        key, key_name = keys[i % len(keys)] if keys else (command, "key_command" if command else None)
        make = partial(
            OpenAICompatible,
            access(url=url, key=key, key_name=key_name),
            target=target,
            endpoint=name if n == 1 else f"{name}/{i}",
            server=endpoint.server,
            capabilities=capabilities,
            declared=declared,
        )
        members.append((make, weight))
    warning = f"{name!r}: verify is off, so WHOEVER answers there gets the key and the prompts"
    return Servers(capabilities, tuple(members), () if endpoint.verify else (warning,))


def _declared(endpoint: Endpoint, urls: list[str]) -> Declared:
    openai_itself = all(urlsplit(url).hostname == OPENAI_HOST for url in urls)
    default: MaxTokensField = "max_completion_tokens" if openai_itself else "max_tokens"
    can, field = endpoint.can, endpoint.max_tokens_field
    return Declared(
        can.n,
        can.temperature,
        can.logprobs,
        can.seed,
        can.reasoning,
        field or default,
        field is not None,
        can.decisions,
    )


def _access(name: str, endpoint: Endpoint) -> Callable[..., Access]:
    """What the members of a pool share."""
    where = f"endpoint {name!r} takes"
    hidden = []
    headers = {}
    for header, value in endpoint.headers.items():
        if value.startswith("env:"):
            value = _secret(value.removeprefix("env:"), f"{where} its header {header} from")
            hidden.append(value)
        headers[header] = value
    proxy = endpoint.proxy
    if proxy.startswith("env:"):
        proxy = _secret(proxy.removeprefix("env:"), f"{where} its proxy from")
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


def _secret(variable: str, who: str) -> str:
    value = os.environ.get(variable, "").strip()
    if not value:
        raise UsageError(f"{who} the variable {_named(variable)}, which is not set; export it first")
    if not fit(value):
        raise UsageError(f"{who} the variable {variable}, which holds characters that no header may")
    return value
