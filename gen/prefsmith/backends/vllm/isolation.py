"""Which request kills the engine: suspects run apart, halved at each death, until one kills it all by itself.

The halves that survive are answered on the way. It knows neither engines nor processes: a place to run is asked for
and given back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from prefsmith.errors import CallFailed
from prefsmith.records import Request

Place = TypeVar("Place")


class Suspect(Generic[Place]):
    """A request on its way, suspected or not yet. `n_answered`: of all requests, when it became a suspect."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.n_deaths = 0
        self.n_answered = 0
        self.fell = False
        self.ended = asyncio.Event()
        self.leash: asyncio.Timeout | None = None
        self._turn: asyncio.Future[Place] | None = None
        self._given_up: CallFailed | None = None

    async def next_turn(self) -> Place:
        """Where to run now. Raises CallFailed when there is no turn any more."""
        if self._given_up is not None:
            raise self._given_up
        self._turn = asyncio.get_running_loop().create_future()
        return await self._turn

    def send_to(self, place: Place) -> None:
        assert self._turn is not None
        self.fell = False
        self.ended.clear()
        if not self._turn.done():
            self._turn.set_result(place)

    def refuse(self, error: CallFailed) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_exception(error)
        else:
            self._given_up = error


class Isolation(Generic[Place]):
    def __init__(self, apart: Callable[[], Awaitable[Place]], together: Callable[[Place], None]) -> None:
        """`apart` waits for a place where nothing but suspects runs; `together` gives it back."""
        self.runs = False
        self.lonely: list[Suspect[Place]] = []
        self._apart, self._together = apart, together
        self._arrived: list[Suspect[Place]] = []
        self._groups: list[list[Suspect[Place]]] = []

    @contextmanager
    def held(self, suspect: Suspect[Place]) -> Iterator[None]:
        """From its arrival until it is answered, refused or no longer wanted."""
        self._arrived.append(suspect)
        try:
            yield
        finally:
            suspect.ended.set()
            for group in (self._arrived, self.lonely, *self._groups):
                if suspect in group:
                    group.remove(suspect)

    async def rounds(self) -> AsyncIterator[Suspect[Place]]:
        """Run all suspects, those that come meanwhile too; yields each that kills its place alone."""
        while self._arrived or any(self._groups):
            place = await self._apart()
            try:
                self._groups += halves(self._arrived)
                self._arrived = []
                group = self._groups.pop()
                for suspect in [*group]:
                    suspect.send_to(place)
                alone = len(group) == 1
                for suspect in [*group]:
                    await suspect.ended.wait()
                fallen = [s for s in group if s.fell]
            finally:
                self._together(place)
            if alone and fallen:
                yield fallen[0]
            elif fallen:
                self._groups += halves(fallen)

    def fail(self, why: Callable[[], CallFailed]) -> None:
        for suspect in {*self._arrived, *self.lonely, *(s for g in self._groups for s in g)}:
            suspect.refuse(why())
        self._arrived, self.lonely, self._groups = [], [], []


def halves(suspects: Sequence[Suspect[Place]]) -> list[list[Suspect[Place]]]:
    """Two groups, one for a single suspect, none for none."""
    middle = (len(suspects) + 1) // 2
    return [list(half) for half in (suspects[:middle], suspects[middle:]) if half]
