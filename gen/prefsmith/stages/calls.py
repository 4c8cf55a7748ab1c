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
from prefsmith.judging.leaf import ModelJudge
from prefsmith.judging.verdicts import Step
from prefsmith.ledger.known import VerdictKey
from prefsmith.outcomes import Key
from prefsmith.pairing import Rule
from prefsmith.records import Generated, Item, Sampler


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the sampling grid: a sampler and how many completions of it the view takes; `value` is None in a plan
    that only reads.

    `lane`: which backend carries its calls out; `chunk`: most completions that one request may ask for;
    `keeps_reasoning`: thoughts are stored beside the answers.
    """

    sampler: int
    hash: bytes
    value: Sampler | None
    wire_model: str
    n: int
    lane: str
    chunk: int
    keeps_reasoning: bool = True


@dataclass(frozen=True, slots=True)
class Leaf:
    """A judge or grader with its ledger id. A plan that only reads has neither `grader` nor `asks`.

    `reads`: the item's columns that it names (None: all); `needs`: those that it cannot do without.
    """

    judge: int
    hash: bytes
    name: str
    role: Literal["grader", "judge", "confirm"]
    reads: tuple[str, ...] | None
    needs: tuple[str, ...] = ()
    grader: Grader | None = None
    asks: ModelJudge | None = None
    lane: str = ""


@dataclass(frozen=True)
class Plan:
    """What a run asks and how it decides. No slots: the look-up tables are made once."""

    cells: tuple[Cell, ...]
    leaves: tuple[Leaf, ...]
    confirm: Leaf | None
    gates: Gates
    rule: Rule
    seed: int
    arms: tuple[tuple[int, ...], ...] = ()
    """Of a contest, whose pairs are made of arms and not of scores: the samplers of each row, by temperature."""
    samples: bool = True
    """False: judge what there is, sample nothing."""

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

    @property
    def asking(self) -> tuple[Leaf, ...]:
        """All that judges, the confirmation last."""
        return (*self.leaves, *((self.confirm,) if self.confirm else ()))

    @cached_property
    def judges(self) -> frozenset[int]:
        return frozenset(leaf.judge for leaf in self.asking)


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

    @property
    def key(self) -> VerdictKey:
        return (self.leaf.judge, self.reads, self.shown, 0)

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
