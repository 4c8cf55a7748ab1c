"""What `x-ratelimit-…` headers say of a server's limits. Replies without them cost two look-ups."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from prefsmith.records import Quota

MAX_N = 1e12
"""More requests or tokens a minute than this is no limit; a counter of a broken proxy may say anything."""
MAX_RESET_S = 86_400.0
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(ms|us|µs|ns|[dhms])")
_UNIT_S = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def quota_of(headers: Mapping[str, str]) -> Quota | None:
    """None when the headers say nothing of limits; each number that is nonsense is None."""
    kinds = [k for k in ("requests", "tokens") if f"x-ratelimit-limit-{k}" in headers or _left(k) in headers]
    if not kinds:
        return None
    quota = Quota(*_told(headers, "requests"), *_told(headers, "tokens"))
    return quota if any(value is not None for value in quota) else None


def _left(kind: str) -> str:
    return f"x-ratelimit-remaining-{kind}"


def _told(headers: Mapping[str, str], kind: str) -> tuple[float | None, float | None, float | None]:
    """(allowed a minute, left of that, seconds until it is whole again)."""
    return (
        _number(headers.get(f"x-ratelimit-limit-{kind}")),
        _number(headers.get(_left(kind))),
        seconds(headers.get(f"x-ratelimit-reset-{kind}")),
    )


def _number(text: str | None) -> float | None:
    """A count in [0, MAX_N]. Anthropic-like dates and words are None; below zero means that nothing is left."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return None if math.isnan(value) else min(MAX_N, max(0.0, value))


def seconds(text: str | None) -> float | None:
    """A duration as servers write it: `1s`, `6m0s`, `1h2m3.5s`, `20ms`, or plain seconds; at most a day."""
    text = (text or "").strip()
    plain = _number(text)
    if plain is not None:
        return min(MAX_RESET_S, plain)
    parts = _PART.findall(text)
    if not parts or _PART.sub("", text).strip():
        return None
    return min(MAX_RESET_S, sum(float(n) * _UNIT_S[unit] for n, unit in parts))
