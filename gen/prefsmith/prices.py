"""What tokens cost: a dated table of prices, and the exact sum for one reply.

Money is integer nano-dollars, rounded up once, at the end. A price that is not in the table is unknown, which is told
and never taken for 0; only a target that is declared `free` costs nothing. Nothing here knows a server or a ledger.

A table is TOML: `[TARGET]` with `as_of`, `source`, `free` and `[TARGET.models]`, in which each model has `input` and
`output`, and may have `cached` (prompt tokens read from the provider's cache; by default as `input`), `cache_write`
(prompt tokens written to it) and `long` (the prices of a request whose prompt has more than `above_tokens`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple

from prefsmith.errors import UsageError, did_you_mean
from prefsmith.records import Json, Usage
from prefsmith.shelf import shelf

NANO: Final = 10**9
PER: Final = 10**6
"""Prices are for a million tokens."""
CACHED_FROM_TOKENS: Final = 1024
"""Shorter prompts are never written to a cache: https://developers.openai.com/api/docs/guides/prompt-caching"""
_SNAPSHOT = re.compile(r"(.+)-(\d{4}-\d{2}-\d{2})")


class Price(NamedTuple):
    """Nano-dollars for a million tokens, so that no price of nine decimals is rounded.

    `cache_write` None: writing to the provider's cache costs no more than `input`. `long`: the price of the whole
    request when its prompt has more than `long_above_tokens`.
    """

    input: int
    cached: int
    output: int
    cache_write: int | None = None
    long_above_tokens: int | None = None
    long: Price | None = None


FREE: Final = Price(0, 0, 0)


def cost_nanousd(price: Price, usage: Usage, n_cache_write_tokens: int | None = None) -> int | None:
    """What a reply cost, rounded up; None when the server did not say how many tokens it counted, unless it is free.

    Cached tokens are part of the prompt's, reasoning tokens of the completion's. Where the count of tokens written to
    the cache is not told, all that were not read from it are taken as written: a bill may then be lower, never higher.
    """
    if price is FREE:
        return 0  # one's own server: nothing to work out for each of its replies
    n_prompt, n_completion = usage.n_prompt_tokens, usage.n_completion_tokens
    if n_prompt is None or n_completion is None:
        return 0 if price == FREE else None
    if price.long is not None and price.long_above_tokens is not None and n_prompt > price.long_above_tokens:
        price = price.long
    n_cached = min(usage.n_cached_tokens or 0, n_prompt)
    n_fresh = n_prompt - n_cached
    if price.cache_write is None or n_prompt < CACHED_FROM_TOKENS:
        n_written, cache_write = 0, 0
    else:
        n_written = n_fresh if n_cache_write_tokens is None else min(n_cache_write_tokens, n_fresh)
        cache_write = price.cache_write
    return _up(
        (n_fresh - n_written) * price.input
        + n_written * cache_write
        + n_cached * price.cached
        + n_completion * price.output
    )


def most_nanousd(price: Price, n_prompt_bytes: int, n: int, max_tokens: int) -> int:
    """The most that a request can cost, known before it is sent.

    `n_prompt_bytes`: bytes of the request's whole body, which bound the prompt's tokens: a token of text stands for at
    least one byte, and what a template puts around a message is shorter than what JSON does.
    """
    prices = [price]
    if price.long is not None and price.long_above_tokens is not None and n_prompt_bytes > price.long_above_tokens:
        prices.append(price.long)
    each = max(max(p.input, p.cached, p.cache_write or 0) for p in prices)
    return _up(n_prompt_bytes * each + n * max_tokens * max(p.output for p in prices))


def nanousd_of(usd: float) -> int:
    """A sum in dollars, as it was typed, in nano-dollars; never more than was typed."""
    return int(Decimal(repr(usd)) * NANO)


def dollars(nanousd: float) -> str:
    """A sum for people: cents from a dollar on, four decimals below it, and never $0 for what is more."""
    usd = nanousd / NANO
    if 0 < usd < 0.0001:
        return "<$0.0001"
    return f"${usd:,.2f}" if usd >= 1 or not nanousd else f"${usd:.4f}"


