"""The budget of a run: what is spent, what may be, and whether one more request may be sent. A pure state machine.

One unit throughout, nano-dollars or tokens, in whole numbers. A request's upper bound is reserved before it is sent
and the difference given back when its true cost is known, so that the cap is never passed, however many are out.

The *watermark* makes that survive a SIGKILL: it is the sum that the ledger says may be spent, and nothing is sent
beyond it. What was out when a process died is between what its call rows cost and the watermark, and counts as spent
in the next session until the user says otherwise. The ledger needs to keep two numbers, in the same transactions as
the calls: the cost of its call rows, and the watermark. This module knows neither requests nor prices nor the ledger.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Standing(StrEnum):
    """What a request of a given size is told."""

    ROOM = "room"
    """It may be sent."""
    WAITING = "waiting"
    """Not yet: refunds are out, or a higher watermark is not committed yet."""
    REACHED = "reached"
    """Never: nothing is out that could give back enough."""


@dataclass(slots=True)
class Budget:
    """`spent`: what the ledger's call rows cost. `maybe`: what may have been billed beside that and has no price,
    such as requests that were out when a process was killed."""

    cap: int
    spent: int = 0
    maybe: int = 0
    reserved: int = field(default=0, init=False)
    """Upper bounds of all requests that are out."""
    _sendable: int = field(init=False)
    """The watermark that holds: the committed one, or a lower one that is on its way to the ledger."""
    _asked: int | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._sendable = self.counted

    @classmethod
    def resumed(cls, cap: int, spent: int, watermark: int) -> Budget:
        """The budget of a ledger with history; clean or unclean, what the watermark holds beyond the rows' cost may
        have been billed. A user who knows better passes the watermark that they vouch for, at least `spent`."""
        return cls(cap, spent, max(0, watermark - spent))

    @property
    def counted(self) -> int:
        """All that is spent or may yet turn out to be."""
        return self.spent + self.maybe + self.reserved

    @property
    def free(self) -> int:
        """What is left under the cap; 0 when a server has charged more than it could."""
        return max(0, self.cap - self.counted)

    def take(self, most: int) -> bool:
        """Reserve a request's upper bound; False when it must not be sent now."""
        if self.counted + most > min(self.cap, self._sendable):
            return False
        self.reserved += most
        return True

    def settle(self, most: int, actual: int) -> None:
        """A request that took `most` cost `actual`. A server that charged more than it could is believed."""
        self.reserved -= most
        self.spent += actual

    def lost(self, most: int) -> None:
        """A request that took `most` may have been billed, and nobody says how much: it counts in full."""
        self.reserved -= most
        self.maybe += most

    def standing(self, smallest: int) -> Standing:
        """How the smallest waiting request stands. REACHED ends the session: run again with a larger budget."""
        counted = self.counted
        if counted + smallest > self.cap:
            return Standing.WAITING if self.reserved else Standing.REACHED
        return Standing.ROOM if counted + smallest <= self._sendable else Standing.WAITING

    def wanted(self, lookahead: int) -> int | None:
        """The watermark that the next commit should write; None when it is right, or one is on its way already.

        To be asked whenever a group of rows is about to be committed, and when `take` said no. `lookahead`: how much
        may be taken until the commit after that, at least as much as the smallest waiting request; 0 at a clean end.
        After a kill up to `lookahead` counts as spent though it was never sent: a few commits' worth is enough.

        A lower watermark binds at once, a higher one when `raised` says that it is committed: whichever of the two the
        ledger holds after a kill, no more than that was sent. Only one is under way at a time, as a higher one that
        lands after a lower one was asked for would let requests out that the ledger no longer covers.
        """
        if self._asked is not None:
            return None
        counted = self.counted
        to = max(counted, min(self.cap, counted + lookahead))
        if to == self._sendable:
            return None
        self._asked = to
        self._sendable = min(self._sendable, to)
        return to

    def raised(self, to: int) -> None:
        """The commit that wrote the watermark `to` has returned."""
        if to != self._asked:
            raise ValueError(f"the watermark {to} was not asked for; {self._asked} is on its way")
        self._asked = None
        self._sendable = to
