"""Numbers as people write them in answers, read exactly: the last one of a text, or a reference that is one.

A comma (or a space that does not break) groups thousands and nothing else, a point starts decimals. Pure, and linear in
the length of the text. It knows no units: $18, 18 km and 18 % all read 18.
"""

from __future__ import annotations

import re
from decimal import Decimal

from prefsmith.records import Json

_GROUP_SPACE = re.compile("(?<=[0-9])[\u00a0\u2009\u202f](?=[0-9]{3}(?![0-9]))")
_NUMBER = re.compile(
    r"""
    (?: (?<![\w)\]]) (?P<sign>[-+\u2212\u2013]) [$€£¥]? )?   # 10-4 and 3-4 hold a 4, not a -4
    (?: (?<![^\W_])                                          # the 2 of H2O or CO2 is no number
        (?P<whole> (?<!\d,) [1-9]\d{0,2} (?:,\d{3})+ (?!\d) | \d+ ) (?P<decimals>\.\d+)?
      | (?<![\w.]) (?P<only>\.\d+) )
    (?P<exponent> [eE][-+]?\d{1,4} (?![^\W_]) )?
    """,
    re.VERBOSE,
)


def last_number(text: str) -> Decimal | None:
    """The last number in the text; None without one."""
    # No number holds white space once group spaces are commas, so the last word with a number decides.
    for word in reversed(_commas(text).split()):
        found = list(_NUMBER.finditer(word))
        if found:
            return _value(found[-1])
    return None


def as_number(value: Json) -> Decimal:
    """A reference or a condition's value as a number: 19, 3.5, "1,000", "$18", "-4", "50%".

    Raises ValueError for anything that is not one number and nothing else.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        written = str(value)
    elif isinstance(value, str):
        written = _commas(value.strip()).lstrip("$€£¥").removesuffix(".").removesuffix("%").rstrip()
    else:
        written = ""
    found = _NUMBER.fullmatch(written)
    if found is None:
        raise ValueError(f"{value!r} is no number")
    return _value(found)


def _commas(text: str) -> str:
    return text if text.isascii() else _GROUP_SPACE.sub(",", text)


def _value(found: re.Match[str]) -> Decimal:
    whole, decimals, only = found["whole"] or "0", found["decimals"] or "", found["only"] or ""
    value = Decimal(whole.replace(",", "") + decimals + only + (found["exponent"] or ""))
    return value.copy_negate() if found["sign"] in ("-", "\u2212", "\u2013") else value
