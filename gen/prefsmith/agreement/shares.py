"""A judge's shares of items: what is counted, of what, under which rule. The same list serves the point estimates, the
intervals and the bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from prefsmith.agreement import rules
from prefsmith.agreement.votes import ABSENT, Codes, Flags, Gold, Reals, Votes


@dataclass(frozen=True)
class Share:
    """`counted` of `of`, both by item. `independent`: an item adds at most one, so that Wilson's interval holds."""

    name: str
    rule: str
    counted: Reals
    of: Reals
    independent: bool = True

    @property
    def k(self) -> float:
        return float(self.counted.sum())

    @property
    def n(self) -> float:
        return float(self.of.sum())


def shares(gold: Gold, votes: Votes) -> list[Share]:
    """All shares of one judge that its verdicts allow; the main accuracy comes first and is named `accuracy`."""
    main = rules.main_rule(votes)
    found = list(_accuracies(gold, votes))
    first = next(one for one in found if one.name == main)
    return [
        Share("accuracy", main, first.counted, first.of),
        *found,
        *_best_of(gold, votes),
        *_places(votes),
        *_lengths(gold, votes),
    ]


def _accuracies(gold: Gold, votes: Votes) -> Iterator[Share]:
    label, known = gold.label, gold.known

    def share(name: str, counted: Flags, of: Flags) -> Share:
        return Share(name, rules.RULES[name], _real(counted), _real(of))

    asked = [known & (vote != ABSENT) for vote in votes.orders]
    hits = [rules.right_single(label, vote) for vote in votes.orders]
    if not votes.pointwise:
        for name, hit, of in zip(("single_ab", "single_ba"), hits, asked, strict=False):
            if of.any():
                yield share(name, hit & of, of)
    n_asked = np.sum(asked, axis=0)
    mean = np.sum(hits, axis=0) / np.maximum(n_asked, 1)
    yield Share("single", rules.RULES["single"], np.asarray(mean, np.float64), _real(n_asked > 0))
    if votes.two_orders and votes.ba is not None:
        yield share("two_order", rules.right_two_order(label, votes.ab, votes.ba), known)
        yield share("both_orders", rules.right_both_orders(label, votes.ab, votes.ba), known)
    vote = rules.settled(votes)
    yield share("selective", rules.right_single(label, vote), known & (vote >= -1))
    yield Share("coverage", "items with a verdict that both orders agree on", _real(vote >= -1), _real(vote != ABSENT))


def _best_of(gold: Gold, votes: Votes) -> Iterator[Share]:
    if gold.group is None or not (gold.group >= 0).any():
        return
    inside = gold.group >= 0
    _, at, group = np.unique(gold.group[inside], return_index=True, return_inverse=True)
    wrong = np.bincount(group, weights=~rules.right(votes, gold.label)[inside])
    counted, of = np.zeros(gold.n), np.zeros(gold.n)
    where = np.flatnonzero(inside)[at]  # a group stands at its first item, whose prompt is the group's
    counted[where], of[where] = wrong == 0, 1
    yield Share("best_of", rules.RULES["best_of"], counted, of)


def _places(votes: Votes) -> Iterator[Share]:
    if votes.pointwise:
        return
    if votes.two_orders and votes.ba is not None:
        agreed = rules.consistent(votes.ab, votes.ba)
        rule = "both orders name the same answer, or both a tie; no verdict agrees with nothing"
        yield Share("consistency", rule, _real(agreed), np.ones(len(agreed)))
    first, decided = _over_orders(votes, lambda vote, is_ab: np.asarray(vote == (1 if is_ab else -1)))
    yield Share("first_wins", "of the verdicts that name a side, those that name the one shown first", first, decided,
                independent=False)  # fmt: skip


def _lengths(gold: Gold, votes: Votes) -> Iterator[Share]:
    uneven, label = gold.longer != 0, gold.label
    wins, decided = _over_orders(votes, lambda vote, _: np.asarray(vote == gold.longer))
    of = decided * uneven
    rule = "of the verdicts that name a side of a pair of unequal length, those that name the longer answer"
    yield Share("longer_wins", rule, wins * uneven, of, independent=False)
    hit, asked = rules.right(votes, label), rules.settled(votes) != ABSENT
    for name, half in (("longer_is_gold", label == gold.longer), ("shorter_is_gold", label == -gold.longer)):
        inside = half & uneven & (np.abs(label) == 1) & asked
        rule = f"accuracy on the items whose {name.split('_')[0]} answer is the gold one"
        yield Share(f"accuracy_{name}", rule, _real(hit & inside), _real(inside))


def _over_orders(votes: Votes, holds: Callable[[Codes, bool], Flags]) -> tuple[Reals, Reals]:
    """By item, over its orders: verdicts for which `holds(vote, is_ab)`, and verdicts that name a side."""
    counted, decided = np.zeros(len(votes.ab)), np.zeros(len(votes.ab))
    for is_ab, vote in zip((True, False), votes.orders, strict=False):
        names = np.abs(vote) == 1
        counted += holds(vote, is_ab) & names
        decided += names
    return counted, decided


def _real(flags: Flags) -> Reals:
    return flags.astype(np.float64)
