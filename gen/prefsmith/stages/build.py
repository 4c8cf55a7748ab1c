"""From a recipe to a plan, in two steps: `resolve` needs no ledger and refuses what cannot work before anything is
spent; `bind` gives every sampler and judge its integer in one ledger.

`restored` makes the same plan from what the ledger keeps of a recipe, to read a folder without its judges' files,
models or keys.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

from prefsmith.backends import Resolved
from prefsmith.backends import resolve as resolve_model
from prefsmith.errors import UsageError, at, did_you_mean
from prefsmith.gates import Gates
from prefsmith.judging.graders import Grader, make_grader
from prefsmith.judging.leaf import ModelJudge
from prefsmith.judging.load import judge_names, load_judge
from prefsmith.ledger.ids import sampler_hash
from prefsmith.ledger.ledger import Ledger
from prefsmith.pairing import Rule
from prefsmith.recipe import GRADERS, Judge, Pairing, Recipe, Sample
from prefsmith.records import Json, Sampler, Sampling
from prefsmith.stages.calls import Cell, Leaf, Plan


class Drawn(NamedTuple):
    """A sampler of the grid, how many completions of it, by which model, and whether its thoughts are stored."""

    sampler: Sampler
    n: int
    by: Resolved
    keeps_reasoning: bool = True


@dataclass(frozen=True, slots=True)
class Resolution:
    """A recipe whose every model, judge and grader exists. `notes`: what the user should know before it runs."""

    recipe: Recipe
    samplers: tuple[Drawn, ...]
    judges: tuple[tuple[Judge, Grader | ModelJudge, Resolved | None], ...]
    notes: tuple[str, ...]

    @property
    def lanes(self) -> dict[str, Resolved]:
        """Each backend once, by its key."""
        used = [drawn.by for drawn in self.samplers] + [r for _, _, r in self.judges if r is not None]
        return {r.backend_key: r for r in used}


def resolve(
    recipe: Recipe, roots: Sequence[Path] = (Path(),), *, sampling: bool = True, keyless: bool = False
) -> Resolution:
    """Raises UsageError for a model, judge, grader or parameter that cannot work.

    `roots`: where paths of judge files are looked for; `sampling` False leaves the generators alone; `keyless`: nothing
    will be sent, so that a key which is not there is a note.
    """
    notes: list[str] = []
    samplers: dict[bytes, Drawn] = {}
    for i, row in enumerate(recipe.sample if sampling else ()):
        with at("sample", i, "model"):
            target = resolve_model(row.model, recipe.endpoints, keyless=keyless)
        with at("sample", i):
            grid = _grid(row, target, recipe.seed, notes.append)
        for sampler, n in grid:
            of = sampler_hash(sampler)
            drawn, same = Drawn(sampler, n, target, row.reasoning == "keep"), samplers.get(of)
            if same is not None:
                drawn = drawn._replace(n=max(n, same.n), keeps_reasoning=drawn.keeps_reasoning or same.keeps_reasoning)
            samplers[of] = drawn
    if recipe.gates.min_tokens > 1 and any(d.by.capabilities.n_per_request > 1 for d in samplers.values()):
        raise UsageError(
            "servers count the tokens of a request's choices together; set `n_per_request: 1` for the endpoint, or "
            "leave min_tokens at 1",
            ("gates", "min_tokens"),
        )
    judges = []
    for i, spec in enumerate(recipe.judge):
        with at("judge", i, "use" if spec.confirm is None else "confirm"):
            judges.append(_judge(recipe, i, roots, keyless))
    used = [drawn.by for drawn in samplers.values()] + [r for _, _, r in judges if r is not None]
    notes.extend(dict.fromkeys(note for r in used for note in r.notes))
    if sampling and recipe.export and sum(drawn.n for drawn in samplers.values()) < 2:
        notes.append("one completion of each prompt can make no pair: give more temperatures or a larger n")
    sampled_by = {drawn.by.identity for drawn in samplers.values()}
    for spec, _, by in judges:
        if by is not None and by.identity in sampled_by:
            notes.append(
                f"judge {spec.use or spec.confirm!r} is the model that also samples ({spec.model}): "
                "models favour their own answers; another model makes a better judge"
            )
    return Resolution(recipe, tuple(samplers.values()), tuple(judges), tuple(notes))


def _grid(row: Sample, by: Resolved, seed: int, note: Callable[[str], None]) -> list[tuple[Sampler, int]]:
    out = []
    for temperature, top_p, top_k, min_p, system in product(
        row.temperature, row.top_p, row.top_k, row.min_p, row.system
    ):
        sampling = Sampling(
            temperature=temperature,
            max_tokens=row.max_tokens,
            top_p=top_p,
            top_k=top_k,
            min_p=min_p,
            presence_penalty=row.presence_penalty,
            frequency_penalty=row.frequency_penalty,
            repetition_penalty=row.repetition_penalty,
            stop=tuple(row.stop),
        )
        unknown = sorted(set(sampling.described()) - by.capabilities.knows - {"temperature", "max_tokens", "stop"})
        if unknown:
            raise UsageError(
                f"{row.model} does not know {', '.join(unknown)} (it knows "
                f"{', '.join(sorted(by.capabilities.knows))}); leave it out, or declare the endpoint's `server:`"
            )
        n = row.n
        if temperature == 0 and n > 1:
            note(f"{row.model} at temperature 0 is greedy: 1 sample instead of {n}")
            n = 1
        identity = by.identity
        out.append((Sampler(identity.target, identity.model, sampling, system=system, run_seed=seed), n))
    return out


def _judge(
    recipe: Recipe, i: int, roots: Sequence[Path], keyless: bool
) -> tuple[Judge, Grader | ModelJudge, Resolved | None]:
    spec = recipe.judge[i]
    name = spec.use or spec.confirm or ""
    grades = spec.use is not None and (name in GRADERS or ".py:" in name)
    if grades:
        if spec.model is not None:
            raise UsageError(f"the grader {name!r} needs no model; leave `model` out")
        return spec, make_grader(spec), None
    if not name.endswith(".toml") and name not in judge_names():
        known = did_you_mean(name, [*GRADERS, *judge_names()])
        raise UsageError(f"there is no grader or judge {name!r}; {known}; or give FILE.py:NAME or a .toml path")
    if spec.model is None:
        raise UsageError(f"{name!r} asks a model; name it with `model: TARGET:MODEL` or --judge-model")
    with at("judge", i, "model"):
        by = resolve_model(spec.model, recipe.endpoints, keyless=keyless)
    judge = load_judge(name, (by.identity.target, by.identity.model), by.wire_model, roots)
    if spec.confirm is not None and judge.kind != "pairwise":
        raise UsageError(f"`confirm` needs a pairwise judge; {name!r} is {judge.kind}")
    if spec.use is not None and judge.kind == "pairwise":
        raise UsageError(f"the pairwise judge {name!r} confirms pairs; write it as `confirm: {name}`")
    return spec, judge, by


def bind(resolution: Resolution, ledger: Ledger) -> Plan:
    """The plan in this ledger's integers."""
    recipe = resolution.recipe
    cells = []
    for sampler, n, by, keeps in resolution.samplers:
        i, of = ledger.identity("sampler", sampler.described())
        cells.append(Cell(i, of, sampler, by.wire_model, n, by.backend_key, by.capabilities.n_per_request, keeps))
    leaves = _told_apart([_leaf(ledger, *one) for one in resolution.judges], recipe.judge)
    return _plan(recipe, cells, leaves)


