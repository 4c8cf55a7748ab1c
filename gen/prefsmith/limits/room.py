"""What one server holds of several models together.

Most servers that limit what is in flight count all their models as one; some count each by itself. The first is
believed from the start, for so what one model leaves is another's at once. It is given up for good when the server
answers more than it should hold, or refuses what it held before; then each model's own limit counts, which was found
out all the while.
"""

from __future__ import annotations

from math import inf
from typing import Final

from prefsmith.limits.concurrency import Concurrency

N_ODD: Final = 3
"""A single refusal of what was held before may be another tenant's doing, or the begin of a storm."""
N_SURE: Final = 4
SHARE_SURE: Final = 5 / 16
"""So many beyond the limit at once, and of it, are answered only by a server that has no such limit: one or two come in
for what was answered a moment ago."""
MOST_SHARE: Final = 0.75
"""Who has more of the limit in flight may be refused for its own."""


class Room:
    """Shared by the limiters of one server, each of which calls itself by a name of its own. `most`: what all of them
    may have in flight together."""

    def __init__(self, now: float, most: int) -> None:
        self.held = Concurrency(now, most)
        self.apart = False
        """Each model has its own limit."""
        self._refused: str | None = None
        """Whose refusal the limit is from."""
        self._tried = False
        """Others were refused beyond it too: it is a limit of all."""
        self._beyond = dict[int, int]()
        """How far beyond the limit each of those that are is, by their numbers."""
        self._step = 1
        """How far others may go."""
        self._n_odd = 0

    def n_free(self, name: str, n_in_flight: int) -> float:
        """How many more a model may send that has so many in flight."""
        if self.apart:
            return inf
        held = self.held
        n = held.limit - held.n_in_flight
        if self._tried or self._refused in (None, name) or held.storm or n_in_flight > MOST_SHARE * held.limit:
            return n
        return n + self._step

    def sent(self) -> int:
        held = self.held
        number = held.sent()
        if held.n_in_flight > held.limit:
            self._beyond[number] = held.n_in_flight - held.limit
        return number

    def failed(self, number: int) -> None:
        self.held.failed(number)
        self._beyond.pop(number, None)

    def answered(self, now: float, number: int) -> None:
        held = self.held
        held.answered(now, number)
        if self._beyond and self._beyond.pop(number, 0) >= self._step:
            self._step += 1
            self.apart = self.apart or self._step > max(N_SURE, SHARE_SURE * held.limit)

    def refused(self, now: float, number: int, name: str, *, cut: bool, asked_s: float | None) -> None:
        held = self.held
        known, trying, beyond = held.ceiling < held.most, held.limit > held.ceiling, bool(self._beyond)
        itself = self._beyond.pop(number, 0) > 0  # what was refused beyond the limit says nothing against the limit
        self._tried = self._tried or beyond
        new = held.refused(now, number, cut=cut and not itself, asked_s=asked_s)
        if not new or not cut or beyond or held.storm:
            return
        self._refused = name
        if known:
            self._n_odd = 0 if trying else self._n_odd + 1
            self.apart = self.apart or self._n_odd >= N_ODD
