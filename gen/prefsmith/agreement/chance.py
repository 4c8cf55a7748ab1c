"""Agreement beyond chance: the confusion table, Cohen's kappa, Krippendorff's alpha with missing ratings."""

from __future__ import annotations

from typing import Literal

import numpy as np

from prefsmith.agreement.votes import ABSENT, Codes, Ids, Reals

Level = Literal["nominal", "ordinal", "interval"]
LABELS = {"A": 1, "tie": 0, "B": -1}


def confusion(gold: Codes, vote: Codes) -> dict[str, dict[str, int]]:
    """Items by gold label, then by verdict; `none` is no verdict. Items without gold are left out."""
    return {
        name: {
            **{said: int(np.sum((gold == g) & (vote == v))) for said, v in LABELS.items()},
            "none": int(np.sum((gold == g) & (vote < -1) & (vote != ABSENT))),
        }
        for name, g in LABELS.items()
    }


def kappa(gold: Codes, vote: Codes) -> tuple[float | None, int]:
    """Cohen's kappa (1960) on the items that have both labels, and how many these are.

    Each rater's own shares of A, tie and B make up chance; None where chance alone explains all (one label only).
    """
    both = (gold >= -1) & (vote >= -1)
    n = int(both.sum())
    if n == 0:
        return None, 0
    table: Ids = np.zeros((3, 3), np.int64)
    np.add.at(table, (gold[both] + 1, vote[both] + 1), 1)
    observed = float(np.trace(table)) / n
    chance = float(table.sum(axis=1) @ table.sum(axis=0)) / (n * n)
    return (None if chance == 1.0 else (observed - chance) / (1 - chance)), n


def alpha(ratings: Reals, level: Level) -> float | None:
    """Krippendorff's alpha of [units, raters], NaN where a rating is missing (Krippendorff 2011, Computing
    Krippendorff's Alpha-Reliability); None where nothing is paired or every rating is the same."""
    ratings = ratings[np.sum(~np.isnan(ratings), axis=1) >= 2]
    if not len(ratings):
        return None
    values = np.unique(ratings[~np.isnan(ratings)])
    counts = np.stack([np.sum(ratings == v, axis=1) for v in values], axis=1).astype(np.float64)  # [unit][value]
    m = counts.sum(axis=1)
    weighted = counts / (m - 1)[:, None]
    coincidences = counts.T @ weighted - np.diag(weighted.sum(axis=0))
    totals = coincidences.sum(axis=1)
    distance = _distances(values, totals, level)
    expected = float((np.outer(totals, totals) * distance).sum()) / (float(totals.sum()) - 1)
    if expected == 0:
        return None
    return 1 - float((coincidences * distance).sum()) / expected


def _distances(values: Reals, totals: Reals, level: Level) -> Reals:
    """Squared differences between values, as the level of measurement has them."""
    if level == "nominal":
        return np.asarray(1.0 - np.eye(len(values)))
    if level == "ordinal":
        # Ratings between the two values, each end by half: the place of a value is the middle of its ranks.
        values = np.cumsum(totals) - totals / 2
    return np.asarray((values[:, None] - values[None, :]) ** 2)
