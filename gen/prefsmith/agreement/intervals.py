"""How sure a share is: Wilson's interval, the cluster bootstrap, McNemar's test, the paired bootstrap.

Items of one prompt are no independent draws, so the bootstrap draws prompts. Everything random has a seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, exp, lgamma, log, sqrt
from typing import Final

import numpy as np

from prefsmith.agreement.votes import Flags, Ids, Reals

Z95: Final = 1.959963984540054
"""The 97.5 % point of the standard normal distribution."""
REPLICATES: Final = 1_000
MOST_CLUSTERS: Final = 20_000
"""More are drawn from once, without replacement, and the report says so: the interval is then a little too wide."""
_EXACT_UP_TO: Final = 10_000
_DRAWS_AT_ONCE: Final = 2_000_000


def wilson(k: float, n: float) -> tuple[float, float] | None:
    """The 95 % score interval of k in n (Wilson 1927; Newcombe 1998, method 3); None for n = 0."""
    if n <= 0:
        return None
    share, z2 = k / n, Z95 * Z95
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p of as unequal a split of the items on which exactly one of two judges is right.

    Exact binomial; beyond 10,000 such items the chi-square approximation with continuity correction.
    """
    n, low = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    if n > _EXACT_UP_TO:
        return erfc(max(0.0, abs(only_first - only_second) - 1) / sqrt(2.0 * n))
    logs = [lgamma(n + 1) - lgamma(i + 1) - lgamma(n - i + 1) - n * log(2) for i in range(low + 1)]
    top = max(logs)
    return min(1.0, 2 * exp(top) * sum(exp(x - top) for x in logs))


@dataclass(frozen=True)
class Resamples:
    """Sums of columns over resampled clusters. `n_clusters`: all there are; `n_drawn_from`: those resampled."""

    sums: Reals  # [replicate][column]
    n_clusters: int
    n_drawn_from: int

    def shares(self, k: int, n: int) -> Reals:
        """Column k over column n in each replicate; a replicate that drew nothing of n is left out."""
        have = self.sums[:, n] > 0
        return np.asarray(self.sums[have, k] / self.sums[have, n])


def resampled(cluster: Ids, columns: Sequence[Flags | Reals], seed: int) -> Resamples:
    """Draw clusters with replacement, REPLICATES times, and sum each column over the draw."""
    n = int(cluster.max()) + 1 if len(cluster) else 0
    held = np.stack([np.bincount(cluster, weights=column, minlength=n) for column in columns], axis=1)
    rng = np.random.default_rng(seed)
    if n > MOST_CLUSTERS:
        held = held[rng.choice(n, MOST_CLUSTERS, replace=False)]
    m = len(held)
    sums = np.zeros((REPLICATES, len(columns)))
    at_once = max(1, _DRAWS_AT_ONCE // max(1, m))
    for first in range(0, REPLICATES if m else 0, at_once):
        rows = min(at_once, REPLICATES - first)
        drawn = rng.integers(0, m, size=(rows, m)) + np.arange(rows)[:, None] * m
        times = np.bincount(drawn.ravel(), minlength=rows * m).reshape(rows, m)
        sums[first : first + rows] = times @ held
    return Resamples(sums, n, m)


def clustered(value: float, draws: Reals, n_clusters: int) -> tuple[float, float] | None:
    """The bootstrap's interval of a share; Wilson's over clusters where all agree on 0 or 1, for draws of equal
    clusters have no width. Wider than it need be where a cluster holds independent items."""
    return wilson(value * n_clusters, n_clusters) if value in (0.0, 1.0) else percentiles(draws)


def percentiles(draws: Reals) -> tuple[float, float] | None:
    """The middle 95 % of bootstrap draws."""
    if not len(draws):
        return None
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)
