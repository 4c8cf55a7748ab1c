"""One YAML document: its value, and the line on which each place of it stands.

Read by YAML 1.2's core schema; a key written twice is an error, never the last one silently. It knows nothing of
recipes.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from prefsmith.errors import Place, UsageError
from prefsmith.records import Json


@dataclass(frozen=True, slots=True)
class Document:
    """`value` is None for an empty document."""

    name: str
    value: Json
    _node: yaml.Node | None = None

    def line(self, place: Place) -> int:
        """The line of that place, or of the deepest part of it that the document has; counted from 1."""
        node = self._node
        line = 1
        for step in place:
            if step == 0 and not isinstance(node, yaml.SequenceNode):
                continue  # one value, short for a list of it
            if isinstance(node, yaml.MappingNode):
                found = next(((key, value) for key, value in node.value if key.value == step), None)
                if found is None:
                    break
                line, node = found[0].start_mark.line + 1, found[1]
            elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.start_mark.line + 1
        return line


def parse(text: str, name: str) -> Document:
    """Raises UsageError, with the line, for what is not one YAML document of plain values."""
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return Document(name, None)
        _refuse_twins(node, name, set())
        return Document(name, loader.construct_document(node), node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UsageError(f"{name}{line}: not YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{name}: not YAML: {error}") from error
    finally:
        loader.dispose()


class _Loader(yaml.SafeLoader):
    """`no`, `12:30`, 010 and 2026-01-31 stay the texts that were typed; 1e-3 and 2_000_000 are numbers."""


# A point or an exponent: 012 is neither a float nor, in YAML 1.2's sense, an octal number.
_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.inf|\.nan"
_Loader.yaml_implicit_resolvers = {}
# https://yaml.org/spec/1.2.2/#103-core-schema, and YAML 1.1's underscores and merge key.
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9_]*)", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_pattern})\Z"), _first)


def _refuse_twins(node: yaml.Node, name: str, seen: set[int]) -> None:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode):
                if key.value in first:
                    raise UsageError(
                        f"{name}:{line}: key {key.value!r} is written twice (first on line {first[key.value]})"
                    )
                first[key.value] = line
            _refuse_twins(value, name, seen)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_twins(value, name, seen)
