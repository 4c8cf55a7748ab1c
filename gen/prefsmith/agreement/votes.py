"""What a benchmark says and what a judge said, as columns over the same items.

Votes are about the answers, never about places: +1 names `a`, -1 names `b`, 0 is a tie. No verdict is a value of its
own and equals nothing, itself included; so does an order in which nobody asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Codes: TypeAlias = NDArray[np.int8]
Flags: TypeAlias = NDArray[np.bool_]
Ids: TypeAlias = NDArray[np.int64]
Reals: TypeAlias = NDArray[np.float64]

A: Final = 1
TIE: Final = 0
B: Final = -1
NONE: Final = -2
"""Asked, and no verdict came of it."""
ABSENT: Final = -3
"""Not asked, or no gold label."""


@dataclass(frozen=True)
class Gold:
    """The items of a benchmark, N of them.

    `label`: the gold votes, ABSENT where the raters have no majority; `cluster`: items that stand or fall together
    (one prompt); `longer`: the vote for the longer answer; `group`: items of which all must be right, -1 for none;
    `ratings`: [N, raters] votes of each rater, NaN where missing; `models`: [N, 2] models of a and b, -1 unknown.
    """

    label: Codes
    cluster: Ids
    longer: Codes
    category: Ids
    categories: tuple[str, ...] = ()
    group: Ids | None = None
    ratings: Reals | None = None
    models: Ids | None = None
    model_names: tuple[str, ...] = ()

    @property
    def n(self) -> int:
        return len(self.label)

    @property
    def known(self) -> Flags:
        """Items with a gold label."""
        return np.asarray(self.label != ABSENT)


@dataclass(frozen=True)
class Usage:
    """What a judge's recorded verdicts took; `n_*`: how many of them say so."""

    n_verdicts: int = 0
    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    n_tokens_told: int = 0
    seconds: float = 0.0
    n_seconds_told: int = 0
    usd: float = 0.0
    n_usd_told: int = 0


@dataclass(frozen=True)
class Votes:
    """One judge over the same N items.

    `ab`, `ba`: its votes when a, or b, was shown first; a pointwise judge has its votes in `ab` and no `ba`.
    `p_ab`, `p_ba`: its probability that a is better, NaN unknown. `scores`: [N, 2] scores of a and b, NaN for none.
    `repeated`: pairs of repeats of one question that agreed, and all pairs.
    """

    judge: str
    ab: Codes
    ba: Codes | None = None
    p_ab: Reals | None = None
    p_ba: Reals | None = None
    scores: Reals | None = None
    reasons: Mapping[str, int] = field(default_factory=dict)
    repeated: tuple[int, int] = (0, 0)
    usage: Usage = Usage()

    @property
    def pointwise(self) -> bool:
        return self.scores is not None

    @property
    def two_orders(self) -> bool:
        """Every item was asked about in both orders."""
        return self.ba is not None and not bool(np.any(self.ba == ABSENT)) and not bool(np.any(self.ab == ABSENT))

    @property
    def orders(self) -> tuple[Codes, ...]:
        return (self.ab,) if self.ba is None else (self.ab, self.ba)
