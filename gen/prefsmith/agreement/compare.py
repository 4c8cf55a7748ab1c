"""A benchmark's whole report: its gold labels, each judge, and the judges against each other.

All judges share the bootstrap's draws, so a difference between two of them is paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from prefsmith.agreement import chance, rules
from prefsmith.agreement.intervals import (
    MOST_CLUSTERS,
    REPLICATES,
    Resamples,
    mcnemar,
    percentiles,
    resampled,
    wilson,
)
from prefsmith.agreement.measure import measured, wins_of
from prefsmith.agreement.shares import Share, shares
from prefsmith.agreement.strength import strengths
from prefsmith.agreement.votes import Gold, Reals, Votes
from prefsmith.records import Json


def compared(gold: Gold, judges: Sequence[Votes], seed: int = 0) -> Json:
    """Judges in the order given; `seed` is the bootstrap's."""
    found = [shares(gold, votes) for votes in judges]
    columns = [column for of in found for one in of for column in (one.counted, one.of)]
    draws = resampled(gold.cluster, columns, seed)
    starts = np.cumsum([0, *(2 * len(of) for of in found)])
    return {
        "gold": _gold(gold),
        "bootstrap": {
            "replicates": REPLICATES,
            "seed": seed,
            "clusters": draws.n_clusters,
            "clusters_drawn_from": draws.n_drawn_from,
            "note": None
            if draws.n_clusters <= MOST_CLUSTERS
            else f"drawn from {MOST_CLUSTERS:,} of {draws.n_clusters:,} prompts, taken once: a little too wide",
        },
        "judges": [
            measured(gold, votes, of, draws, int(start))
            for votes, of, start in zip(judges, found, starts, strict=False)
        ],
        "between": {
            "alpha": _alpha_between(judges),
            "pairs": [
                _against(gold, (judges[i], judges[j]), (found[i][0], found[j][0]), draws, (starts[i], starts[j]))
                for i, j in combinations(range(len(judges)), 2)
            ],
        },
        "rules": rules.RULES,
    }


def _gold(gold: Gold) -> Json:
    label, uneven = gold.label, gold.longer != 0
    sided = (np.abs(label) == 1) & uneven
    longer = int((label[sided] == gold.longer[sided]).sum())
    n = int(sided.sum())
    table = wins_of(gold, label)
    levels: tuple[chance.Level, ...] = ("nominal", "ordinal", "interval")
    return {
        "n_items": gold.n,
        "n_clusters": int(gold.cluster.max()) + 1 if gold.n else 0,
        "labels": {
            **{name: int((label == of).sum()) for name, of in chance.LABELS.items()},
            "no_majority": int((~gold.known).sum()),
        },
        "longer_is_gold": {"value": longer / n if n else None, "k": longer, "n": n, "wilson": wilson(longer, n)},
        "alpha_of_raters": None
        if gold.ratings is None
        else {level: chance.alpha(gold.ratings, level) for level in levels},
        "models": None if table is None else strengths(*table),
    }


def _alpha_between(judges: Sequence[Votes]) -> Json:
    if len(judges) < 2:
        return None
    votes = np.stack([rules.settled(one) for one in judges], axis=1)
    rated: Reals = np.where(votes >= -1, votes, np.nan).astype(np.float64)
    return {"nominal": chance.alpha(rated, "nominal"), "ordinal": chance.alpha(rated, "ordinal")}


def _against(
    gold: Gold, both: tuple[Votes, Votes], accuracies: tuple[Share, Share], draws: Resamples, columns: tuple[int, int]
) -> Json:
    """Two judges on the items that both were asked about, each right or wrong by its own main rule."""
    one, other = (rules.right(votes, gold.label) for votes in both)
    shared = gold.known & (accuracies[0].of > 0) & (accuracies[1].of > 0)
    only = [int((one & ~other & shared).sum()), int((other & ~one & shared).sum())]
    value = [share.k / share.n if share.n else float("nan") for share in accuracies]
    # A replicate that drew no item of a judge says nothing of the difference.
    have = (draws.sums[:, columns[0] + 1] > 0) & (draws.sums[:, columns[1] + 1] > 0)
    drawn = [draws.sums[have, i] / draws.sums[have, i + 1] for i in columns]
    kappa, n_kappa = chance.kappa(rules.settled(both[0]), rules.settled(both[1]))
    return {
        "judges": [votes.judge for votes in both],
        "rules": [rules.main_rule(votes) for votes in both],
        "n": int(shared.sum()),
        "only_right": only,
        "mcnemar_p": mcnemar(*only),
        "difference": None if any(np.isnan(value)) else value[0] - value[1],
        "bootstrap": percentiles(drawn[0] - drawn[1]),
        "kappa": {"value": kappa, "n": n_kappa},
    }
