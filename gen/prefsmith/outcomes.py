"""What came of an item: results of judges, pairs, and the record that every reader of a run gets.

Exactly one of a result and a reason is set in each verdict; a pair names two completions of one prompt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from prefsmith.reasons import Reason
from prefsmith.records import Item, Json, Message


@dataclass(frozen=True, slots=True)
class Score:
    """A pointwise result: a value on the judge's scale, or the reason why there is none. `p`: the probability of the
    likeliest label, where the model's token probabilities say."""

    value: float | None = None
    reason: Reason | None = None
    parts: Mapping[str, Json] | None = None
    p: float | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.reason is None):
            raise ValueError("a Score holds exactly one of value and reason")


@dataclass(frozen=True, slots=True)
class Choice:
    """A pairwise result: the position shown that won (0 or 1, -1 for a tie), or a reason. `p` = P(first shown)."""

    position: int | None = None
    reason: Reason | None = None
    p: float | None = None

    def __post_init__(self) -> None:
        if (self.position is None) == (self.reason is None):
            raise ValueError("a Choice holds exactly one of position and reason")

    def swap(self) -> Choice:
        """The same verdict, had the two been shown the other way round."""
        if self.position is None:
            return self
        flipped = -1 if self.position < 0 else 1 - self.position
        return Choice(flipped, None, None if self.p is None else 1 - self.p)


@dataclass(frozen=True, slots=True)
class Ranking:
    """A listwise result: the positions shown, best first, equal ones together, or a reason."""

    order: tuple[tuple[int, ...], ...] | None = None
    reason: Reason | None = None

    def __post_init__(self) -> None:
        if (self.order is None) == (self.reason is None):
            raise ValueError("a Ranking holds exactly one of order and reason")


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something that a model made for an item and that judges read, such as a checklist's questions; or a reason."""

    lines: tuple[str, ...] | None = None
    reason: Reason | None = None

    def __post_init__(self) -> None:
        if (self.lines is None) == (self.reason is None):
            raise ValueError("an Artifact holds exactly one of lines and reason")


Judged: TypeAlias = Score | Choice | Ranking | Artifact

Key: TypeAlias = tuple[int, int]
"""A completion of a prompt: (sampler id, index)."""


class Pair(NamedTuple):
    """Chosen and rejected, as completion keys (sampler, idx) of one prompt, and why they are a pair."""

    chosen: Key
    rejected: Key
    chosen_score: float
    rejected_score: float
    judge: int
    rule: str
    confirmed: bool | None = None

    @property
    def margin(self) -> float:
        return self.chosen_score - self.rejected_score


class Sample(NamedTuple):
    """One completion as readers see it. `scores`: judge id -> value, or the reason why that judge has none."""

    key: Key
    message: Message
    finish_reason: str
    n_chars: int
    n_tokens: int | None = None
    seed: int | None = None
    reasoning: str | None = None
    gate: Reason | None = None
    scores: Mapping[int, float | Reason] = MappingProxyType({})
    damaged: bool = False

    @property
    def text(self) -> str:
        return self.message.get("content") or ""


@dataclass(frozen=True, slots=True)
class Record:
    """One item of a view with its completions and pairs; exactly one of `pairs` and `reason` is non-empty.

    `id` and `prompt_id` are the hex hashes of item and prompt: stable between runs and machines.
    """

    id: str
    prompt_id: str
    item: Item
    source_id: str | None
    samples: tuple[Sample, ...]
    pairs: tuple[Pair, ...]
    reason: Reason | None

    def sample(self, key: Key) -> Sample:
        for one in self.samples:
            if one.key == key:
                return one
        raise KeyError(key)
