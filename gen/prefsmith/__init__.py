"""Synthetic preference data: sample, judge, pair, and hand the pairs to a trainer.

The public surface of Python: `Recipe`, `run(recipe) -> Run`, `Run.pairs()`, `Run.records()`. All else may change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefsmith.api import Run, run
    from prefsmith.recipe import Recipe

__all__ = ["Recipe", "Run", "run"]


def __getattr__(name: str) -> object:
    # Loaded where used: `prefsmith --help` and a grader's worker need none of it.
    if name == "Recipe":
        from prefsmith.recipe import Recipe

        return Recipe
    if name in __all__:
        from prefsmith import api

        return getattr(api, name)
    raise AttributeError(f"module 'prefsmith' has no attribute {name!r}; public are {', '.join(__all__)}")
