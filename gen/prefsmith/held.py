"""The budget of a folder as a session finds it: what is left of it, and what is held of it as maybe billed.

A kill leaves calls of which nobody knows whether they were billed; they count as spent until the user says otherwise.
"""

from __future__ import annotations

from prefsmith.abilities import Say
from prefsmith.errors import UsageError
from prefsmith.ledger.ledger import Ledger
from prefsmith.prices import nanousd_of
from prefsmith.purse import Billed, Purse, Unit, counter, settle
from prefsmith.recipe import Recipe

_NOTHING: dict[Unit, str] = {"nanousd": "0usd", "tokens": "0tok"}


def purse_of(recipe: Recipe, ledger: Ledger) -> Purse | None:
    budget = recipe.budget
    if budget is None:
        return None
    if budget.usd is not None:
        return Purse.of(ledger.db, "nanousd", nanousd_of(budget.usd))
    return Purse.of(ledger.db, "tokens", budget.tokens or 0)


def settle_held(ledger: Ledger, recipe: Recipe, billed: Billed | None, say: Say) -> None:
    """Take the user's word on what is held, or tell that some is. Raises UsageError for a word in another unit."""
    unit: Unit | None = None if recipe.budget is None else "tokens" if recipe.budget.usd is None else "nanousd"
    if billed is None:
        n = 0 if unit is None else ledger.counters().get(counter(unit), 0)
        if unit is not None and n:
            say(
                f"{Billed(unit, n)} of the budget are held, for calls that were out when a session was cut off and may "
                f"have been billed; --maybe-billed {_NOTHING[unit]} gives them back, if the bill shows none"
            )
        return
    if unit is not None and billed.unit != unit:
        said = "tokens" if unit == "tokens" else "USD"
        raise UsageError(f"--maybe-billed: got {billed}, but the budget is in {said}; say it in {said} too")
    if held := settle(ledger, billed).n:
        say(f"held as maybe billed: {Billed(billed.unit, held)}; {billed} from now on, as you say")
    else:
        back = f" (--maybe-billed {_NOTHING[billed.unit]} takes that back)"
        then = f"; {billed} from now on, as you say{back}" if billed.n else ""
        say(f"nothing is held as maybe billed in this folder{then}")
