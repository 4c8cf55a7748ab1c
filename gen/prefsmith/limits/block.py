"""After a refusal nobody sends until its wait is over; then the line moves off gently, and in a storm by single probes.

What a server asks for (Retry-After) is waited in full. Without a word from it the wait is a share of the time that
the storm has lasted, so that the time lost after its end is at most that share.
"""

from __future__ import annotations

from math import ceil, inf, log2
from typing import Final

from prefsmith.limits.concurrency import Concurrency

FIRST_BLOCK_S: Final = 1.0
LONGEST_BLOCK_S: Final = 60.0
SHARE_OF_STORM: Final = 1 / 15
"""1 s in the first quarter of a minute, 4 s after a minute, the full 60 s after a quarter of an hour."""
LONGEST_ASKED_S: Final = 3600.0
"""A Retry-After above an hour is hardly meant so, and a run that sleeps for a day looks hung: asked again after it."""
RAMP_S: Final = 1.0
"""The limit comes back evenly over a second: it costs as much as half of it at once would, and a refusal stops it after
a few requests, not after half the limit. Also how slowly a refusal may come and still stop a storm's next probe."""
KNOWN_RAMP_S: Final = 0.25
"""After a refused try, for then the limit is one that the server is known to hold."""


class Block:
    def __init__(self, now: float, *, gentle: bool) -> None:
        """`gentle`: also the very start is a ramp, in which a server can tell its limits before they are passed."""
        self.until = now
        self.free = not gentle
        """Nothing holds requests back, until the next refusal."""
        self.since: float | None = None
        """The first refusal since a usable answer."""
        self.capped_s: float | None = None
        """The longest Retry-After that was more than `LONGEST_ASKED_S`."""
        self._from = now if gentle else -inf

    def wait_s(self, now: float, held: Concurrency, room: Concurrency) -> float:
        """`held`: what this model has in flight; `room`: where its limit was found, the same or what it shares."""
        if now < self.until:
            return self.until - now
        if now - self._from >= RAMP_S and not held.storm:
            self.free = True
            return 0.0
        if held.storm:
            # 1, 2, 4, … out after 0, 1, 2, … seconds: refusals are quick, and answers may take minutes.
            next_s = ceil(log2(held.n_out + 1)) * RAMP_S
        else:
            next_s = held.n_out / room.limit * (KNOWN_RAMP_S if room.fell_back else RAMP_S)
        return max(0.0, next_s - (now - self._from))

    def refused(self, now: float, retry_after_s: float | None, first: bool) -> None:
        """`first`: of its moment; the others only lengthen the wait, if they say so."""
        self.free = False
        self.since = now if self.since is None else self.since
        asked_s = retry_after_s if retry_after_s is not None and retry_after_s > 0 else None
        if asked_s is not None:
            if asked_s > LONGEST_ASKED_S:
                self.capped_s = max(self.capped_s or 0.0, asked_s)
            self.hold(now + min(LONGEST_ASKED_S, asked_s))
        elif first:
            self.hold(now + min(LONGEST_BLOCK_S, max(FIRST_BLOCK_S, SHARE_OF_STORM * (now - self.since))))

    def hold(self, until: float) -> None:
        if until > self.until:
            self.free = False
            self.until = self._from = until

    def ended(self, now: float) -> None:
        """It works again: the line moves off from here."""
        self.free = False
        self._from = max(now, self.until)
