"""From a recipe to a plan, in two steps: `resolve` needs no ledger and refuses what cannot work before anything is
spent; `bind` gives every sampler and judge its integer in one ledger.

`restored` makes the same plan from what the ledger keeps of a recipe, to read a folder without its judges' files,
models or keys.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

from prefsmith.backends import Resolved
from prefsmith.backends import resolve as resolve_model
from prefsmith.errors import Place, UsageError, at, did_you_mean
from prefsmith.gates import Gates
from prefsmith.judging.graders import Grader, make_grader
from prefsmith.judging.judge import LeafJudge
from prefsmith.judging.load import AskedModel, brought, judge_names, load_any, model_of
from prefsmith.ledger.ids import sampler_hash
from prefsmith.ledger.ledger import Ledger
from prefsmith.pairing import Rule
from prefsmith.recipe import GRADERS, Judge, Pairing, Recipe, Sample
from prefsmith.records import Json, Sampler, Sampling
from prefsmith.stages.calls import Cell, Leaf, Plan, Stage
from prefsmith.stages.tree import (
    GIVES,
    check,
    described_leaf,
    described_stage,
    leaf_places,
    restored_leaf,
    restored_stage,
    stages_of,
)


class Drawn(NamedTuple):
    """A sampler of the grid, how many completions of it, by which model, and whether its thoughts are stored."""

    sampler: Sampler
    n: int
    by: Resolved
    keeps_reasoning: bool = True


class Judging(NamedTuple):
    """A grader, or a judge and the model that it asks; `lists_by`: the one that writes a checklist's questions."""

    spec: Judge
    judge: Grader | LeafJudge
    by: Resolved | None = None
    lists_by: Resolved | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """A recipe whose every model, judge and grader exists. `notes`: what the user should know before it runs."""

    recipe: Recipe
    samplers: tuple[Drawn, ...]
    judges: tuple[Judging, ...]
    notes: tuple[str, ...]

    @property
    def lanes(self) -> dict[str, Resolved]:
        """Each backend once, by its key."""
        return {r.backend_key: r for r in _used(self.samplers, self.judges)}


def resolve(
    recipe: Recipe, roots: Sequence[Path] = (Path(),), *, sampling: bool = True, keyless: bool = False
) -> Resolution:
    """Raises UsageError for a model, judge, grader or parameter that cannot work.

    `roots`: where paths of judge files are looked for; `sampling` False leaves the generators alone; `keyless`: nothing
    will be sent, so that a key which is not there is a note.
    """
    if sampling and recipe.contests is not None:
        raise UsageError(
            "`contests` says that this recipe is of `prefsmith bench judge FILE`; run that, or leave it out"
        )
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
    judges = [_judge(recipe, place, spec, roots, keyless) for place, spec in leaf_places(recipe.judge)]
    coming = iter([(one.spec, one.judge) for one in judges])
    for i, entry in enumerate(recipe.judge if recipe.contests is None else ()):  # a benchmark asks each by itself
        with at("judge", i):
            check(entry, coming)
    notes.extend(dict.fromkeys(note for r in _used(samplers.values(), judges) for note in r.notes))
    if sampling and recipe.export and sum(drawn.n for drawn in samplers.values()) < 2:
        notes.append("one completion of each prompt can make no pair: give more temperatures or a larger n")
    notes.extend(dict.fromkeys(note for one in judges if (note := _kin(one, samplers.values(), recipe))))
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


def _used(samplers: Iterable[Drawn], judges: Iterable[Judging]) -> list[Resolved]:
    found = [drawn.by for drawn in samplers] + [by for one in judges for by in (one.lists_by, one.by) if by]
    return list({r.backend_key: r for r in found}.values())


def _kin(one: Judging, samplers: Iterable[Drawn], recipe: Recipe) -> str | None:
    """What to say of a judge that also samples, or whose name begins like a sampler's: models favour their own family
    (arXiv 2502.01534). Only said, and nothing is decided by it."""
    if one.by is None:
        return None
    name = f"judge {one.spec.use or one.spec.confirm!r}"
    if any(drawn.by.identity == one.by.identity for drawn in samplers):
        return (
            f"{name} is the model that also samples ({one.spec.model}): "
            "models favour their own answers; another model makes a better judge"
        )
    for drawn in samplers:
        endpoint = recipe.endpoints.get(drawn.by.endpoint_name)
        fake = endpoint is not None and endpoint.script is not None
        if not fake and (family := _family(one.by)) and family == _family(drawn.by):
            return (
                f"{name}: {one.by.wire_model} seems to be of the same family as {drawn.by.wire_model}, which samples: "
                "models favour answers of their own family; a judge of another one is fairer"
            )
    return None


def _family(by: Resolved) -> str:
    """The letters with which a model's name begins: of Qwen/Qwen3-8B it is qwen."""
    found = re.match(r"[a-z]{3,}", by.wire_model.rpartition("/")[2].lower())
    return "" if found is None or found[0] == "gguf" else found[0]


def _judge(recipe: Recipe, place: Place, spec: Judge, roots: Sequence[Path], keyless: bool) -> Judging:
    with at(*place, "use" if spec.confirm is None else "confirm"):
        return _judging(recipe, place, spec, roots, keyless)


