"""The budget of a session beside its ledger: what a call may cost before it is sent, what it did cost, what is held.

The ledger keeps the cost of each call row and one counter, `held`: what may have been billed beyond those rows. Both
change in the same transactions, and nothing is sent that the counter does not cover yet, so that a cap holds through
any kill. It does not know what is asked, nor of whom.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Final, Literal, NamedTuple

from prefsmith.ledger.ledger import Ledger
from prefsmith.ledger.writer import GROUP_CALLS, Rows
from prefsmith.limits import Budget, Standing
from prefsmith.prices import FREE, NANO, Price, cost_nanousd, dollars, most_nanousd
from prefsmith.records import Request, Usage, canonical
from prefsmith.text import counted

Unit = Literal["nanousd", "tokens"]
_SPENT: Final = {
    "nanousd": "SELECT coalesce(sum(cost_nanousd), 0) FROM call",
    "tokens": "SELECT coalesce(sum(n_prompt_tokens + n_completion_tokens), 0) FROM call",
}
_BODY_BYTES: Final = 1024
"""A request's body beside its messages and tools: names and values of the sampling parameters."""


class Billed(NamedTuple):
    """What the provider's bill says, by the user's word, of calls whose price never came back."""

    unit: Unit
    n: int

    def __str__(self) -> str:
        return dollars(self.n) if self.unit == "nanousd" else counted(self.n, "token")


def settle(ledger: Ledger, billed: Billed) -> Billed:
    """Let the user's word stand for what the ledger held as maybe billed; returns that. For a session's start, when
    nothing is out."""
    name = counter(billed.unit)
    held = ledger.counters().get(name, 0)
    with ledger.transaction() as db:
        db.execute("INSERT OR REPLACE INTO counter VALUES(?, ?)", (name, billed.n))
    return Billed(billed.unit, held)


class Purse:
    """`spent`: what the ledger's call rows cost so far; `held`: its counter of what may have been billed besides."""

    def __init__(self, unit: Unit, cap: int, spent: int, held: int) -> None:
        self.unit: Unit = unit
        self.budget = Budget.resumed(cap, spent, spent + held)
        self._rows_cost, self._held = spent, held
        """As they stand in what was handed to the writer."""
        self._watermark = spent + held
        self._largest = 0
        self.n_slots = GROUP_CALLS
        """Most calls that may be out at a time."""

    @classmethod
    def of(cls, db: sqlite3.Connection, unit: Unit, cap: int) -> Purse:
        held = db.execute("SELECT value FROM counter WHERE name = ?", (counter(unit),)).fetchone()
        return cls(unit, cap, int(db.execute(_SPENT[unit]).fetchone()[0]), held[0] if held else 0)

    def most(self, request: Request, price: Price | None) -> int:
        """The most that a request can cost; 0 for what is free. A session with a budget in money knows all prices."""
        if self.unit == "nanousd" and price == FREE:
            return 0
        n_bytes = len(canonical([request.messages, request.tools])) + _BODY_BYTES
        if self.unit == "tokens":
            return n_bytes + request.n * request.sampling.max_tokens
        assert price is not None
        return most_nanousd(price, n_bytes, request.n, request.sampling.max_tokens)

    def cost(self, usage: Usage, price: Price | None) -> int | None:
        """What a reply took of the budget; None when that is not known."""
        if self.unit == "nanousd":
            return None if price is None else cost_nanousd(price, usage)
        n_prompt, n_completion = usage.n_prompt_tokens, usage.n_completion_tokens
        return None if n_prompt is None or n_completion is None else n_prompt + n_completion

    def hold(self, most: int) -> bool:
        """Count what a request that has no call row can cost, before the engine begins; False when that is not left.
        A negative sum is given back. Whoever asks writes it to the ledger's counter before the request is sent."""
        if most > self.budget.free:
            return False
        self._held += most
        self._watermark += most
        self.budget = Budget.resumed(self.budget.cap, self._rows_cost, self._watermark)
        return True

    def take(self, most: int) -> bool:
        self._largest = max(self._largest, most)
        return most == 0 or self.budget.take(most)

    def came(self, rows: Rows, most: int, usage: Usage, price: Price | None) -> None:
        """The reply of a call that took `most`, whose row is in `rows`."""
        actual = self.cost(usage, price)
        if actual is None:
            self.budget.lost(most)
        else:
            self.budget.settle(most, actual)
            rows.cost += actual

    def failed(self, most: int, *, maybe_billed: bool) -> None:
        if not most:
            return
        if maybe_billed:
            self.budget.lost(most)
        else:
            self.budget.settle(most, 0)

    def reached(self, most: int) -> bool:
        """No call of this size will ever be sent under this cap."""
        return most > 0 and self.budget.standing(most) is Standing.REACHED

    def told(self) -> str:
        """How the budget stands, for a person."""
        budget = self.budget

        def amount(value: int) -> str:
            return f"{value / NANO:.4f} USD" if self.unit == "nanousd" else counted(value, "token")

        may_be = f", {amount(budget.maybe)} may have been billed besides" if budget.maybe else ""
        return (
            f"{amount(budget.spent)} of {amount(budget.cap)} are spent{may_be}, and one more call may cost as much as "
            f"{amount(self._largest)}"
        )

    def write(self, rows: Rows, *, closing: bool = False) -> Callable[[], None] | None:
        """Bring the counter up to date in a group that is about to be committed; returns what to call once it is.

        It runs as many calls ahead as may be out, at most a group's: a kill holds so much of the budget, and less would
        wait for the disk all the time.
        """
        self._rows_cost += rows.cost
        to = self.budget.wanted(0 if closing else min(self.n_slots, GROUP_CALLS) * self._largest)
        self._watermark = self._watermark if to is None else to
        held = max(0, self._watermark - self._rows_cost)
        if held != self._held:
            rows.counts[counter(self.unit)] += held - self._held
            self._held = held
        return None if to is None else lambda: self.budget.raised(to)


def counter(unit: Unit) -> str:
    """The ledger's name for what may have been billed beyond the cost of its call rows."""
    return f"held.{unit}"
