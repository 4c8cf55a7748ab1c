"""Engines that die or hang, so that nobody else has to know: whoever asks waits, and gets an answer or a reason.

A dead engine is started again, and what it was working on is asked again. A request in flight at two deaths is a
suspect, and suspects run apart (`Isolation`). What an engine is, a process or a server, is not known here.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Coroutine, Hashable, Sequence
from typing import Any, Final, Protocol
from zlib import crc32

from prefsmith.backends.vllm.isolation import Isolation, Suspect
from prefsmith.errors import CallFailed, PrefsmithError
from prefsmith.reasons import Reason
from prefsmith.records import Reply, Request, canonical
from prefsmith.text import counted

SUSPECT_AFTER: Final = 2
MAX_DEATHS, WITHIN_S = 8, 1800.0
"""An engine that dies more often, deaths of suspects apart, is broken and not unlucky."""
MAX_BARREN: Final = 20
"""So many deaths in a row with no answer between, suspects or not: to halve 1,024 suspects takes 10."""
START_TRIES: Final = 3
START_PAUSE_S: Final = 5.0
STOP_S: Final = 20.0
_SLACK: Final = 4
"""Requests more than the idlest engine has before a prompt leaves the one that holds its prefix."""


class Died(Exception):
    """The engine is gone, and with it every answer that it had begun."""


class Engine(Protocol):
    async def start(self) -> None:
        """Raises PrefsmithError when the model cannot be loaded."""
        ...

    async def ask(self, request: Request) -> Reply:
        """Raises CallFailed; Died when the engine went down."""
        ...

    async def pulse(self) -> Hashable:
        """Differs from the last one when a token came between; raises Died when the engine is seen to be down."""
        ...

    async def stop(self, wait_s: float) -> None:
        """End it, whatever state it is in; after `wait_s` by force."""
        ...


class Replica:
    """One engine. `apart`: only suspects may be sent there. `out`: it is given up."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.up = self.out = self.apart = False
        self.asked: set[Suspect[Replica]] = set()
        self.deaths: deque[float] = deque()
        self.pulse: Hashable = None
        self.since = 0.0