def _up(total: int) -> int:
    return -(-total // PER)


@dataclass(frozen=True, slots=True)
class Section:
    """One target's prices. `free`: a model that is not listed costs nothing, by declaration."""

    models: Mapping[str, Price]
    free: bool | None = None
    as_of: date | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class PriceTable:
    sections: Mapping[str, Section]

    @classmethod
    def load(cls, user_file: Path | None = None) -> PriceTable:
        """The shipped table under the user's own. Raises UsageError, with the place, for a file that is no table."""
        sections = _read(shelf("data") / "prices.toml")
        for target, own in (_read(user_file) if user_file else {}).items():
            ours = sections.get(target, Section({}))
            sections[target] = Section(
                {**ours.models, **own.models},
                ours.free if own.free is None else own.free,
                own.as_of or ours.as_of,
                own.source or ours.source,
            )
        return cls(sections)

    def price_of(self, target: str, model: str) -> Price | None:
        """The price of a model, None when it is unknown.

        A name is looked for as it is; a dated snapshot (`gpt-4.1-2025-04-14`) that has no entry of its own has the
        price of the name before its date. No other name is like another: not `-latest`, not `-preview`, no prefix.
        """
        section = self.sections.get(target)
        if section is None:
            return None
        price = section.models.get(model)
        if price is None and (base := _before_date(model)) is not None:
            price = section.models.get(base)
        return FREE if price is None and section.free else price

    def unknown(self, target: str, model: str) -> str:
        """What to tell the user of a model without a price."""
        section = self.sections.get(target)
        if section is None:
            known = did_you_mean(target, self.sections)
            why = f"no price table has a section {target!r} ({known})"
        else:
            why = f"{target!r} lists no such model; {did_you_mean(model, section.models)}"
        return (
            f"the price of {target}:{model} is unknown: {why}. Write it in a file of your own, "
            f"[{_toml(target)}.models] {_toml(model)} = {{ input = USD, output = USD }} for a million tokens, named by "
            f"--prices; or [{_toml(target)}] free = true for a server of your own"
        )


def _before_date(model: str) -> str | None:
    found = _SNAPSHOT.fullmatch(model)
    if found is None:
        return None
    try:
        date.fromisoformat(found[2])
    except ValueError:
        return None
    return found[1]


def _toml(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else f'"{key}"'


_SECTION_KEYS = ("as_of", "source", "free", "models")
_PRICES = ("input", "cached", "cache_write", "output")


def _read(path: Path) -> dict[str, Section]:
    try:
        tree = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except FileNotFoundError:
        raise UsageError(f"no price table {str(path)!r} (looked from {str(Path.cwd())!r})") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML: {error}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    return {target: _section(_mapping(body, str(path), target), str(path), target) for target, body in tree.items()}


def _section(body: Mapping[str, Json], file: str, target: str) -> Section:
    _known(body, _SECTION_KEYS, file, target)
    as_of, free, source = body.get("as_of"), body.get("free"), body.get("source")
    for key, value, kind, wanted in (
        ("as_of", as_of, date, "a date such as 2026-11-18, without quotes"),
        ("free", free, bool, "true or false"),
        ("source", source, str, "a text"),
    ):
        if value is not None and not isinstance(value, kind):
            raise UsageError(f"{file}: {target}.{key}: got {value!r}, expected {wanted}")
    models = _mapping(body.get("models", {}), file, f"{target}.models")
    prices = {
        name: _price(entry, file, f"{target}.models.{_toml(name)}", (*_PRICES, "long"))
        for name, entry in models.items()
    }
    return Section(prices, free, as_of, source)


def _price(value: Json, file: str, place: str, known: tuple[str, ...]) -> Price:
    entry = _mapping(value, file, place)
    if entry and all(isinstance(part, dict) for part in entry.values()) and set(entry).isdisjoint(known):
        name = next(iter(entry))
        raise UsageError(f"{file}: {place}.{name}: a model's name with a dot in it needs quotes around the whole name")
    _known(entry, known, file, place)
    for key in ("input", "output"):
        if key not in entry:
            raise UsageError(f"{file}: {place}: `{key}` is missing (US dollars for a million tokens)")
    amounts = {key: _amount(entry[key], file, f"{place}.{key}") for key in _PRICES if key in entry}
    short = Price(amounts["input"], amounts.get("cached", amounts["input"]), amounts["output"])
    short = short._replace(cache_write=amounts.get("cache_write"))
    if "long" not in entry:
        return short
    above = _mapping(entry["long"], file, f"{place}.long").get("above_tokens")
    if type(above) is not int or above < 1:
        raise UsageError(f"{file}: {place}.long.above_tokens: got {above!r}, expected a whole number of tokens")
    long = _price(entry["long"], file, f"{place}.long", (*_PRICES, "above_tokens"))
    return short._replace(long_above_tokens=above, long=long)


def _mapping(value: Json, file: str, place: str) -> Mapping[str, Json]:
    if not isinstance(value, dict):
        raise UsageError(f"{file}: {place}: got {value!r}, expected a table")
    return value


def _known(body: Mapping[str, Json], keys: tuple[str, ...], file: str, place: str) -> None:
    for key in body:
        if key not in keys:
            raise UsageError(f"{file}: {place}.{key}: unknown key; {did_you_mean(key, keys)}")


def _amount(value: Json, file: str, place: str) -> int:
    """Nano-dollars of a price in dollars. Raises UsageError for what is none, or has more than nine decimals."""
    number = Decimal(value) if type(value) is int else value
    if not isinstance(number, Decimal) or not number.is_finite() or number < 0:
        raise UsageError(f"{file}: {place}: got {value!r}, expected US dollars for a million tokens, 0 or more")
    nano = number * NANO
    if nano != int(nano):
        raise UsageError(f"{file}: {place}: {number} has more than nine decimals")
    return int(nano)
