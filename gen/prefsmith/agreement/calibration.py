"""Do a judge's probabilities mean what they say: Brier's score, the expected calibration error, its table."""

from __future__ import annotations

from typing import Final

import numpy as np

from prefsmith.agreement.votes import Flags, Reals
from prefsmith.records import Json

BINS: Final = 10


def calibration(p: Reals, a_is_better: Flags) -> Json:
    """Of P(a is better) against what is so, items with a gold tie left out.

    Brier (1950), the two-class form in [0, 1]; ECE as Guo et al. (1706.04599): ten equal bins of the probability given
    to the side it names, each bin without its lower end, weighted by their sizes.
    """
    n = len(p)
    if n == 0:
        return None
    sure = np.maximum(p, 1 - p)
    # A judge that says one half names nobody: it counts as half right.
    right = np.where(p == 0.5, 0.5, ((p > 0.5) == a_is_better).astype(np.float64))
    place = np.clip(np.ceil(sure * BINS).astype(np.int64) - 1, 0, BINS - 1)
    sizes = np.bincount(place, minlength=BINS)
    said = np.bincount(place, weights=sure, minlength=BINS)
    was = np.bincount(place, weights=right, minlength=BINS)
    return {
        "n": n,
        "brier": float(np.mean((p - a_is_better) ** 2)),
        "ece": float(np.abs(said - was).sum() / n),
        "bins": [
            {
                "from": i / BINS,
                "to": (i + 1) / BINS,
                "n": int(k),
                "said": float(said[i] / k),
                "right": float(was[i] / k),
            }
            for i, k in enumerate(sizes)
            if k
        ],
    }
