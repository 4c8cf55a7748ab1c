"""Rank correlations with ties: Spearman's rho and Kendall's tau-b, in n log n."""

from __future__ import annotations

from math import sqrt

import numpy as np

from prefsmith.agreement.votes import Ids, Reals


def spearman(x: Reals, y: Reals) -> float | None:
    """Pearson's correlation of the mean ranks; None where either side is constant."""
    if len(x) < 2:
        return None
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    scale = sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else None


def kendall(x: Reals, y: Reals) -> float | None:
    """Tau-b (Kendall 1945): ties on either side stand in the denominator; None where either side is constant."""
    n = len(x)
    _, xs = np.unique(x, return_inverse=True)
    _, ys = np.unique(y, return_inverse=True)
    pairs = n * (n - 1) // 2
    x_ties, y_ties = _tied(xs), _tied(ys)
    if pairs in (x_ties, y_ties):
        return None
    both = _tied(np.unique(xs * (int(ys.max()) + 1) + ys, return_inverse=True)[1])
    in_order = ys[np.lexsort((ys, xs))]  # by x, then by y: a tie in x is no inversion
    difference = pairs - x_ties - y_ties + both - 2 * _inversions(in_order)
    return difference / sqrt((pairs - x_ties) * (pairs - y_ties))


def _ranks(values: Reals) -> Reals:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse])


def _tied(codes: Ids) -> int:
    """Pairs of equal codes."""
    counts = np.bincount(codes)
    return int((counts * (counts - 1) // 2).sum())


def _inversions(values: Ids) -> int:
    """Pairs that stand in descending order: counted bit by bit, from the highest, among values equal above it."""
    n = 0
    for bit in range(int(values.max()).bit_length() - 1, -1, -1):
        values = values[np.argsort(values >> (bit + 1), kind="stable")]
        above, one = values >> (bit + 1), (values >> bit) & 1
        ones = np.cumsum(one)
        starts = np.flatnonzero(np.r_[True, above[1:] != above[:-1]])
        before = np.repeat(np.r_[0, ones][starts], np.diff(np.r_[starts, len(values)]))
        n += int((ones - before)[one == 0].sum())
    return n
