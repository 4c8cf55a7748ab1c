"""What one endpoint may be sent, and when: its declared limits, those that it tells, and those that it shows.

Knows no queue and no task: whoever is first in line asks `wait_s`, sends when it is 0, and tells every result with
`back`. How requests are spread over a minute is the pacer's; `rpm` says what it should pace by.
"""

from __future__ import annotations

from enum import StrEnum
from math import inf, isfinite
from typing import Final, NamedTuple

from prefsmith.limits.block import LONGEST_ASKED_S, Block
from prefsmith.limits.breaker import Breaker
from prefsmith.limits.bucket import Bucket
from prefsmith.limits.concurrency import Concurrency
from prefsmith.limits.room import Room
from prefsmith.limits.strays import Strays
from prefsmith.records import Quota

LEAST_WAIT_S: Final = 0.001
"""A shorter wait could be too short to move a float clock."""
TOKEN_MARGIN: Final = 0.97
BURST_S: Final = 1.0
"""The bucket holds what a second brings: together at most 98.7 % of what a sliding minute allows."""
LONGEST_MINUTE_S: Final = 65.0
"""A quota that takes longer than this to be whole again is no minute's (Groq tells requests of a day)."""

AGAIN_S: Final = 30.0
SLOWER: Final = 0.97
QUICKER_A_S: Final = 0.0005
SLOWEST: Final = 0.5
"""A step of 3 % is won back in a minute: a refusal and its block cost about 2 s, the same 3 % of that minute."""


class Outcome(StrEnum):
    OK = "ok"
    """Any usable answer."""
    REFUSED = "refused"
    """A 4xx about this request: the endpoint is up."""
    LIMITED = "limited"
    """A 429."""
    OVERLOADED = "overloaded"
    """A 503."""
    FAILED = "failed"
    """Another 5xx, no connection, a time-out, a broken reply."""


_OK, _FAILED = Outcome.OK, Outcome.FAILED  # CPython 3.11 finds a member by way of an error: too slow for every reply


class Ticket(NamedTuple):
    """Handed out with each request sent, and back with its result."""

    n_tokens: float
    number: int
    epoch: int
    in_room: int
    """Its number among those of all models of the server; -1 when none is shared."""


