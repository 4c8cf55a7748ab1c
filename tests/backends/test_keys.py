"""A key that a program prints: when it is run again, and what happens when it fails."""

from __future__ import annotations

import asyncio

import pytest

from prefsmith.backends.keys import CommandKey
from prefsmith.errors import CallFailed


def counting(tmp_path, and_then=""):
    """A command that prints key-1, key-2, … and the file that stops it when it is there."""
    log, stop = tmp_path / "n", tmp_path / "stop"
    script = f'[ -e "{stop}" ] && exit 9; echo x >> "{log}"; {and_then}echo key-$(cat "{log}" | wc -l)'
    return ["sh", "-c", script], stop


def test_a_key_is_kept_for_its_time_and_made_once_for_all_who_wait(tmp_path):
    command, _ = counting(tmp_path, "sleep 0.1; ")

    async def main():
        key = CommandKey(command, 600)
        assert set(await asyncio.gather(*(key() for _ in range(50)))) == {"key-1"}
        short = CommandKey(command, 0.01)
        first = await short()
        await asyncio.sleep(0.02)
        assert [first, await short()] == ["key-2", "key-3"]
        assert short.made == ("key-3", "key-2")

    asyncio.run(main())


def test_only_the_key_that_was_refused_expires(tmp_path):
    """Fifty requests that are refused with one key make one new key."""
    command, _ = counting(tmp_path)

    async def main():
        key = CommandKey(command, 600)
        old = await key()
        key.expire(old)
        assert await key() == "key-2"
        key.expire(old)
        assert await key() == "key-2"

    asyncio.run(main())


def test_an_old_key_is_used_while_no_new_one_can_be_made(tmp_path):
    command, stop = counting(tmp_path)

    async def main():
        key = CommandKey(command, 0.01)
        assert await key() == "key-1"
        stop.touch()
        await asyncio.sleep(0.02)
        assert await key() == "key-1"
        key.expire("key-1")
        with pytest.raises(CallFailed, match="ended with 9"):
            await key()

    asyncio.run(main())
