"""Whether an endpoint is up: after many failures it is left alone, and then asked by one request at a time.

Counts what says that the server is not there (no connection, 5xx, time-outs), never a 429 or another 4xx.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final

WINDOW_S: Final = 30.0
N_WINDOW: Final = 50
N_LEAST: Final = 5
"""More failures than successes, of at least 5 results within 30 s (litellm's rule, `router_utils/cooldown_handlers.py`
of 1.109.1). At most 50: else a server that answered thousands in the half minute before it died would have to fail
thousands before it is believed. Of 50, a server that fails 3 in 10 at random trips about once in thousands."""
NOTHING_FOR_S: Final = 0.5
"""Or 5 failures in a row and nothing else for so long: what a slow lane sees of an outage before a request has used up
its attempts."""
FIRST_OPEN_S: Final = 5.0
LONGEST_OPEN_S: Final = 60.0
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 2.0
"""The only endpoint: nothing is gained by staying away, and 2 s and a reply after an outage all goes on."""


class Breaker:
    """`alone`: there is nowhere else to go; then it never opens for long but pauses. May be set while it runs."""

    def __init__(self, *, alone: bool) -> None:
        self.alone = alone
        self.down = False
        self.failing_since: float | None = None
        """The first failure since a success."""
        self._results: deque[tuple[float, bool]] = deque(maxlen=N_WINDOW)
        self._n_in_a_row = 0
        self.epoch = 0
        """Raised each time it trips."""
        self._n_tries = 0
        self._tried_at = 0.0
        self._probing = False

    def wait_s(self, now: float) -> float:
        """0: may send; inf: a probe is out."""
        if not self.down:
            return 0.0
        return inf if self._probing else max(0.0, self._tried_at + self._interval_s() - now)

    def sent(self) -> int:
        """Returns the epoch, to be told when it is back. While the endpoint is down the request is the probe."""
        self._probing = self.down
        return self.epoch

    def back(self, now: float, ok: bool, epoch: int) -> None:
        """What was sent before the breaker tripped says nothing of how the endpoint is now."""
        if epoch != self.epoch:
            return
        if ok:
            self.failing_since, self._n_in_a_row = None, 0
            if self.down:
                self._results.clear()
                self.down = self._probing = False
        else:
            self.failing_since = now if self.failing_since is None else self.failing_since
            self._n_in_a_row += 1
        self._results.append((now, ok))
        if self.down:
            self._probing = False
            self._n_tries += 1
            self._tried_at = now
        elif not ok and self._trips(now, self.failing_since):
            self.down = True
            self.epoch += 1
            self._n_tries, self._tried_at = 0, now

    def _trips(self, now: float, since: float | None) -> bool:
        while self._results[0][0] < now - WINDOW_S:
            self._results.popleft()
        n_failed = sum(not ok for _, ok in self._results)
        most = n_failed >= N_LEAST and 2 * n_failed > len(self._results)
        return most or (self._n_in_a_row >= N_LEAST and since is not None and now - since >= NOTHING_FOR_S)

    def _interval_s(self) -> float:
        first, longest = (FIRST_PAUSE_S, LONGEST_PAUSE_S) if self.alone else (FIRST_OPEN_S, LONGEST_OPEN_S)
        return min(longest, first * 2.0 ** min(self._n_tries, 10))
