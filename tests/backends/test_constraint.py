"""The part of JSON Schema that is checked, beside replies that hold to it and replies that do not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsmith.backends.constraint import check, holds

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


def schema_of(value):
    """A schema that this value holds to, and as little else as can be said."""
    if isinstance(value, dict):
        properties = {name: schema_of(one) for name, one in value.items()}
        return {"type": "object", "properties": properties, "required": [*value], "additionalProperties": False}
    if isinstance(value, list):
        each = {"anyOf": [schema_of(one) for one in value]} if value else False
        return {"type": "array", "items": each, "minItems": len(value), "maxItems": len(value)}
    return {"const": value}


@given(VALUES, VALUES)
def test_a_value_holds_to_its_own_schema_and_to_no_other_values(value, other):
    schema = schema_of(value)
    check(schema)
    assert holds(json.dumps(value), schema)
    if schema_of(other) != schema and not isinstance(value, dict | list):
        assert holds(json.dumps(other), schema) is (
            value == other and isinstance(value, bool) is isinstance(other, bool)
        )


@pytest.mark.parametrize(
    ("text", "schema", "held"),
    [
        ("1.0", {"type": "integer"}, True),
        ("1.5", {"type": "integer"}, False),
        ("1e999", {"type": "integer"}, False),
        ("true", {"type": "number"}, False),
        ("true", {"enum": [1, "a"]}, False),
        ("null", {"type": ["string", "null"]}, True),
        ('{"a": 1, "b": "x"}', {"additionalProperties": {"type": "integer"}}, False),
        ('{"a": 1}', {"properties": {"a": {"minimum": 2}}}, False),
        ('{"a": 1}', {"required": ["b"]}, False),
        ("[1, 2, 3]", {"maxItems": 2}, False),
        ('{"a": 1} and so on', {"type": "object"}, False),
        ('"x"', {"title": "A letter", "type": "string"}, True),
    ],
)
def test_what_a_schema_says_counts(text, schema, held):
    assert holds(text, schema) is held


def test_words_that_are_not_checked_are_refused_wherever_they_stand():
    for schema in (
        {"pattern": "x"},
        {"properties": {"a": {"format": "date"}}},
        {"items": {"anyOf": [{"$ref": "#/x"}]}},
        {"additionalProperties": {"minLength": 1}},
    ):
        with pytest.raises(ValueError, match="cannot be checked"):
            check(schema)
    check({"properties": {"pattern": {"type": "string"}}})