class Supervised:
    """Equal engines behind one `send`. `n_restarts` counts those that were started again."""

    def __init__(
        self,
        engines: Sequence[Engine],
        *,
        name: str,
        stall_s: float,
        max_deaths: int = MAX_DEATHS,
        start_pause_s: float = START_PAUSE_S,
    ) -> None:
        self.n_restarts = 0
        self.n_answered = 0
        self._name, self._stall_s = name, stall_s
        self._max_deaths, self._start_pause_s = max_deaths, start_pause_s
        self._replicas = [Replica(engine) for engine in engines]
        self._gone: str | None = None
        self._n_sends = self._n_barren = 0
        self._waiting: list[asyncio.Future[None]] = []
        self._isolation = Isolation[Replica](self._apart, self._together)
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        told = await asyncio.gather(*(r.engine.start() for r in self._replicas), return_exceptions=True)
        for error in told:
            if error is not None:
                raise error
        for replica in self._replicas:
            replica.up = True
        self._spawn(self._watched())

    async def close(self) -> None:
        self._gone = self._gone or "it is closed"
        self._changed()
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for replica in self._replicas:
            self._let_go(replica)
        await asyncio.gather(*(r.engine.stop(STOP_S) for r in self._replicas))

    # -- asking

    async def send(self, request: Request) -> Reply:
        asked = Suspect[Replica](request)
        self._n_sends += 1
        try:
            while asked.n_deaths < SUSPECT_AFTER:
                replica = await self._free(request)
                try:
                    return await self._ask(replica, asked)
                except Died:
                    continue
            return await self._as_suspect(asked)
        finally:
            self._n_sends -= 1
            self._settle_lonely()

    async def _ask(self, replica: Replica, asked: Suspect[Replica]) -> Reply:
        replica.asked.add(asked)
        try:
            async with asyncio.timeout(None) as asked.leash:
                reply = await replica.engine.ask(asked.request)
        except TimeoutError:
            raise Died from None  # the leash was pulled
        except Died:
            asked.leash = None
            self._fell(replica, "died")
            raise
        finally:
            asked.leash = None
            replica.asked.discard(asked)
            if not replica.asked:
                self._changed()
        self.n_answered += 1
        self._n_barren = 0
        return reply

    async def _free(self, request: Request) -> Replica:
        """An engine that is up; the same one for the same conversation, unless it has much more to do."""
        while True:
            up = [r for r in self._replicas if r.up and not r.apart]
            if len(up) == 1:
                return up[0]
            if up:
                idlest = min(up, key=lambda r: len(r.asked))
                usual = up[crc32(canonical(request.messages)) % len(up)]
                return usual if len(usual.asked) <= len(idlest.asked) + _SLACK else idlest
            await self._change()

    async def _change(self) -> None:
        """Until something about the engines has changed. Raises CallFailed when none will come back."""
        if self._gone is not None:
            raise self._given_up()
        changed = asyncio.get_running_loop().create_future()
        self._waiting.append(changed)
        await changed

    def _changed(self) -> None:
        waiting, self._waiting = self._waiting, []
        for one in waiting:
            if not one.done():
                one.set_result(None)

    def _given_up(self) -> CallFailed:
        return CallFailed(Reason.SERVER_ERROR, f"{self._name}: {self._gone}", stops_endpoint=True)

    # -- suspects

    async def _as_suspect(self, asked: Suspect[Replica]) -> Reply:
        asked.n_answered = self.n_answered
        with self._isolation.held(asked):
            if not self._isolation.runs:
                self._isolation.runs = True
                self._spawn(self._isolated())
            while True:
                replica = await asked.next_turn()
                try:
                    return await self._ask(replica, asked)
                except Died:
                    asked.fell = True
                finally:
                    asked.ended.set()

    async def _isolated(self) -> None:
        try:
            async for alone in self._isolation.rounds():
                self._isolation.lonely.append(alone)
                self._settle_lonely()
        except CallFailed:
            self._isolation.fail(self._given_up)
        finally:
            self._isolation.runs = False

    def _settle_lonely(self) -> None:
        """A request that killed an engine all by itself is poison once another one was answered since: else it may be
        the engine that cannot do anything."""
        for asked in [*self._isolation.lonely]:
            if self.n_answered > asked.n_answered:
                detail = f"{self._name}: an engine died of this request alone, its death number {asked.n_deaths}"
                self._isolation.lonely.remove(asked)
                asked.refuse(CallFailed(Reason.POISON, detail))
        lonely = self._isolation.lonely
        if lonely and self._n_sends == len(lonely):
            self._gone = self._gone or "the engine dies of every request, and nothing was answered since it first did"
            self._isolation.fail(self._given_up)

    async def _apart(self) -> Replica:
        """An engine that is up, has nothing left to do, and gets nothing but suspects from now on."""
        while True:
            up = [r for r in self._replicas if r.up]
            if up:
                replica = min(up, key=lambda r: len(r.asked))
                replica.apart = True
                while replica.up and replica.asked:
                    await self._change()
                if replica.up:
                    return replica
                self._together(replica)
            await self._change()

    def _together(self, replica: Replica) -> None:
        replica.apart = False
        self._changed()

    # -- dying and coming back

    def _fell(self, replica: Replica, how: str) -> None:
        """The engine is down: what it had in flight is asked again, and it is started again."""
        if not replica.up:
            return
        now = asyncio.get_running_loop().time()
        self._let_go(replica)
        for asked in replica.asked:
            asked.n_deaths += 1
        self._n_barren += 1
        if not replica.apart:
            replica.deaths.append(now)
        while replica.deaths and replica.deaths[0] < now - WITHIN_S:
            replica.deaths.popleft()
        self._say(f"an engine {how} with {counted(len(replica.asked), 'request')} in flight; it is started again")
        if len(replica.deaths) > self._max_deaths or self._n_barren > MAX_BARREN:
            self._spawn(self._drop(replica, "its engine died too often; what it printed above may say why"))
        else:
            self._spawn(self._restart(replica))

    def _let_go(self, replica: Replica) -> None:
        """Who waits for an answer of this engine gets none, whether it says so or hangs."""
        replica.up = False
        for asked in replica.asked:
            if asked.leash is not None:
                asked.leash.reschedule(asyncio.get_running_loop().time())

    async def _restart(self, replica: Replica) -> None:
        error: PrefsmithError | None = None
        for attempt in range(START_TRIES):
            await replica.engine.stop(0)
            try:
                await replica.engine.start()
            except PrefsmithError as e:
                error = e
                await asyncio.sleep(self._start_pause_s * (attempt + 1))
                continue
            self.n_restarts += 1
            replica.up, replica.pulse, replica.since = True, None, asyncio.get_running_loop().time()
            self._changed()
            return
        await self._drop(replica, f"its engine does not start again: {error}")

    async def _drop(self, replica: Replica, why: str) -> None:
        replica.out = True
        await replica.engine.stop(0)
        self._say(why)
        if all(r.out for r in self._replicas):
            self._gone = why
        self._changed()

    async def _watched(self) -> None:
        """Look for engines that died idle, and for those that have work and bring no token."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(5.0, self._stall_s / 8))
            for replica in self._replicas:
                if not replica.up:
                    continue
                try:
                    pulse = await replica.engine.pulse()
                except Died:
                    self._fell(replica, "died")
                    continue
                if pulse != replica.pulse or not replica.asked:
                    replica.pulse, replica.since = pulse, loop.time()
                elif loop.time() - replica.since > self._stall_s:
                    self._fell(replica, f"brought no token for {self._stall_s:g} s")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _say(self, what: str) -> None:
        print(f"{self._name}: {what}", file=sys.stderr)
