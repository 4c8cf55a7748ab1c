"""The in-process backend on the real engine: what it samples, and what it never takes for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from prefsmith.errors import CallFailed
from prefsmith.reasons import Reason
from tests.vllm.conftest import Loop, asked, endpoint_of, texts


@pytest.fixture(scope="module")
def engine(open_engine: Callable[..., Loop], adapter: Path) -> Loop:
    return open_engine(endpoint_of(adapters={"odd": adapter}))


def test_the_same_seed_gives_the_same_answers_and_another_one_others(engine: Loop) -> None:
    first, again = engine.send(asked(n=4, seed=7)), engine.send(asked(n=4, seed=7))
    assert texts(first) == texts(again)
    assert texts(engine.send(asked(n=4, seed=107))) != texts(first)
