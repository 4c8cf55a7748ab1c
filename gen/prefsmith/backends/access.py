"""Where a server is and how one is let in: the values that make the SDK's client, and what of them is secret."""

from __future__ import annotations

import os
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import urlsplit

from prefsmith.endpoints import Azure
from prefsmith.errors import UsageError

if TYPE_CHECKING:
    import httpx2
    import openai

OPENAI_HOST = "api.openai.com"
ACCEPTED = "gzip, deflate"
"""What aiohttp unpacks without further packages; httpx2 might promise more."""
_TOLD_ITS_MAKER = (
    "Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async", "Retry-Count", "Read-Timeout",
)  # fmt: skip
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Route(NamedTuple):
    """How to get to a server. `proxy`: `env`, `none` or a URL; the files: PEM; `verify` False trusts anyone."""

    proxy: str = "env"
    ca_file: Path | None = None
    client_cert: Path | None = None
    client_key: Path | None = None
    verify: bool = True

    def tls(self) -> ssl.SSLContext:
        """Raises UsageError for a file that cannot be used."""
        import httpx2

        context = httpx2.create_ssl_context(verify=self.verify)
        try:
            if self.ca_file is not None:
                context.load_verify_locations(self.ca_file)
            if self.client_cert is not None:
                context.load_cert_chain(self.client_cert, self.client_key)
        except OSError as error:  # ssl.SSLError is one
            files = ", ".join(str(f) for f in (self.ca_file, self.client_cert, self.client_key) if f is not None)
            raise UsageError(f"TLS: {files} cannot be used ({error}); PEM files are expected") from None
        return context

    def proxy_of(self, url: str) -> str | None:
        """The proxy's URL on the way to `url`; this machine's own address needs none, whatever the environment says."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if self.proxy == "none" or (self.proxy == "env" and host in _LOOPBACK):
            return None
        if self.proxy != "env":
            return self.proxy
        found = urllib.request.getproxies()
        if urllib.request.proxy_bypass(host):
            return None
        return found.get(parts.scheme) or found.get("all")


USUAL = Route()


class KeyProvider(Protocol):
    """Awaited for each request; whatever makes short-lived keys."""

    async def __call__(self) -> str: ...

    def expire(self, key: str) -> None:
        """The server refused this one: the next call makes another."""
        ...

    @property
    def made(self) -> tuple[str, ...]:
        """The keys that may still be on their way, for taking them out of messages."""
        ...


@dataclass(frozen=True, slots=True)
class Access:
    """`url` ends before /chat/completions; for Azure it is the resource's address. `key_name`: the variable or command
    that the key comes from, for messages."""

    url: str
    key: str | KeyProvider | None = field(default=None, repr=False)
    key_name: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    hidden: tuple[str, ...] = field(default=(), repr=False)
    """Values of `headers` and the proxy that no message may show."""
    organization: str | None = None
    project: str | None = None
    azure: Azure | None = None
    route: Route = USUAL
    timeout_s: float = 600.0

    @property
    def fast(self) -> bool:
        """The headers of one request serve all others."""
        return self.key is None or isinstance(self.key, str)

    @property
    def secrets(self) -> tuple[str, ...]:
        if self.key is None:
            return self.hidden
        return (*((self.key,) if isinstance(self.key, str) else self.key.made), *self.hidden)

    def without(self) -> dict[str, str | openai.Omit]:
        """Headers that the SDK would add: from OPENAI_… variables, not meant for just any server; and what it tells its
        maker of this machine, and of retries that it does not make here."""
        import openai

        gone: dict[str, str | openai.Omit] = {f"X-Stainless-{name}": openai.Omit() for name in _TOLD_ITS_MAKER}
        if urlsplit(self.url).hostname != OPENAI_HOST:
            if self.organization is None:
                gone["OpenAI-Organization"] = openai.Omit()
            if self.project is None:
                gone["OpenAI-Project"] = openai.Omit()
            own = {name.lower() for name in self.headers}
            for line in os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines():
                name = line.partition(":")[0].strip()
                if name and name.lower() not in own:
                    gone[name] = openai.Omit()
        if self.key is None and not any(name.lower() == "authorization" for name in self.headers):
            gone["Authorization"] = openai.Omit()
        return gone

    def client(self, transport: httpx2.AsyncBaseTransport) -> openai.AsyncOpenAI:
        """The SDK's client over this transport; retries are not its business."""
        import httpx2
        import openai

        http = httpx2.AsyncClient(transport=transport, trust_env=False, headers={"Accept-Encoding": ACCEPTED})
        if self.azure is None:
            return openai.AsyncOpenAI(
                api_key=self.key or "none",
                base_url=self.url,
                organization=self.organization,
                project=self.project,
                default_headers=dict(self.headers),
                max_retries=0,
                http_client=http,
            )
        # A key of Azure goes into `api-key`; what a command makes is a token of Entra ID, for `Authorization`.
        return openai.AsyncAzureOpenAI(
            azure_endpoint=self.url,
            azure_deployment=self.azure.deployment,
            api_version=self.azure.api_version,
            api_key=(self.key or "none") if isinstance(self.key, str | None) else None,
            azure_ad_token_provider=None if isinstance(self.key, str | None) else self.key,
            organization=self.organization,
            default_headers=dict(self.headers),
            max_retries=0,
            http_client=http,
        )
