"""Everything that is measured of one judge, as one JSON value; each share with its rule and its denominator."""

from __future__ import annotations

from collections import Counter

import numpy as np

from prefsmith.agreement import chance, rules
from prefsmith.agreement.calibration import calibration
from prefsmith.agreement.intervals import Resamples, percentiles, wilson
from prefsmith.agreement.ranks import kendall, spearman
from prefsmith.agreement.shares import Share
from prefsmith.agreement.strength import strengths
from prefsmith.agreement.votes import ABSENT, NONE, Codes, Gold, Reals, Usage, Votes
from prefsmith.records import Json


def measured(gold: Gold, votes: Votes, found: list[Share], draws: Resamples, column: int) -> Json:
    """`draws` holds each share's numerator and denominator from `column` on, in the order of `found`."""
    vote = rules.settled(votes)
    kappa, n_kappa = chance.kappa(gold.label, vote)
    rated = np.stack([_rating(gold.label), _rating(vote)], axis=1)
    levels: tuple[chance.Level, ...] = ("nominal", "ordinal", "interval")
    return {
        "judge": votes.judge,
        "kind": "pointwise" if votes.pointwise else "pairwise",
        "orders": _orders(votes),
        "n_items": int((vote != ABSENT).sum()),
        "main_rule": rules.main_rule(votes),
        "no_verdict": _no_verdict(votes, vote),
        "shares": {
            one.name: share_row(one, percentiles(draws.shares(column + 2 * i, column + 2 * i + 1)))
            for i, one in enumerate(found)
        },
        "kappa": {"value": kappa, "n": n_kappa, "by_order": _kappas(gold, votes)},
        "alpha": {level: chance.alpha(rated, level) for level in levels},
        "confusion": chance.confusion(gold.label, vote),
        "ranks": _ranks(gold, votes),
        "repeats": {"agreed": votes.repeated[0], "n": votes.repeated[1]} if votes.repeated[1] else None,
        "calibration": _calibration(gold, votes),
        "categories": _categories(gold, votes, found),
        "models": _models(gold, vote),
        "usage": _usage(votes.usage),
    }


def share_row(one: Share, drawn: tuple[float, float] | None) -> Json:
    """`k` of `n`; the interval is Wilson's, where an item adds at most one; `bootstrap` draws whole prompts."""
    return {
        "value": one.k / one.n if one.n else None,
        "k": one.k,
        "n": one.n,
        "rule": one.rule,
        "wilson": wilson(one.k, one.n) if one.independent else None,
        "bootstrap": drawn,
    }


def _orders(votes: Votes) -> str:
    if votes.pointwise:
        return "none"
    if votes.two_orders:
        return "both"
    if votes.ba is None:
        return "AB"
    return "BA" if bool(np.all(votes.ab == ABSENT)) else "one each"


def _no_verdict(votes: Votes, vote: Codes) -> Json:
    """Reasons by verdict asked; `inconsistent_orders` by item: two verdicts that do not agree."""
    reasons = Counter(votes.reasons)
    if votes.two_orders and votes.ba is not None:
        both = (votes.ab >= -1) & (votes.ba >= -1)
        n_apart = int(((vote == NONE) & both).sum())
        if n_apart:
            reasons["inconsistent_orders"] += n_apart
    return dict(sorted(reasons.items(), key=lambda one: (-one[1], one[0])))


def _kappas(gold: Gold, votes: Votes) -> Json:
    if votes.ba is None:
        return None
    return {name: chance.kappa(gold.label, of)[0] for name, of in (("AB", votes.ab), ("BA", votes.ba))}


def _rating(vote: Codes) -> Reals:
    return np.where(vote >= -1, vote, np.nan).astype(np.float64)


def _mean_p(votes: Votes) -> Reals | None:
    """P(a is better) by item: the mean of the orders that tell it; NaN where none does."""
    told = [p for p in (votes.p_ab, votes.p_ba) if p is not None]
    if not told:
        return None
    n = np.sum([~np.isnan(p) for p in told], axis=0)
    total = np.sum([np.nan_to_num(p) for p in told], axis=0)
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _ranks(gold: Gold, votes: Votes) -> Json:
    """Of what the judge says of a over b (the difference of its scores, else its probability) with the gold vote, or
    the mean vote of the raters."""
    by = "score" if votes.scores is not None else "p"
    said = votes.scores[:, 0] - votes.scores[:, 1] if votes.scores is not None else _mean_p(votes)
    if said is None:
        return None
    true = _rating(gold.label)
    if gold.ratings is not None:
        n = (~np.isnan(gold.ratings)).sum(axis=1)
        true = np.where(n > 0, np.nansum(gold.ratings, axis=1) / np.maximum(n, 1), true)
    have = ~np.isnan(said) & ~np.isnan(true)
    if not have.any():
        return None
    x, y = said[have], true[have]
    return {"by": by, "n": int(have.sum()), "spearman": spearman(x, y), "kendall_tau_b": kendall(x, y)}


def _calibration(gold: Gold, votes: Votes) -> Json:
    p = _mean_p(votes)
    if p is None:
        return None
    have = ~np.isnan(p) & (np.abs(gold.label) == 1)
    return calibration(p[have], gold.label[have] == 1)


def _categories(gold: Gold, votes: Votes, found: list[Share]) -> Json:
    out: dict[str, Json] = {}
    of = {one.name: one for one in found if one.name in ("accuracy", "consistency")}
    for i, name in enumerate(gold.categories):
        inside = gold.category == i
        row: dict[str, Json] = {"n_items": int(inside.sum())}
        for share, one in of.items():
            k, n = float(one.counted[inside].sum()), float(one.of[inside].sum())
            row[share] = {"value": k / n if n else None, "k": k, "n": n, "wilson": wilson(k, n)}
        out[name] = row
    return out


def wins_of(gold: Gold, vote: Codes) -> tuple[Reals, tuple[str, ...]] | None:
    """Who beat whom by these votes, ties one half each; None where items name no models."""
    if gold.models is None or not (gold.models >= 0).all(axis=1).any():
        return None
    ok = (gold.models >= 0).all(axis=1) & (vote >= -1) & (gold.models[:, 0] != gold.models[:, 1])
    n = len(gold.model_names)
    wins = np.zeros((n, n))
    a, b, said = gold.models[ok, 0], gold.models[ok, 1], vote[ok].astype(np.float64)
    np.add.at(wins, (a, b), (1 + said) / 2)
    np.add.at(wins, (b, a), (1 - said) / 2)
    return wins, gold.model_names


def _models(gold: Gold, vote: Codes) -> Json:
    table = wins_of(gold, vote)
    return None if table is None else strengths(*table)


def _usage(usage: Usage) -> Json:
    """None where no verdict says what it took; sums are of the verdicts that do."""

    def per_1000(total: float, n_told: int) -> float | None:
        return 1000 * total / n_told if n_told else None

    if not (usage.calls or usage.n_tokens_told or usage.n_seconds_told or usage.n_usd_told):
        return None
    return {
        "n_verdicts": usage.n_verdicts,
        "calls": usage.calls or None,
        "prompt_tokens": usage.prompt_tokens if usage.n_tokens_told else None,
        "completion_tokens": usage.completion_tokens if usage.n_tokens_told else None,
        "seconds": usage.seconds if usage.n_seconds_told else None,
        "usd": usage.usd if usage.n_usd_told else None,
        "usd_per_1000_verdicts": per_1000(usage.usd, usage.n_usd_told),
        "seconds_per_1000_verdicts": per_1000(usage.seconds, usage.n_seconds_told),
    }
