"""Keys that live for a while: a program prints one, and is run again when it is old or was refused.

The program runs without a shell and what it prints is never logged. It does not know what a key opens.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from prefsmith.errors import CallFailed
from prefsmith.reasons import Reason

PATIENCE_S = 60.0
"""Programs that ask a cloud for a token take seconds; one that waits for someone to type would wait for ever."""
_KEPT = 3


def fit(key: str) -> bool:
    """Whether it can stand in a header."""
    return bool(key) and key.isascii() and key.isprintable()


class CommandKey:
    """Awaited for each request. While a new key cannot be made, the old one is used until a server refuses it."""

    def __init__(self, command: Sequence[str], ttl_s: float) -> None:
        self._command = tuple(command)
        self._ttl_s = ttl_s
        self._made: list[str] = []
        self._key: str | None = None
        self._until_s = 0.0
        self._one_at_a_time = asyncio.Lock()

    @property
    def made(self) -> tuple[str, ...]:
        return tuple(self._made)

    async def __call__(self) -> str:
        """The key. Raises CallFailed (auth, stops the endpoint) when there is none."""
        if self._key is None or time.monotonic() >= self._until_s:
            async with self._one_at_a_time:
                if self._key is None or time.monotonic() >= self._until_s:
                    await self._renew()
        assert self._key is not None
        return self._key

    def expire(self, key: str) -> None:
        if key == self._key:
            self._key = None

    async def _renew(self) -> None:
        try:
            key = await self._printed()
        except CallFailed:
            if self._key is None:
                raise
            self._until_s = time.monotonic() + min(self._ttl_s, PATIENCE_S)
            return
        self._key, self._until_s = key, time.monotonic() + self._ttl_s
        self._made = [key, *(k for k in self._made if k != key)][:_KEPT]

    async def _printed(self) -> str:
        try:
            child = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
        except OSError as error:
            raise self._failed(f"cannot be run: {error.strerror or type(error).__name__}") from None
        try:
            async with asyncio.timeout(PATIENCE_S):
                out, _ = await child.communicate()
        except TimeoutError:
            raise self._failed(f"printed nothing in {PATIENCE_S:g} s") from None
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode:
            raise self._failed(f"ended with {child.returncode}")
        key = out.decode("ascii", "replace").strip()
        if not fit(key):
            raise self._failed("printed no key: one line of plain characters is expected")
        return key

    def _failed(self, what: str) -> CallFailed:
        return CallFailed(Reason.AUTH, f"key_command {self._command[0]!r} {what}", stops_endpoint=True)
