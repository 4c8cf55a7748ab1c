"""Writes docs/recipe.md from the recipe's own field docstrings: `python tests/recipe_page.py > docs/recipe.md`.

One text for each knob, where the knob is; the test beside it holds the page to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from prefsmith.endpoints import Abilities, Azure, Endpoint, Limits, Script, Vllm
from prefsmith.recipe import Budget, Gates, Judge, Pairing, Prompts, Recipe, Sample

HEAD = """\
# The recipe, knob by knob

A recipe is a YAML file (`prefsmith run recipe.yaml`), the same names with `--set place=value`
(`--set sample.0.n=4`), or `prefsmith.Recipe(...)` in Python. Flags of the command line set the same places;
`prefsmith run --help` names them. The order is: defaults, file, flags, `--set`. Unknown keys are refused with their
line. This page is written by `python tests/recipe_page.py` from the texts in
`gen/prefsmith/recipe.py` and `gen/prefsmith/endpoints.py`.
"""
SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("The whole", Recipe),
    ("`prompts`", Prompts),
    ("`sample`, a list", Sample),
    ("`judge`, a list; a name alone is short for `{use: NAME}`", Judge),
    ("`gates`", Gates),
    ("`pair`", Pairing),
    ("`budget`", Budget),
    ("`endpoints.NAME`", Endpoint),
    ("`endpoints.NAME.can`", Abilities),
    ("`endpoints.NAME.azure`", Azure),
    ("`endpoints.NAME.limits`", Limits),
    ("`endpoints.NAME.vllm`", Vllm),
    ("`endpoints.NAME.script`", Script),
)


def page() -> str:
    return "\n".join([HEAD, *(line for title, model in SECTIONS for line in _section(title, model))])


def _section(title: str, model: type[BaseModel]) -> Iterator[str]:
    yield f"## {title}\n"
    yield " ".join((model.__doc__ or "").split()) + "\n"
    yield "| key | default | meaning |\n|---|---|---|"
    for name, field in model.model_fields.items():
        meaning = " ".join((field.description or _WITHOUT[name]).split()).replace("|", "\\|")
        yield f"| `{name}` | {_default(field.default)} | {meaning} |"
    yield ""


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return "below"
    return "" if value in (None, [], {}) else f"`{str(value).strip('[]')}`"


_WITHOUT = {
    "prompts": "Where prompts come from.",
    "endpoints": "Servers by name.",
    "sample": "The sampling grid.",
    "judge": "Who scores: an item goes to the next one only when it has no pair yet; `confirm` comes last.",
    "gates": "What is never judged.",
    "pair": "How chosen and rejected are picked.",
}

if __name__ == "__main__":
    print(page(), end="")
