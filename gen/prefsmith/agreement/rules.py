"""When a judge is right about an item: rules with names, because a figure without its rule says nothing.

No verdict is never right, and stays in the denominator of every rule but `selective`.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from prefsmith.agreement.votes import ABSENT, NONE, Codes, Flags, Votes

RULES: Final = {
    "single_ab": "the verdict with a shown first equals the gold label",
    "single_ba": "the verdict with b shown first equals the gold label",
    "single": "one verdict equals the gold label; where both orders were asked, the mean of the two",
    "two_order": "each order votes +1, -1 or 0 and the sign of the sum equals the gold label (JudgeBench, 2410.12784); "
    "a gold tie needs two verdicts that cancel out",
    "both_orders": "both orders name the gold label",
    "selective": "of the items on which both orders agree (with one order: that have a verdict), the share that is "
    "right",
    "best_of": "of the groups of one prompt, the share in which the good answer beat each of the others",
}


def right_single(gold: Codes, vote: Codes) -> Flags:
    return np.asarray((vote == gold) & (gold != ABSENT))


def right_two_order(gold: Codes, ab: Codes, ba: Codes) -> Flags:
    """JudgeBench's rule, utils/metrics.py of ScalerLab/JudgeBench: a verdict that is missing adds nothing."""
    total = np.sign(np.where(ab < -1, 0, ab) + np.where(ba < -1, 0, ba))
    both = (ab >= -1) & (ba >= -1)
    return np.asarray((total == gold) & (gold != ABSENT) & ((gold != 0) | both))


def right_both_orders(gold: Codes, ab: Codes, ba: Codes) -> Flags:
    return np.asarray((ab == gold) & (ba == gold) & (gold != ABSENT))


def consistent(ab: Codes, ba: Codes) -> Flags:
    """Both orders name the same answer, or both a tie; no verdict agrees with nothing."""
    return np.asarray((ab == ba) & (ab >= -1))


def settled(votes: Votes) -> Codes:
    """One vote an item: what both orders agree on, else NONE; with one order, that order's."""
    if votes.ba is None:
        return votes.ab
    if votes.two_orders:
        return np.where(consistent(votes.ab, votes.ba), votes.ab, np.int8(NONE)).astype(np.int8)
    return np.where(votes.ab == ABSENT, votes.ba, votes.ab).astype(np.int8)


def main_rule(votes: Votes) -> str:
    """The rule of a judge's headline accuracy, which thresholds look at."""
    return "two_order" if votes.two_orders else "single"


def right(votes: Votes, gold: Codes) -> Flags:
    """Right by the judge's main rule."""
    if votes.two_orders and votes.ba is not None:
        return right_two_order(gold, votes.ab, votes.ba)
    return right_single(gold, settled(votes))