def _leaf(ledger: Ledger, spec: Judge, judge: Grader | ModelJudge, by: Resolved | None) -> Leaf:
    i, of = ledger.identity("judge", judge.described())
    if isinstance(judge, Grader):
        # An own grader may do without a column; the built-in ones are nothing without theirs.
        needs = (judge.reads or ()) if judge.inline else ()
        return Leaf(i, of, judge.name, "grader", judge.reads, needs, grader=judge)
    assert by is not None
    role: Literal["judge", "confirm"] = "confirm" if spec.confirm else "judge"
    return Leaf(i, of, judge.name, role, judge.reads, judge.needs, asks=judge, lane=by.backend_key)


def _told_apart(leaves: list[Leaf], specs: Sequence[Judge]) -> list[Leaf]:
    """Judges of one name get their model's or place's name too: files and summary name judges by name."""
    for by_model in (True, False):
        names = [leaf.name for leaf in leaves]
        leaves = [
            leaf if names.count(leaf.name) == 1 else replace(leaf, name=f"{leaf.name} {(by_model and spec.model) or i}")
            for i, (leaf, spec) in enumerate(zip(leaves, specs, strict=True), 1)
        ]
    return leaves


def rule_of(pair: Pairing, run_seed: int) -> Rule:
    quantile = int(pair.min_margin[1:]) if isinstance(pair.min_margin, str) else None
    return Rule(
        pair.strategy,
        0.0 if isinstance(pair.min_margin, str) else float(pair.min_margin),
        quantile,
        pair.min_chosen,
        pair.correct,
        pair.max_per_prompt,
        run_seed if pair.seed is None else pair.seed,
    )


def described(plan: Plan) -> Json:
    """A plan without ledger integers: what the ledger keeps beside the recipe, and what names a view."""
    leaves = (*plan.leaves, *((plan.confirm,) if plan.confirm else ()))
    return {
        "cells": [{"sampler": c.hash.hex(), "n": c.n, "model": c.wire_model} for c in plan.cells],
        "leaves": [
            {"judge": x.hash.hex(), "name": x.name, "role": x.role, "reads": x.reads, "needs": x.needs} for x in leaves
        ],
    }


def restored(kept: Json, recipe: Recipe, ledger: Ledger) -> Plan:
    """The plan of a recipe row, to read with: no call can be made of it."""
    samplers = {of: (i, text) for i, of, text in ledger.db.execute("SELECT id, hash, json FROM sampler")}
    judges = {of: i for i, of in ledger.db.execute("SELECT id, hash FROM judge")}
    cells = []
    for one in kept["cells"]:
        of = bytes.fromhex(one["sampler"])
        cells.append(Cell(samplers[of][0], of, None, one["model"], one["n"], "", 1))
    leaves = []
    for one in kept["leaves"]:
        of = bytes.fromhex(one["judge"])
        reads = None if one["reads"] is None else tuple(one["reads"])
        leaves.append(Leaf(judges[of], of, one["name"], one["role"], reads, tuple(one["needs"])))
    return _plan(recipe, cells, leaves)


def _plan(recipe: Recipe, cells: Sequence[Cell], leaves: Sequence[Leaf]) -> Plan:
    arms: tuple[tuple[int, ...], ...] = ()
    if recipe.pair.strategy == "arms":
        width = len(recipe.sample[0].temperature)
        if len(cells) != width * len(recipe.sample):
            raise UsageError(
                "pair.strategy: `arms` needs rows of `sample:` that differ, each with one value of everything but the "
                "same temperatures"
            )
        arms = tuple(tuple(c.sampler for c in cells[i : i + width]) for i in range(0, len(cells), width))
    return Plan(
        tuple(cells),
        tuple(leaf for leaf in leaves if leaf.role != "confirm"),
        next((leaf for leaf in leaves if leaf.role == "confirm"), None),
        Gates(recipe.gates.min_tokens, recipe.gates.max_chars),
        rule_of(recipe.pair, recipe.seed),
        recipe.seed,
        arms,
    )
