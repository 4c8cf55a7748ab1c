"""Text in, text out: one-pass filling of templates, and the small questions asked of an answer's text.

User text is data: it is never a template, whatever braces it holds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_FIELD = re.compile(r"\{([a-z_]+)\}")
_WORD = re.compile(r"\w", re.UNICODE)
_LEAD_IN = re.compile(r"\s*(?:thought process|answer|solution|response|final answer|let'?s think)\W*", re.I)
TRIVIAL_CHARS = 64
"""No text longer than this is trivial; readers fetch only shorter bodies to ask."""


def fields(template: str) -> frozenset[str]:
    """The names between braces: `{prompt}` names `prompt`."""
    return frozenset(_FIELD.findall(template))


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replace each `{name}` of `values` in one pass; braces inside the values stay as they are.

    Raises KeyError for a field that has no value.
    """
    return _FIELD.sub(lambda m: values[m.group(1)], template)


def counted(n: int, noun: str, many: str = "") -> str:
    """`1 call`, `2,000 calls`."""
    return f"{n:,} {noun if n == 1 else many or noun + 's'}"


def trivial(text: str) -> bool:
    """No word is left after punctuation, or nothing but a lead-in: what fools judges (arXiv 2507.08794)."""
    if len(text) > TRIVIAL_CHARS:
        return False
    return _WORD.search(text) is None or _LEAD_IN.fullmatch(text) is not None


def without_surrogates(text: str) -> tuple[str, bool]:
    """Lone surrogates replaced by U+FFFD, and whether there were any: UTF-8 cannot hold them."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"), True
    return text, False
