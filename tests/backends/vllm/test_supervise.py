"""The supervisor over engines that die, hang and come back as a script says; the real ones are in tests/vllm."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsmith.backends.vllm.isolation import Suspect, halves
from prefsmith.backends.vllm.supervise import Died, Supervised
from prefsmith.errors import CallFailed, ProviderError
from prefsmith.reasons import Reason
from prefsmith.records import Generated, Reply, Request, Sampling


class Engine:
    """Answers after a few turns of the loop; dies of what `deadly` says, hangs when told to."""

    def __init__(self, deadly: Callable[[str], bool] = lambda text: False, startable: int = 10**6) -> None:
        self.deadly, self.startable = deadly, startable
        self.n_starts = self.n_tokens = 0
        self.alive = self.hangs = False
        self.heard: Counter[str] = Counter()
        self._down = asyncio.Event()

    async def start(self) -> None:
        await asyncio.sleep(0.002)
        if self.n_starts >= self.startable:
            raise ProviderError("no memory")
        self.n_starts += 1
        self.alive, self.hangs = True, False
        self._down = asyncio.Event()

    def die(self) -> None:
        self.alive = False
        self._down.set()

    async def ask(self, request: Request) -> Reply:
        text = str(request.messages[0]["content"])
        if not self.alive:
            raise Died
        self.heard[text] += 1
        for turn in range(3):
            await asyncio.sleep(0.001)
            if self.hangs:
                await asyncio.Event().wait()
            if turn == 1 and self.deadly(text):
                self.die()
            if self._down.is_set():
                raise Died
            self.n_tokens += 1
        return Reply((Generated(0, {"role": "assistant", "content": f"re: {text}"}, "stop"),))

    async def pulse(self) -> Hashable:
        if not self.alive:
            raise Died
        return self.n_tokens

    async def stop(self, wait_s: float) -> None:
        self.die()


def request(text: str) -> Request:
    return Request("m", ({"role": "user", "content": text},), Sampling())


async def outcome(supervised: Supervised, text: str) -> str:
    """The answer, or the reason for having none."""
    try:
        reply = await supervised.send(request(text))
    except CallFailed as failed:
        return f"{failed.reason}{'!' if failed.stops_endpoint else ''}"
    return str(reply.choices[0].message["content"])


def outcomes(engines: list[Engine], texts: list[str], *, before: Any = None, **options: Any) -> dict[str, str]:
    async def all_of_them() -> dict[str, str]:
        supervised = Supervised(engines, name="test", **{"stall_s": 60.0, "start_pause_s": 0.01} | options)
        await supervised.open()
        try:
            async with asyncio.timeout(20):
                if before is not None:
                    asyncio.get_running_loop().call_later(0.003, before)
                told = await asyncio.gather(*(outcome(supervised, t) for t in texts))
            return dict(zip(texts, told, strict=True))
        finally:
            await supervised.close()

    return asyncio.run(all_of_them())


TEXTS = [f"p{i}" for i in range(24)]
GOOD = {text: f"re: {text}" for text in TEXTS}


def test_a_death_is_not_seen_by_those_who_asked() -> None:
    engine = Engine()
    assert outcomes([engine], TEXTS, before=engine.die) == GOOD
    assert engine.n_starts == 2
    assert set(engine.heard.values()) == {2}


def test_of_two_engines_one_works_on_while_the_other_is_started_again() -> None:
    engines = [Engine(), Engine()]
    assert outcomes(engines, TEXTS, before=engines[0].die) == GOOD
    assert [e.n_starts for e in engines] == [2, 1]


def test_the_same_conversation_goes_to_the_same_engine() -> None:
    engines = [Engine(), Engine(), Engine()]
    assert outcomes(engines, [f"p{i}" for i in range(3)]) == {f"p{i}": f"re: p{i}" for i in range(3)}
    again = [Engine(), Engine(), Engine()]
    outcomes(again, [f"p{i}" for i in range(3)])
    assert [e.heard for e in again] == [e.heard for e in engines]


def test_a_poison_prompt_is_found_and_everything_else_answered() -> None:
    engine = Engine(deadly=lambda text: text == "p7")
    assert outcomes([engine], TEXTS) == GOOD | {"p7": "poison"}
    # Two deaths of everything, then one for each halving: 24, 12, 6, 3, 2, 1.
    assert engine.n_starts <= 2 + 6 + 1


@settings(max_examples=40, deadline=None)
@given(poison=st.sets(st.sampled_from(TEXTS), max_size=4), n_engines=st.integers(1, 3))
def test_whichever_prompts_are_poison_they_alone_are_found(poison: set[str], n_engines: int) -> None:
    engines = [Engine(deadly=poison.__contains__) for _ in range(n_engines)]
    told = outcomes(engines, TEXTS, max_deaths=50)
    assert told == GOOD | dict.fromkeys(poison, "poison")


def test_an_engine_that_dies_of_everything_makes_nobody_poison() -> None:
    told = outcomes([Engine(deadly=lambda text: True)], TEXTS, max_deaths=50)
    assert told == dict.fromkeys(TEXTS, "server_error!")


def test_one_prompt_alone_is_not_called_poison_while_nothing_else_was_answered() -> None:
    assert outcomes([Engine(deadly=lambda text: text == "p0")], ["p0"]) == {"p0": "server_error!"}


def test_an_engine_that_dies_too_often_is_given_up_with_its_work_owed() -> None:
    async def killed_for_ever() -> list[str]:
        engine = Engine()
        supervised = Supervised([engine], name="test", stall_s=60.0, max_deaths=3)
        await supervised.open()

        async def killer() -> None:
            while True:
                await asyncio.sleep(0.001)
                engine.die()

        task = asyncio.create_task(killer())
        try:
            return [await outcome(supervised, "p0"), await outcome(supervised, "p1")]
        finally:
            task.cancel()
            await supervised.close()

    assert asyncio.run(killed_for_ever()) == ["server_error!", "server_error!"]


def test_an_engine_that_does_not_start_again_stops_the_endpoint() -> None:
    engine = Engine(startable=1)
    assert outcomes([engine], TEXTS, before=engine.die) == dict.fromkeys(TEXTS, "server_error!")


def test_a_hung_engine_is_noticed_because_no_token_comes(capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine()

    def hang() -> None:
        engine.hangs = True

    assert outcomes([engine], TEXTS, before=hang, stall_s=0.1) == GOOD
    assert engine.n_starts == 2
    assert "brought no token for 0.1 s with 24 requests in flight" in capsys.readouterr().err


def test_an_engine_that_died_idle_is_up_again_before_anyone_asks() -> None:
    async def idle() -> int:
        engine = Engine()
        supervised = Supervised([engine], name="test", stall_s=0.08)
        await supervised.open()
        engine.die()
        await asyncio.sleep(0.1)
        assert await outcome(supervised, "p0") == "re: p0"
        assert engine.heard == {"p0": 1}
        await supervised.close()
        return engine.n_starts

    assert asyncio.run(idle()) == 2


def test_an_idle_engine_is_not_taken_for_hung() -> None:
    async def idle() -> int:
        engine = Engine()
        supervised = Supervised([engine], name="test", stall_s=0.04)
        await supervised.open()
        await asyncio.sleep(0.3)
        await supervised.close()
        return engine.n_starts

    assert asyncio.run(idle()) == 1


def test_a_suspect_that_is_not_wanted_any_more_holds_nobody_up() -> None:
    async def cancelled() -> list[str]:
        engine = Engine(deadly=lambda text: text == "p7")
        supervised = Supervised([engine], name="test", stall_s=60.0)
        await supervised.open()
        tasks = [asyncio.create_task(outcome(supervised, t)) for t in TEXTS[:8]]
        async with asyncio.timeout(10):
            while engine.n_starts < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        for task in tasks[::2]:
            task.cancel()
        async with asyncio.timeout(10):
            await asyncio.gather(*tasks, return_exceptions=True)
        await supervised.close()
        return [t.result() for t in tasks[1::2]]

    assert asyncio.run(cancelled()) == ["re: p1", "re: p3", "re: p5", "poison"]


def test_what_an_engine_refuses_is_the_callers_to_see() -> None:
    class Refusing(Engine):
        async def ask(self, request: Request) -> Reply:
            raise CallFailed(Reason.CONTEXT_TOO_LONG, "too long")

    engine = Refusing()
    assert outcomes([engine], ["p0"]) == {"p0": "context_too_long"}
    assert engine.n_starts == 1


@pytest.mark.parametrize("hangs", [False, True])
def test_closing_lets_nobody_wait(hangs: bool) -> None:
    """Neither for an engine that is being started again nor for one that hangs."""

    async def closed() -> str:
        engine = Engine(startable=1)
        supervised = Supervised([engine], name="test", stall_s=60.0, start_pause_s=60.0)
        await supervised.open()
        if hangs:
            engine.hangs = True
        else:
            engine.die()
        task = asyncio.create_task(outcome(supervised, "p0"))
        await asyncio.sleep(0.005)
        await supervised.close()
        async with asyncio.timeout(10):
            return await task

    assert asyncio.run(closed()) == "server_error!"


def test_halves_are_two_groups_one_for_one_and_none_for_none() -> None:
    suspects = [Suspect[None](request(t)) for t in TEXTS[:5]]
    assert halves(suspects) == [suspects[:3], suspects[3:]]
    assert halves(suspects[:1]) == [suspects[:1]]
    assert halves([]) == []
