"""A bucket of tokens that fills at an even rate; requests weigh what they cost.

Whoever is first in line asks for its amount and nobody else is asked until it was served: so nothing light overtakes
something heavy. The line is the caller's.
"""

from __future__ import annotations

from typing import Final

_DUST: Final = 1e-6
"""Less than this is rounding: a wait for it could be too short to move a float clock."""


class Bucket:
    """Holds at most `capacity` tokens and fills by `per_minute`. What is larger than the capacity may go when the
    bucket is full, and leaves a debt: all that follows waits until it is paid."""

    def __init__(self, now: float, per_minute: float, capacity: float) -> None:
        self.per_minute = per_minute
        self.capacity = capacity
        self.level = capacity
        self._at = now

    def wait_s(self, now: float, amount: float) -> float:
        self._fill(now)
        missing = min(amount, self.capacity) - self.level
        return missing * 60.0 / self.per_minute if missing > _DUST else 0.0

    def take(self, now: float, amount: float) -> None:
        self._fill(now)
        self.level -= amount

    def refund(self, now: float, amount: float) -> None:
        """Give back what a request was estimated at more than it cost; what it cost more is negative, and a debit."""
        self._fill(now)
        self.level = min(self.capacity, self.level + amount)

    def retune(self, now: float, per_minute: float, capacity: float) -> None:
        """From now on another rate; what was taken stays taken."""
        self._fill(now)
        self.per_minute, self.capacity = per_minute, capacity
        self.level = min(capacity, self.level)

    def _fill(self, now: float) -> None:
        if now > self._at:
            self.level = min(self.capacity, self.level + (now - self._at) * self.per_minute / 60.0)
            self._at = now