def _judging(recipe: Recipe, place: Place, spec: Judge, roots: Sequence[Path], keyless: bool) -> Judging:
    name = spec.use or spec.confirm or ""
    grades = spec.use is not None and (name in GRADERS or ".py:" in name)
    if grades:
        if spec.model is not None:
            raise UsageError(f"the grader {name!r} needs no model; leave `model` out (or null)")
        return Judging(spec, make_grader(spec))
    if not name.endswith(".toml") and name not in judge_names():
        known = did_you_mean(name, [*GRADERS, *judge_names()])
        raise UsageError(f"there is no grader or judge {name!r}; {known}; or give FILE.py:NAME or a .toml path")
    model = spec.model or model_of(name, roots)
    if model is None:
        raise UsageError(f"{name!r} asks a model; name it with `model: TARGET:MODEL` or --judge-model")
    with at(*place, "model"):
        by = resolve_model(model, recipe.endpoints, keyless=keyless)
    with at(*place, "list_model"):
        lists_by = by if spec.list_model is None else resolve_model(spec.list_model, recipe.endpoints, keyless=keyless)
    asked, lists = (AskedModel(r.identity.target, r.identity.model, r.wire_model) for r in (by, lists_by))
    judge: LeafJudge | None = brought(name, asked)
    if judge is None:
        judge = load_any(name, asked, roots, lists if spec.list_model is not None else None)
    return Judging(spec, judge, by, lists_by if judge.lister else None)


def bind(resolution: Resolution, ledger: Ledger) -> Plan:
    """The plan in this ledger's integers."""
    recipe = resolution.recipe
    cells = []
    for sampler, n, by, keeps in resolution.samplers:
        i, of = ledger.identity("sampler", sampler.described())
        cells.append(Cell(i, of, sampler, by.wire_model, n, by.backend_key, by.capabilities.n_per_request, keeps))
    leaves = _told_apart([_leaf(ledger, one) for one in resolution.judges], [one.spec for one in resolution.judges])
    confirm = next((leaf for leaf in leaves if leaf.role == "confirm"), None)
    return _plan(recipe, cells, stages_of(recipe.judge, leaves, ledger), confirm)


def _leaf(ledger: Ledger, one: Judging) -> Leaf:
    judge = one.judge
    if isinstance(judge, Grader):
        i, of = ledger.identity("judge", judge.described())
        # An own grader may do without a column; the built-in ones are nothing without theirs.
        needs = (judge.reads or ()) if judge.inline else ()
        return Leaf(i, of, judge.name, "grader", judge.reads, needs, grader=judge)
    assert one.by is not None
    leaf = _asking(ledger, judge, one.by, "confirm" if one.spec.confirm else "judge")
    if judge.lister is None or one.lists_by is None:
        return leaf
    lister = _asking(ledger, judge.lister, one.lists_by, "judge")
    return replace(leaf, lister=replace(lister, name=f"{leaf.name}'s list"))


def _asking(ledger: Ledger, judge: LeafJudge, by: Resolved, role: Literal["judge", "confirm"]) -> Leaf:
    i, of = ledger.identity("judge", judge.described())
    gives = GIVES.get(judge.kind, "score")
    return Leaf(
        i,
        of,
        judge.name,
        role,
        judge.reads,
        judge.needs,
        asks=judge,
        lane=by.backend_key,
        gives=gives,
        repeats=judge.shuffles if gives == "ranking" else judge.samples,
        early=judge.logprobs and judge.samples > 1,
        seeded=gives == "choice" and judge.orders == "seeded",
    )


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
    return {
        "cells": [_cell(c) for c in plan.cells],
        "leaves": [
            *(described_stage(stage) for stage in plan.stages),
            *([described_leaf(plan.confirm)] if plan.confirm else []),
        ],
    }


def _cell(cell: Cell) -> Json:
    out = {"sampler": cell.hash.hex(), "n": cell.n, "model": cell.wire_model}
    return {**out, "imported": True} if cell.imported else out


def restored(kept: Json, recipe: Recipe, ledger: Ledger) -> Plan:
    """The plan of a recipe row, to read with: no call can be made of it."""
    samplers = {of: (i, text) for i, of, text in ledger.db.execute("SELECT id, hash, json FROM sampler")}
    judges = {of: i for i, of in ledger.db.execute("SELECT id, hash FROM judge")}
    cells = []
    for one in kept["cells"]:
        of = bytes.fromhex(one["sampler"])
        known = (samplers[of][0], of, None, one["model"], one["n"], "", 1)
        cells.append(Cell(*known, imported=one.get("imported", False)))
    confirms = [one for one in kept["leaves"] if one.get("role") == "confirm"]
    stages = [restored_stage(one, judges) for one in kept["leaves"] if one not in confirms]
    return _plan(recipe, cells, stages, restored_leaf(confirms[0], judges) if confirms else None)


def _plan(recipe: Recipe, cells: Sequence[Cell], stages: Sequence[Stage], confirm: Leaf | None) -> Plan:
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
        tuple(stages),
        confirm,
        Gates(recipe.gates.min_tokens, recipe.gates.max_chars),
        rule_of(recipe.pair, recipe.seed),
        recipe.seed,
        arms,
        contests=recipe.contests is not None,
    )
