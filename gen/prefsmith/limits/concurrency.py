"""How many requests a server may have in flight, found out from what it refuses.

For servers that tell no quota. The limit starts at the most that the recipe allows; a refusal cuts it to what the
server was seen to hold, and beyond that it is tried again ever more rarely, because each try that fails costs a
refusal and the wait that comes with it. Debouncing, one cut an episode and growth only when saturated are those of
inspect_ai's controller (`util/_concurrency.py`, commit 499e6152e); the cut to what was held is our own: it finds a
hidden limit in one episode where a cut by a factor needs several.
"""

from __future__ import annotations

from typing import Final

FIRST_PATIENCE_S: Final = 10.0
"""Before a try beyond a refused ceiling; doubled by each that fails."""
PATIENCE_OF_ASKED: Final = 20.0
"""Or so many times what the refusal asked to wait, when that is longer: the wait and the refill are what a try that
fails costs. For 1 s the tries are after 20, 40, 80, … s and lose 3 % of the first two minutes, 1 % from then on."""
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
        self._first_patience_s = self._patience_s = FIRST_PATIENCE_S
        self._since = now
        self._n_sent = 0
        self._episode = self._episode_before = 0
        self._n_accepted = 1
        self._held = 0
        self._least = 1
        self._n_step = 1
        self._before: int | None = None
        """The limit when something was last answered that was sent after an episode."""
        self._proven = 0
        """What the server was seen to hold since the last episode: in flight when an answer came, less an eighth for
        what was on its way and would be refused. An older sight counts half."""
        self._chance = False
        """The refusal is not for the number: more were held a moment ago. Unless that is so again and again."""
        self._look = self._n_clean = self._peak = 0

    @property
    def storm(self) -> bool:
        """All that was sent between the last two episodes was refused: that is not for its number."""
        return self._n_accepted <= 0

    def sent(self) -> int:
        """Returns the request's number, to be told when it is back."""
        self.n_in_flight += 1
        self.n_out += 1
        if self.n_in_flight > self._peak:
            self._peak = self.n_in_flight
        self._n_sent += 1
        return self._n_sent - 1

    def failed(self, number: int) -> None:
        """It came back without a word on how busy the server is."""
        self.n_in_flight -= 1
        if number >= self._episode:
            self.n_out -= 1

    def answered(self, now: float, number: int) -> bool:
        """Whether the server takes new work: the request was sent after the last episode began."""
        fresh = number >= self._episode
        if fresh:
            self._before = None
            if self._n_accepted < 1:
                self._n_accepted = 1
            if self.n_in_flight > self._proven:
                self._proven = max(self._proven, self.n_in_flight - max(1, self.n_in_flight // 8))
        self.failed(number)
        if number >= self._look:
            self._n_clean += 1
            if self._n_clean >= self.limit:
                self._grow(now)
        return fresh

    def refused(self, now: float, number: int, *, cut: bool = True, asked_s: float | None = None) -> bool:
        """Whether a new episode begins. `cut=False`: the refusal is known to be about a rate; `asked_s`: how long the
        server asked to wait."""
        new = number >= self._episode
        self.failed(number)
        if new:
            self._begin_episode()
        if number < self._episode_before:
            return False
        self._n_accepted -= 1
        self._held -= 1
        if cut:
            if not self.storm:
                self._be_patient(asked_s or 0.0)
            self._cut(now, new)
        return new

    def _begin_episode(self) -> None:
        self._n_accepted = self._n_sent - self._episode
        self._episode_before, self._episode = self._episode, self._n_sent
        self._held = self.n_in_flight + 1
        self.n_out = 0
        self.fell_back = False

    def _be_patient(self, asked_s: float) -> None:
        self._first_patience_s = min(LONGEST_PATIENCE_S, max(FIRST_PATIENCE_S, PATIENCE_OF_ASKED * asked_s))
        self._patience_s = max(self._patience_s, self._first_patience_s)

    def _cut(self, now: float, new: bool) -> None:
        if self.storm:
            # What was cut when the storm began was cut for nothing, and is needed in full when it ends.
            self.limit = self.ceiling = self._before or self.limit
        else:
            if new:
                self._judge(now)
            if not self._chance:
                self.limit = self.ceiling = min(self.limit, max(self._least, self._held))
        self._look_again()

    def _judge(self, now: float) -> None:
        """What the first refusal of an episode is about."""
        self._before = self._before or self.limit
        self._chance = self._held < max(1, self._proven)
        self.fell_back = self.limit > self.ceiling and not self._chance
        # A try that is refused falls back to the ceiling: an answer may just have come whose place is not filled yet,
        # and so too few be in flight.
        self._least = self.ceiling if self.fell_back else 1
        if self.fell_back:
            self._patience_s = min(LONGEST_PATIENCE_S, 2 * self._patience_s)
            self._since = now
        self._proven //= 2

    def _grow(self, now: float) -> None:
        """After a round without a refusal: further at once, in doubling steps, where the last step held; beyond a
        ceiling that was refused only when it is time. Never when the limit was not reached, for then it is not what
        holds the work up."""
        saturated, trying = self._peak >= self.limit, self.limit > self.ceiling
        if saturated and trying:
            self.ceiling = self.limit
            if self._n_step > 1:  # a single step more may have been luck
                self._patience_s = self._first_patience_s
        due = now - self._since >= self._patience_s
        if saturated and self.limit < self.most and (trying or due):
            self._n_step = 2 * self._n_step if trying else 1
            self.limit = min(self.most, self.limit + self._n_step)
            self._since = now
        self._look_again()

    def _look_again(self) -> None:
        self._look, self._n_clean, self._peak = self._n_sent, 0, self.n_in_flight
