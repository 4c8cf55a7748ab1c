"""What stands behind a flag, read as a value; a wrong one is told with what was expected."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from decimal import Decimal, InvalidOperation


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ArgumentTypeError(f"got {text!r}, expected a number") from None


def integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ArgumentTypeError(f"got {text!r}, expected a whole number") from None


def count(text: str) -> int:
    value = integer(text)
    if value < 0:
        raise ArgumentTypeError(f"got {text!r}, expected 0 or more")
    return value


def names(text: str) -> list[str]:
    found = [part.strip() for part in text.split(",")]
    if not all(found):
        raise ArgumentTypeError(f"got {text!r}, expected names with a comma between, such as a,b")
    return found


def numbers(text: str) -> list[float]:
    return [number(part) for part in names(text)]


def integers(text: str) -> list[int]:
    return [integer(part) for part in names(text)]


_SUM = re.compile(r"(?:\$(?P<dollars>[\d_.]+)|(?P<n>[\d_.]+)\s*(?P<unit>usd|(?P<times>[kmb]?)tok(?:ens)?))", re.I)


def sum_of(text: str) -> dict[str, float] | dict[str, int]:
    """`{"usd": …}` or `{"tokens": …}`, as the recipe has it."""
    found = _SUM.fullmatch(text.strip())
    try:
        if found is None:
            raise ValueError
        if found["times"] is None:
            return {"usd": float(found["dollars"] or found["n"])}
        tokens = Decimal(found["n"]) * {"": 1, "k": 1000, "m": 10**6, "b": 10**9}[found["times"].lower()]
        if tokens != int(tokens):
            raise ValueError
        return {"tokens": int(tokens)}
    except (ValueError, InvalidOperation):
        raise ArgumentTypeError(f"got {text!r}, expected a sum and its unit: 5usd, $5, 200ktok or 2Mtok") from None


def endpoint(text: str) -> tuple[str, str]:
    name, equals, url = text.partition("=")
    if not equals or not name or not url.startswith(("http://", "https://")):
        raise ArgumentTypeError(f"got {text!r}, expected NAME=http://…")
    return name, url
