"""How many requests a server may have in flight, found out from what it refuses.

For servers that tell no quota. The limit starts at the most that the recipe allows; a refusal cuts it to what the
server was seen to hold, and beyond that it is tried again ever more rarely, because each try that fails costs a
refusal and the wait that comes with it. Debouncing, one cut an episode and growth only when saturated are those of
inspect_ai's controller (`util/_concurrency.py`, commit 499e6152e); the cut to what was held is our own: it finds a
hidden limit in one episode where a cut by a factor needs several.
"""

from __future__ import annotations

from typing import Final

FIRST_PATIENCE_S: Final = 5.0
"""Doubled by every refusal, so the first try beyond a refused ceiling comes after 10 s. A failed try costs about 1.2 s
of the server's time (1 s Retry-After, then the refill): 10, 20, 40, … s lose 4 % of the first two minutes and less
than 1 % from then on."""
LONGEST_PATIENCE_S: Final = 300.0
"""A server that was given more room is found out within five minutes of work at the limit."""


class Concurrency:
    """Requests are numbered as they are sent. An *episode* begins with the refusal of a request that was sent after
    the last one began; refusals of what was sent before are of the same moment and only sharpen its cut."""

    def __init__(self, now: float, most: int) -> None:
        self.most = self.limit = self.ceiling = most
        self.n_in_flight = 0
        self.n_out = 0
        """In flight, and sent since the last episode began."""
        self.fell_back = False
        """The last episode took back no more than a try: the limit was held before."""
        self._patience_s = FIRST_PATIENCE_S
        self._since = now
        self._n_sent = 0
        self._episode = self._episode_before = 0
        self._n_accepted = 1
        self._held = 0
        self._least = 1
        self._n_step = 1
        self._proven = 0
        self._chance = False
        self._look = self._n_clean = self._peak = 0

    @property
    def storm(self) -> bool:
        """All that was sent between the last two episodes was refused: that is not for its number."""
        return self._n_accepted <= 0

    def sent(self) -> int:
        """Returns the request's number, to be told when it is back."""
        self.n_in_flight += 1
        self.n_out += 1
        self._peak = max(self._peak, self.n_in_flight)
        self._n_sent += 1
        return self._n_sent - 1

    def failed(self, number: int) -> None:
        """It came back without a word on how busy the server is."""
        self.n_in_flight -= 1
        if number >= self._episode:
            self.n_out -= 1

    def answered(self, now: float, number: int) -> bool:
        """Whether the server takes new work: the request was sent after the last episode began."""
        self.failed(number)
        fresh = number >= self._episode
        if fresh:
            self._n_accepted = max(1, self._n_accepted)
        if number >= self._look:
            self._n_clean += 1
            if self._n_clean >= self.limit:
                self._grow(now)
        return fresh

    def refused(self, now: float, number: int, *, cut: bool = True) -> bool:
        """Whether a new episode begins. `cut=False`: the refusal is known to be about a rate."""
        new = number >= self._episode
        self.failed(number)
        if new:
            self._begin_episode()
        if number < self._episode_before:
            return False
        self._n_accepted -= 1
        self._held -= 1
        if cut:
            self._cut(now, new)
        return new

    def _begin_episode(self) -> None:
        self._n_accepted = self._n_sent - self._episode
        self._episode_before, self._episode = self._episode, self._n_sent
        self._held = self.n_in_flight + 1
        self.n_out = 0
        self.fell_back = False

    def _cut(self, now: float, new: bool) -> None:
        if new and not self.storm:
            self.fell_back = self.limit > self.ceiling
            self._chance = not self.fell_back and self._held < self._proven
            # A try that is refused falls back to the ceiling: an answer may just have come whose place is not
            # filled yet, and so too few be in flight.
            self._least = self.ceiling if self.fell_back else 1
            if self._chance:
                # It held more a moment ago: not for the number, unless that is so again and again.
                self._proven //= 2
            else:
                self._patience_s = min(LONGEST_PATIENCE_S, 2 * self._patience_s)
        if self.storm:
            if not self._proven:
                # What was cut when a storm began was cut for nothing, and is needed in full when it ends.
                self.limit = self.ceiling = self.most
        elif not self._chance:
            self.limit = self.ceiling = min(self.most, max(self._least, self._held))
        self._since = now
        self._look_again()

    def _grow(self, now: float) -> None:
        """After a round without a refusal: further at once, in doubling steps, where the last step held; beyond a
        ceiling that was refused only when it is time. Never when the limit was not reached, for then it is not what
        holds the work up."""
        self._proven = max(self._proven, self._peak)
        saturated, trying = self._peak >= self.limit, self.limit > self.ceiling
        if saturated and trying:
            self.ceiling = self.limit
            self._patience_s = max(2 * FIRST_PATIENCE_S, self._patience_s / 2)
        if saturated and self.limit < self.most and (trying or now - self._since >= self._patience_s):
            self._n_step = 2 * self._n_step if trying else 1
            self.limit = min(self.most, self.limit + self._n_step)
            self._since = now
        self._look_again()

    def _look_again(self) -> None:
        self._look, self._n_clean, self._peak = self._n_sent, 0, self.n_in_flight
