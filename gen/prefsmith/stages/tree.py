"""The entries of `judge:` as stages: one leaf after the other out of the recipe, put together again under its rules.

The ledger keeps the same tree without models, so that a folder can be read without its judges' files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prefsmith.errors import Place, UsageError
from prefsmith.judging.graders import Grader, is_grader
from prefsmith.judging.judge import LeafJudge
from prefsmith.ledger.ledger import Ledger
from prefsmith.recipe import Judge
from prefsmith.records import Json
from prefsmith.stages.calls import Gives, Leaf, Stage, StageKind

GIVES: Mapping[str, Gives] = {"pairwise": "choice", "listwise": "ranking", "list": "list"}
"""By kind; all others give scores."""


def leaf_places(entries: Iterable[Judge], at: Place = ("judge",)) -> Iterator[tuple[Place, Judge]]:
    """The graders and judges of a recipe in their order with their places, members with the model that theirs is by
    default."""
    for i, entry in enumerate(entries):
        members = entry.panel or entry.cascade
        if members is None:
            yield (*at, i), entry
            continue
        for place, spec in leaf_places(members, (*at, i, "panel" if entry.panel else "cascade")):
            asks = spec.use is None or not is_grader(spec.use)
            yield place, spec.model_copy(update={"model": entry.model}) if asks and spec.model is None else spec


def leaf_specs(entries: Iterable[Judge]) -> list[Judge]:
    return [spec for _, spec in leaf_places(entries)]


def check(entry: Judge, judges: Iterator[tuple[Judge, Grader | LeafJudge]]) -> None:
    """Takes an entry's judges off their list. Raises UsageError for those that do not fit together."""
    _checked(entry, judges, duels=entry.tournament is not None or entry.confirm is not None)


def _checked(
    entry: Judge, judges: Iterator[tuple[Judge, Grader | LeafJudge]], *, duels: bool
) -> list[Grader | LeafJudge]:
    members = entry.panel or entry.cascade
    if members is None:
        spec, judge = next(judges)
        _check_leaf(spec, judge, duels=duels)
        return [judge]
    held = [_checked(member, judges, duels=duels) for member in members]
    found = [judge for one in held for judge in one]
    what, names = "panel" if entry.panel else "cascade", ", ".join(judge.name for judge in found)
    if len({_scale(judge) for judge in found}) > 1 and not duels:
        raise UsageError(f"the {what} of {names} mixes a scale from 0 to 1 with unbounded rewards; keep to one")
    if entry.panel and duels and entry.rule == "mean":
        raise UsageError(f"{names} choose and do not score, so they vote; write `rule: majority`")
    if entry.panel and not duels and entry.rule != "majority" and any(_scale(judge) == "logit" for judge in found):
        raise UsageError(f"the rewards of {names} have each a scale of their own and no mean")
    if entry.below is not None and (vague := [j.name for one in held[:-1] for j in one if not _tells(j)]):
        raise UsageError(
            f"`below` goes by how sure a judge is, which {', '.join(vague)} cannot tell; give it "
            "`logprobs = true` in its file, or leave `below` out: then the next one decides only where this one has no "
            "verdict"
        )
    return found


def _check_leaf(spec: Judge, judge: Grader | LeafJudge, *, duels: bool) -> None:
    kind = "grader" if isinstance(judge, Grader) else judge.kind
    if spec.confirm is not None and kind != "pairwise":
        raise UsageError(f"`confirm` needs a pairwise judge; {spec.confirm!r} is {kind}")
    if duels and kind != "pairwise":
        raise UsageError(f"a tournament needs pairwise judges; {judge.name!r} is {kind}")
    if not duels and kind == "pairwise":
        raise UsageError(
            f"the pairwise judge {judge.name!r} confirms pairs: --confirm {judge.name} (`confirm:` in a recipe); or "
            "let it decide a tournament: add `tournament: minmax` to it"
        )


def _scale(judge: Grader | LeafJudge) -> str:
    return "unit" if isinstance(judge, Grader) else judge.scale


def _tells(judge: Grader | LeafJudge) -> bool:
    return not isinstance(judge, Grader) and (judge.logprobs or judge.samples > 1)


def stages_of(entries: Sequence[Judge], leaves: Sequence[Leaf], ledger: Ledger) -> list[Stage]:
    """The entries but the confirmation, with the leaves of `leaf_specs` in their order."""
    coming = iter(leaves)
    return [_stage(entry, coming, ledger) for entry in entries if entry.confirm is None]


def _stage(entry: Judge, leaves: Iterator[Leaf], ledger: Ledger) -> Stage:
    members = entry.panel or entry.cascade
    if members is None:
        stage = Stage.of(next(leaves))
    else:
        parts = tuple(_stage(member, leaves, ledger) for member in members)
        if entry.panel:
            rule = entry.rule or ("majority" if parts[0].leaves[0].gives == "choice" else "mean")
            stage = _over("panel", parts, rule, 0.0, ledger)
        else:
            stage = _over("cascade", parts, "", entry.below or 0.0, ledger)
    return _over("tournament", (stage,), entry.tournament, 0.0, ledger) if entry.tournament else stage


def _over(kind: StageKind, members: tuple[Stage, ...], rule: str, below: float, ledger: Ledger) -> Stage:
    described = {"kind": kind, "rule": rule, "below": below, "members": [one.hash.hex() for one in members]}
    i, of = ledger.identity("judge", described)
    name = f"{rule or kind}({', '.join(one.name for one in members)})"
    return Stage(kind, i, of, name, None, members, rule, below)


def described_stage(stage: Stage) -> Json:
    """Without ledger integers. What is usual is left out, so that a part added later changes no old view."""
    if stage.leaf is not None:
        return described_leaf(stage.leaf)
    out: dict[str, Json] = {"judge": stage.hash.hex(), "name": stage.name, "kind": stage.kind, "rule": stage.rule}
    return out | {"below": stage.below, "members": [described_stage(one) for one in stage.members]}


def described_leaf(leaf: Leaf) -> Json:
    out: dict[str, Json] = {
        "judge": leaf.hash.hex(),
        "name": leaf.name,
        "role": leaf.role,
        "reads": leaf.reads,
        "needs": leaf.needs,
    }
    usual = {"gives": "choice" if leaf.role == "confirm" else "score", "repeats": 1, "early": False, "seeded": False}
    out |= {name: value for name, was in usual.items() if (value := getattr(leaf, name)) != was}
    return out | ({"lister": described_leaf(leaf.lister)} if leaf.lister else {})


def restored_stage(kept: Json, judges: Mapping[bytes, int]) -> Stage:
    of = bytes.fromhex(kept["judge"])
    if "members" not in kept:
        return Stage.of(restored_leaf(kept, judges))
    members = tuple(restored_stage(one, judges) for one in kept["members"])
    return Stage(kept["kind"], judges[of], of, kept["name"], None, members, kept["rule"], kept["below"])


def restored_leaf(kept: Json, judges: Mapping[bytes, int]) -> Leaf:
    of = bytes.fromhex(kept["judge"])
    return Leaf(
        judges[of],
        of,
        kept["name"],
        kept["role"],
        None if kept["reads"] is None else tuple(kept["reads"]),
        tuple(kept["needs"]),
        gives=kept.get("gives", "choice" if kept["role"] == "confirm" else "score"),
        repeats=kept.get("repeats", 1),
        early=kept.get("early", False),
        seeded=kept.get("seeded", False),
        lister=restored_leaf(kept["lister"], judges) if "lister" in kept else None,
    )
