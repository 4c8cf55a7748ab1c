"""How figures are written, in the terminal as on the page: shares in percent, a dash for what is not known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefsmith.reasons import Reason
from prefsmith.records import Json
from prefsmith.text import counted

DASH = "–"


def percent(value: float | None) -> str:
    return DASH if value is None else f"{value:.1%}"


def between(interval: Sequence[float] | None) -> str:
    """An interval of shares, without the unit: it stands beside one."""
    return "" if interval is None else f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def number(value: float | None, digits: int = 3) -> str:
    return DASH if value is None else f"{value:.{digits}f}"


def share(judge: Json, name: str) -> float | None:
    """The value of a judge's share; None where it was not measured."""
    found = judge["shares"].get(name)
    return None if found is None else found["value"]


def interval(judge: Json, name: str) -> Sequence[float] | None:
    """Wilson's, or the bootstrap's where an item adds more than one verdict."""
    found: Json = judge["shares"].get(name)
    of: Sequence[float] | None = None if found is None else found["wilson"] or found["bootstrap"]
    return of


def spent(judge: Json) -> str:
    """The price of 1,000 verdicts."""
    usd = None if judge["usage"] is None else judge["usage"]["usd_per_1000_verdicts"]
    return DASH if usd is None else f"${usd:,.2f}"


def p_value(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def uncovered(judge: Json) -> Iterator[str]:
    """Why pairs are not covered: verdicts that are not there, by verdict, and two that do not agree, by pair."""
    reasons = dict(judge["no_verdict"])
    apart = reasons.pop(Reason.INCONSISTENT_ORDERS, 0)
    if reasons:
        yield "without a verdict: " + ", ".join(f"{n:,} {why}" for why, n in reasons.items())
    if apart:
        yield f"not covered: {counted(apart, 'pair')} on which the two orders disagree"
