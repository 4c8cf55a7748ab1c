"""How long the work of a forecast takes, by whichever limit binds: a pure calculation.

A model's requests take at least the time that they are in flight, shared by those that may be at once; what its minutes
allow; and what this machine needs to send them. Models work beside each other, so the slowest decides, and after its
last reply the stages behind it still have one prompt to go.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from prefsmith.limits.limiter import TOKEN_MARGIN
from prefsmith.limits.pacer import MARGIN
from prefsmith.prices import Price

HERE_S: Final = 0.0004
"""Of this machine for one request of the whole job, ledger and pairs included: bench/backends.py, two cores."""


class Terms(NamedTuple):
    """Under which a model is asked, all endpoints of its pool together; limits that nobody told are None."""

    model: str
    price: Price | None
    concurrency: int
    rpm: float | None = None
    tpm: float | None = None


class Load(NamedTuple):
    """What a model has to do. `at_once`: how many of its requests the open prompts can want at a time."""

    n_requests: float
    n_tokens: float | None
    wall_s: float
    at_once: float

    def beside(self, other: Load) -> Load:
        """What two stages want of the same model."""
        told = self.n_tokens is not None and other.n_tokens is not None
        n_tokens = (self.n_tokens or 0.0) + (other.n_tokens or 0.0) if told else None
        return Load(
            self.n_requests + other.n_requests, n_tokens, self.wall_s + other.wall_s, self.at_once + other.at_once
        )


class Pace(NamedTuple):
    seconds: float
    bound_by: str


def pace(terms: Terms, load: Load) -> Pace:
    n = max(1.0, min(terms.concurrency, load.at_once))
    few = f"only {n:.0f} at a time: no more prompts are open (window)"
    ways = [Pace(load.wall_s / n, f"{n:.0f} at a time" if load.at_once >= terms.concurrency else few)]
    if terms.rpm is not None:
        ways.append(Pace(60 * load.n_requests / (terms.rpm * MARGIN), f"{terms.rpm:,.0f} requests a minute"))
    if terms.tpm is not None and load.n_tokens is not None:
        ways.append(Pace(60 * load.n_tokens / (terms.tpm * TOKEN_MARGIN), f"{terms.tpm:,.0f} tokens a minute"))
    return max(ways)


def whole(
    loads: Mapping[str, Load], terms: Mapping[str, Terms], tail_s: float, start_s: float, in_turn: bool
) -> Pace | None:
    """Of a run, from its start to its last reply; None when nothing is asked. `tail_s`: one reply of each stage."""
    paces = {lane: pace(terms[lane], load) for lane, load in loads.items() if load.n_requests}
    if not paces:
        return None
    slowest = max(paces, key=lambda lane: paces[lane].seconds)
    seconds, bound_by = paces[slowest]
    if in_turn:
        seconds = sum(one.seconds for one in paces.values())
    here_s = HERE_S * sum(load.n_requests for load in loads.values())
    if here_s > seconds:
        return Pace(start_s + here_s + tail_s, "this machine's own work for each request")
    return Pace(start_s + seconds + tail_s, f"{terms[slowest].model}: {bound_by}")
