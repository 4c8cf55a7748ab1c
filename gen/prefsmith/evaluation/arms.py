"""The arms of an evaluation: which samplers of a view belong to which row of the recipe.

An arm is one row of `sample:`; all arms answer at the same temperatures, and nothing else may vary inside one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from prefsmith.errors import UsageError
from prefsmith.recipe import Recipe, Sample
from prefsmith.stages.build import Resolution
from prefsmith.stages.calls import Plan

_ONE_EACH = ("top_p", "top_k", "min_p", "system")


@dataclass(frozen=True, slots=True)
class Arm:
    """`samplers`: temperature -> the sampler's id in the ledger."""

    name: str
    model: str
    samplers: dict[float, int]


def name_of(row: Sample) -> str:
    return row.arm or row.model


def check_arms(recipe: Recipe, resolution: Resolution) -> None:
    """Raises UsageError for rows that cannot be held against each other."""
    first = recipe.sample[0]
    comparing = [entry.confirm for entry in recipe.judge if entry.confirm]
    if len(recipe.sample) == 1 and comparing:
        raise UsageError(
            f"eval: {name_of(first)!r} is the only arm, and {comparing[0]} compares two; add an --arm, or mark the "
            "answers of the one by a grader"
        )
    for name, n in Counter(map(name_of, recipe.sample)).items():
        if n > 1:
            raise UsageError(f"eval: {n} arms are called {name!r}; name them apart, such as --arm before={first.model}")
    for row in recipe.sample:
        for knob in _ONE_EACH:
            if len(getattr(row, knob)) > 1:
                raise UsageError(
                    f"eval: the arm {name_of(row)!r} has several values of {knob}; an arm has one: make another arm of "
                    "the other value (a row of `sample:` with a name under `arm:`)"
                )
        if row.temperature != first.temperature:
            raise UsageError(
                f"eval: the arms {name_of(first)!r} and {name_of(row)!r} answer at other temperatures "
                f"({_listed(first)} and {_listed(row)}); give all the same"
            )
        if len(set(row.temperature)) < len(row.temperature):
            raise UsageError(f"eval: a temperature is given twice ({_listed(row)}); --n asks for more answers of each")
    if len(resolution.samplers) < len(recipe.sample) * len(first.temperature):
        models = ", ".join(f"{name_of(row)} ({row.model})" for row in recipe.sample)
        raise UsageError(
            f"eval: two arms are the same model, asked in the same way: {models}; take one of them out (a file counts "
            "by its content: was the tuned model written?)"
        )


def arms_of(recipe: Recipe, plan: Plan) -> tuple[Arm, ...]:
    """The arms in the recipe's order. Raises UsageError for a run that is no evaluation."""
    if not plan.arms:
        raise UsageError("this run is no evaluation of arms: `prefsmith summary` tells what came of it")
    return tuple(
        Arm(name_of(row), row.model, dict(zip(row.temperature, samplers, strict=True)))
        for row, samplers in zip(recipe.sample, plan.arms, strict=True)
    )


def _listed(row: Sample) -> str:
    return ", ".join(f"{t:g}" for t in row.temperature)
