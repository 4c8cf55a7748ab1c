"""The plan of a run and the calls that it can find missing: values only.

A cell is a sampler with its n, a leaf is a judge or grader. Ledger integers stand beside hashes: integers address
rows of this ledger, hashes decide draws, because they are the same in every folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, TypeAlias

from prefsmith.gates import Gates
from prefsmith.judging.graders import Grader
from prefsmith.judging.judge import LeafJudge
from prefsmith.judging.verdicts import Step
from prefsmith.ledger.known import VerdictKey
from prefsmith.outcomes import Key
from prefsmith.pairing import Rule
from prefsmith.records import Generated, Item, Sampler

Gives = Literal["score", "choice", "ranking", "list"]
StageKind = Literal["leaf", "tournament", "panel", "cascade"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the sampling grid: a sampler and how many completions of it the view takes; `value` is None in a plan
    that only reads.

    `lane`: which backend carries its calls out; `chunk`: most completions that one request may ask for;
    `keeps_reasoning`: thoughts are stored beside the answers; `imported`: nobody is asked for them, those that are here
    are all.
    """

    sampler: int
    hash: bytes
    value: Sampler | None
    wire_model: str
    n: int
    lane: str
    chunk: int
    keeps_reasoning: bool = True
    imported: bool = False


@dataclass(frozen=True, slots=True)
class Leaf:
    """A judge or grader with its ledger id. A plan that only reads has neither `grader` nor `asks`.

    `reads`: the item's columns that it names (None: all); `needs`: those that it cannot do without. `repeats`: samples
    of a score, shuffles of a ranking; `early`: one sample is enough where the labels' probabilities came with it;
    `seeded`: a pair is shown in one drawn order instead of both; `lister`: who writes the questions of a checklist.
    """

    judge: int
    hash: bytes
    name: str
    role: Literal["grader", "judge", "confirm"]
    reads: tuple[str, ...] | None
    needs: tuple[str, ...] = ()
    grader: Grader | None = None
    asks: LeafJudge | None = None
    lane: str = ""
    gives: Gives = "score"
    repeats: int = 1
    early: bool = False
    seeded: bool = False
    lister: Leaf | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One entry of `judge:`: a leaf that decides by itself, or a rule over what others say, which asks nothing itself.

    `judge` and `hash` are the leaf's, or those of the rule with its members. `below`: of a cascade, the confidence
    under which the next member decides.
    """

    kind: StageKind
    judge: int
    hash: bytes
    name: str
    leaf: Leaf | None = None
    members: tuple[Stage, ...] = ()
    rule: str = ""
    below: float = 0.0

    @classmethod
    def of(cls, leaf: Leaf) -> Stage:
        return cls("leaf", leaf.judge, leaf.hash, leaf.name, leaf)

    @property
    def whole(self) -> tuple[Stage, ...]:
        """This one and all that it is made of, from the inside out."""
        return (*(part for member in self.members for part in member.whole), self)

    @property
    def leaves(self) -> tuple[Leaf, ...]:
        found = [part.leaf for part in self.whole if part.leaf is not None]
        return tuple(one for leaf in found for one in ((leaf.lister, leaf) if leaf.lister else (leaf,)))


@dataclass(frozen=True)
class Plan:
    """What a run asks and how it decides. No slots: the look-up tables are made once."""

    cells: tuple[Cell, ...]
    stages: tuple[Stage, ...]
    confirm: Leaf | None
    gates: Gates
    rule: Rule
    seed: int
    arms: tuple[tuple[int, ...], ...] = ()
    """Of an evaluation, whose pairs are made of arms and not of scores: the samplers of each row, by temperature."""
    samples: bool = True
    """False: judge what there is, sample nothing."""
    contests: bool = False
    """The items are pairs with gold labels: every judge is asked about each, and no pair is made."""

    @cached_property
    def samplers(self) -> dict[int, int]:
        return {c.sampler: c.n for c in self.cells}

    @cached_property
    def sampler_hashes(self) -> dict[int, bytes]:
        return {c.sampler: c.hash for c in self.cells}

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        """Every completion of the grid, by cell, then by index."""
        return tuple((c.sampler, i) for c in self.cells for i in range(c.n))

    @cached_property
    def leaves(self) -> tuple[Leaf, ...]:
        """All that judges: those of each stage, then the confirmation."""
        confirm = (self.confirm,) if self.confirm else ()
        return (*(leaf for stage in self.stages for leaf in stage.leaves), *confirm)

    @cached_property
    def judges(self) -> frozenset[int]:
        return frozenset(leaf.judge for leaf in self.leaves)

    @cached_property
    def names(self) -> dict[int, str]:
        """Of everything that decides, by id, in that order."""
        named = {part.judge: part.name for stage in self.stages for part in stage.whole}
        return named | {leaf.judge: leaf.name for leaf in self.leaves}


class Sampled(NamedTuple):
    """Ask for these indices, which follow one another."""

    cell: Cell
    idx: tuple[int, ...]

    @property
    def lane(self) -> str:
        return self.cell.lane

    @property
    def rank(self) -> int:
        """How far its stage is: the most advanced call goes first."""
        return 0

    @property
    def name(self) -> object:
        """The same for calls that ask the same of a prompt."""
        return (self.cell.sampler, self.idx)


class Asked(NamedTuple):
    """Ask a model judge about texts, in the order shown."""

    leaf: Leaf
    item: Item
    reads: bytes
    shown: tuple[int, ...]
    step: Step
    previous: Generated | None
    repeat: int = 0

    @property
    def key(self) -> VerdictKey:
        return (self.leaf.judge, self.reads, self.shown, self.repeat)

    @property
    def lane(self) -> str:
        return self.leaf.lane

    @property
    def rank(self) -> int:
        return 2 if self.leaf.role == "confirm" else 1

    @property
    def name(self) -> object:
        return self.key


class Graded(NamedTuple):
    """Grade texts, one batch of a prompt."""

    leaf: Leaf
    item: Item
    reads: bytes
    texts: tuple[int, ...]

    @property
    def name(self) -> object:
        return (self.leaf.judge, self.reads, self.texts)


Call: TypeAlias = Sampled | Asked | Graded
