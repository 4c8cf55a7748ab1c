"""Whether a reply holds to the schema that its request sent: servers ignore unknown fields with HTTP 200.

The part of JSON Schema that structured outputs have in common, and nothing of the rest: a word that is not checked
here is refused before it is sent. It does not know what is done with a reply that breaks its word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson

from prefsmith.records import Json

MISMATCH: Final = "mismatch"
"""The finish_reason of such a reply: no natural stop, so it is neither a completion to choose nor a verdict."""
_SILENT: Final = frozenset({"title", "description", "$schema"})
_TYPES: Final[dict[str, Callable[[Any], bool]]] = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    "number": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    # JSON Schema counts 1.0 among the integers.
    "integer": lambda v: isinstance(v, int | float) and not isinstance(v, bool) and float(v).is_integer(),
}


def _same(value: Json, other: Json) -> bool:
    """1 is 1.0 and not true."""
    return value == other and isinstance(value, bool) == isinstance(other, bool)


_RULES: Final[dict[str, Callable[[Any, Any, Any], bool]]] = {
    "type": lambda v, of, _: any(_TYPES[name](v) for name in ([of] if isinstance(of, str) else of)),
    "enum": lambda v, of, _: any(_same(v, one) for one in of),
    "const": lambda v, of, _: _same(v, of),
    "anyOf": lambda v, of, _: any(_fits(v, one) for one in of),
    "properties": lambda v, of, _: (
        not isinstance(v, dict) or all(_fits(v[name], one) for name, one in of.items() if name in v)
    ),
    "required": lambda v, of, _: not isinstance(v, dict) or all(name in v for name in of),
    "additionalProperties": lambda v, of, schema: (
        not isinstance(v, dict)
        or all(_fits(one, of) for name, one in v.items() if name not in schema.get("properties", {}))
    ),
    "items": lambda v, of, _: not isinstance(v, list) or all(_fits(one, of) for one in v),
    "minItems": lambda v, of, _: not isinstance(v, list) or len(v) >= of,
    "maxItems": lambda v, of, _: not isinstance(v, list) or len(v) <= of,
    "minimum": lambda v, of, _: not _TYPES["number"](v) or v >= of,
    "maximum": lambda v, of, _: not _TYPES["number"](v) or v <= of,
}


def holds(text: str, schema: Json) -> bool:
    """The text is JSON and what the schema allows."""
    try:
        return _fits(orjson.loads(text), schema)
    except orjson.JSONDecodeError:
        return False


def check(schema: Json) -> None:
    """Raises ValueError for a word whose promise `holds` could not check."""
    if unknown := sorted(set(_words(schema)) - _RULES.keys() - _SILENT):
        raise ValueError(f"schema: {', '.join(unknown)} cannot be checked; known: {', '.join(_RULES)}")


def _words(schema: Json) -> Iterator[str]:
    if not isinstance(schema, dict):
        return
    yield from schema
    for inner in (
        *schema.get("properties", {}).values(),
        *schema.get("anyOf", ()),
        schema.get("items"),
        schema.get("additionalProperties"),
    ):
        yield from _words(inner)


def _fits(value: Json, schema: Json) -> bool:
    if isinstance(schema, bool):
        return schema
    return all(_RULES[word](value, of, schema) for word, of in schema.items() if word in _RULES)
