"""Requests a minute, spread evenly: asyncio-throttle with exactly one waiter.

The package's waiters poll and know no order; one is fair by itself and its polling costs nothing that shows. So a
lane's single dispatcher awaits the permit, and whoever is first in line then goes. A permit that cannot be used at
once (the limiter says wait) is let go: kept, it is one too many for the period in which it is used.
"""

from __future__ import annotations

import sys
from math import floor
from typing import Final

from asyncio_throttle.throttler import Throttler

MARGIN: Final = 0.983
"""Of the limit. Polling loses half a poll more in the mean, so 97.6 % were measured; the rest is for requests that
travel unevenly: up to 20 ms cause no refusal by a server that counts a sliding second."""
N_POLLS: Final = 100
"""A period. Fewer lose more of its end."""


class Pacer:
    def __init__(self, rpm: float | None = None) -> None:
        self._throttler = Throttler(rate_limit=1)
        self._awaited = False
        self.retune(rpm)

    def retune(self, rpm: float | None, pace: float = 1.0) -> None:
        """From now on another rate, of which `pace` is the share to use; None: any. What was permitted in the last
        second counts under the new one too."""
        if rpm is None:
            n, period_s = sys.maxsize, 1.0
        else:
            # What a second brings, in a period that is the longer for the margin: a server that counts in seconds then
            # sees one burst in each, and a bucket that holds a second's worth is never asked for more.
            n = max(1, floor(rpm / 60))
            period_s = n * 60 / (rpm * pace * MARGIN)
        self._throttler.rate_limit = n
        self._throttler.period = period_s
        self._throttler.retry_interval = period_s / N_POLLS

    async def permit(self) -> None:
        """Returns when one more request may be sent."""
        assert not self._awaited, "a pacer has one waiter: the lane's dispatcher"
        self._awaited = True
        try:
            async with self._throttler:
                pass
        finally:
            self._awaited = False