class Limiter:
    """One for each model of an endpoint. Every ticket must come back once."""

    def __init__(
        self, *, concurrency: int, rpm: float | None, tpm: float | None, now: float, alone: bool, gentle: bool = True
    ) -> None:
        self._concurrency = Concurrency(now, concurrency)
        self._breaker = Breaker(alone=alone)
        self._block = Block(now, gentle=gentle)
        self._room: Room | None = None
        self._name = ""
        self._bucket: Bucket | None = None
        self._declared = Quota(rpm=rpm, tpm=tpm)
        self.rpm, self.tpm = rpm, tpm
        """Allowed a minute: declared or told by the server, the smaller when both; None when neither."""
        self.pace = 1.0
        """The share of `rpm` to use: less than 1 while the server refuses even what it should allow."""
        self._told = False
        self._strays = Strays()
        self._paced_at = -inf
        self._learnt_at = now
        self.n_ok = self.n_429 = self.n_503 = self.n_failed = self.n_episodes = 0
        self._tune_bucket(now)

    def wait_s(self, now: float, n_tokens: float) -> float:
        """0: send now. Otherwise ask again after so long, or sooner when something came back; inf: only then."""
        held, room = self._concurrency, self._room
        if held.n_in_flight >= held.limit if room is None else self._n_free(room) < 1:
            return inf
        if self._block.free and self._bucket is None and not self._breaker.down:
            return 0.0  # nothing limits it: asked for every request
        waits_s = (
            self._breaker.wait_s(now),
            self._block.wait_s(now, held, self._deciding),
            self._bucket.wait_s(now, n_tokens) if self._bucket is not None else 0.0,
        )
        return max(LEAST_WAIT_S, *waits_s) if any(waits_s) else 0.0

    def sent(self, now: float, n_tokens: float) -> Ticket:
        if self._bucket is not None:
            self._bucket.take(now, n_tokens)
        self._strays.sent()
        breaker, room = self._breaker, self._room
        epoch = breaker.sent() if breaker.down else breaker.epoch
        return Ticket(n_tokens, self._concurrency.sent(), epoch, -1 if room is None else room.sent())

    def back(
        self,
        now: float,
        ticket: Ticket,
        outcome: Outcome,
        *,
        n_tokens: float | None = None,
        quota: Quota | None = None,
        retry_after_s: float | None = None,
    ) -> bool:
        """Whether the endpoint went down or came up by it. `n_tokens`: what it cost, when known. A refusal costs none;
        of a failure that is not known."""
        if quota is not None:
            self._learn(now, quota)
        breaker, held, room = self._breaker, self._concurrency, self._room
        was_down, was_storm = breaker.down, not self._block.free and held.storm
        breaker.back(now, outcome is not _FAILED, ticket.epoch)
        if outcome is _OK or outcome is Outcome.REFUSED:
            self.n_ok += 1
            if held.answered(now, ticket.number):
                self._block.since = None
            if room is not None:
                room.answered(now, ticket.in_room)
        elif outcome is _FAILED:
            self.n_failed += 1
            self._came_back(ticket)
        else:
            self._refused(now, ticket, outcome, retry_after_s)
        if (was_down and not breaker.down) or (was_storm and not held.storm):
            self._block.ended(now)
        if self._bucket is not None:
            free = outcome in (Outcome.REFUSED, Outcome.LIMITED, Outcome.OVERLOADED)
            cost = n_tokens if n_tokens is not None else 0 if free else ticket.n_tokens
            self._bucket.refund(now, ticket.n_tokens - cost)
        return breaker.down is not was_down

    def has_room(self, n: int) -> bool:
        """For so many more in flight."""
        held, room = self._concurrency, self._room
        return held.n_in_flight + n <= held.limit if room is None else self._n_free(room) >= n

    def share(self, room: Room, name: str) -> None:
        """With the limiters of other models of the same server, before anything is sent."""
        self._room, self._name = room, name

    @property
    def at_last_place(self) -> bool:
        """Of those that the models of one server share."""
        return self._room is not None and self._room.n_free(self._name, self._concurrency.n_in_flight) <= 1

    @property
    def n_in_flight(self) -> int:
        return self._concurrency.n_in_flight

    @property
    def limit(self) -> int:
        """Most in flight at present."""
        return min(self._concurrency.most, self._deciding.limit)

    @property
    def most(self) -> int:
        """In flight, as declared."""
        return self._concurrency.most

    @property
    def blocked_until(self) -> float:
        return self._block.until

    @property
    def capped_retry_after_s(self) -> float | None:
        """What the server asked to wait, when that was more than an hour; only the hour is waited."""
        return self._block.capped_s

    @property
    def down(self) -> bool:
        """Not there: a failure now is the endpoint's and not the request's."""
        return self._breaker.down

    @property
    def failing_since(self) -> float | None:
        """The first failure since a success; None when the last result was one."""
        return self._breaker.failing_since

    @property
    def limited_since(self) -> float | None:
        """The first 429 or 503 since a usable answer."""
        return self._block.since

    @property
    def alone(self) -> bool:
        """The last endpoint of its pool that is left."""
        return self._breaker.alone

    @alone.setter
    def alone(self, alone: bool) -> None:
        self._breaker.alone = alone

    @property
    def _deciding(self) -> Concurrency:
        """Where the limit in flight is found out."""
        return self._concurrency if self._room is None or self._room.apart else self._room.held

    def _n_free(self, room: Room) -> float:
        """How many more may be in flight, of what is declared for it and of what the server is found to hold."""
        held = self._concurrency
        n = held.n_in_flight
        return held.limit - n if room.apart else min(held.most - n, room.n_free(self._name, n))

    def _came_back(self, ticket: Ticket) -> None:
        """Without a word on how busy the server is."""
        self._concurrency.failed(ticket.number)
        if self._room is not None:
            self._room.failed(ticket.in_room)

    def _refused(self, now: float, ticket: Ticket, outcome: Outcome, retry_after_s: float | None) -> None:
        self.n_429 += outcome is Outcome.LIMITED
        self.n_503 += outcome is Outcome.OVERLOADED
        few = self._strays.refused()
        silent = not self._told and not (retry_after_s is not None and retry_after_s > 0)
        if silent and few:
            self._came_back(ticket)
            return
        # A server that tells its quotas refuses for the rate, not for the number in flight.
        cut = outcome is Outcome.OVERLOADED or not self._told
        first = self._concurrency.refused(now, ticket.number, cut=cut, asked_s=retry_after_s)
        if self._room is not None:
            self._room.refused(now, ticket.in_room, self._name, cut=cut, asked_s=retry_after_s)
        self.n_episodes += first
        if first and not cut and not self._concurrency.storm:
            self._slow_down(now)
        self._block.refused(now, retry_after_s, first)

    def _slow_down(self, now: float) -> None:
        """One refusal is chance; a second within half a minute says that requests travel so unevenly, or others take
        so much of the quota, that the even pace is too fast."""
        if now - self._paced_at < AGAIN_S:
            self.pace = max(SLOWEST, self.pace * SLOWER)
        self._paced_at = now

    def _learn(self, now: float, quota: Quota) -> None:
        rpm = _of_a_minute(quota.rpm, quota.requests_reset_s)
        tpm = _of_a_minute(quota.tpm, quota.tokens_reset_s)
        self.pace = min(1.0, self.pace + QUICKER_A_S * max(0.0, now - self._learnt_at))
        self._learnt_at = now
        self._told = self._told or rpm is not None or tpm is not None
        if rpm is not None:
            self.rpm = min(rpm, self._declared.rpm or inf)
        if tpm is not None and (tpm := min(tpm, self._declared.tpm or inf)) != self.tpm:
            self.tpm = tpm
            self._tune_bucket(now)
        if empty_s := _empty_for_s(quota):
            self._block.hold(now + empty_s)

    def _tune_bucket(self, now: float) -> None:
        if self.tpm is None:
            return
        per_minute = self.tpm * TOKEN_MARGIN
        capacity = per_minute * BURST_S / 60
        if self._bucket is None:
            self._bucket = Bucket(now, per_minute, capacity)
        else:
            self._bucket.retune(now, per_minute, capacity)


def _of_a_minute(allowed: float | None, reset_s: float | None) -> float | None:
    if allowed is None or not isfinite(allowed) or allowed < 1:
        return None
    return None if reset_s is not None and reset_s > LONGEST_MINUTE_S else allowed


def _empty_for_s(quota: Quota) -> float:
    """How long nothing is left, as the server tells it; 0 when something is, or when it fills evenly.

    A bucket that fills evenly and is empty is whole again after its full minute, and has the next unit at once; any
    other time is the end of a fixed window.
    """
    waits_s = [
        min(reset_s, LONGEST_ASKED_S)
        for left, reset_s in (
            (quota.n_requests_left, quota.requests_reset_s),
            (quota.n_tokens_left, quota.tokens_reset_s),
        )
        if left is not None and left <= 0 and reset_s is not None and reset_s > 0 and not 57 <= reset_s <= 63
    ]
    return max(waits_s, default=0.0)
