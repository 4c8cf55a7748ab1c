"""never-wrong 15: kappa on half-coded labels printed 0.268 for a judge that was right on 95 % of the pairs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from prefsmith.agreement.chance import kappa
from prefsmith.benchmark.formats import contests_of
from prefsmith.benchmark.gold import benchmark
from prefsmith.benchmark.verdicts import votes_of

LLMBAR = Path(__file__).resolve().parent.parent / "data" / "llmbar"


def test_a_judge_right_on_95_of_100_natural_pairs_has_kappa_0_898() -> None:
    contests = list(contests_of(LLMBAR / "pairs.jsonl"))
    bench = benchmark(contests)
    natural = np.array(["/Natural:" in one.id for one in contests])
    judge = next(v for v in votes_of(LLMBAR / "verdicts.jsonl", bench.ids) if v.judge == "GPT-4/Vanilla")
    gold, vote = bench.gold.label[natural], judge.ab[natural]
    assert int((gold == vote).sum()) == 95
    value, n = kappa(gold, vote)
    assert n == 100
    assert value == pytest.approx(cohen_kappa_score(gold, vote), abs=1e-9)
    assert round(value or 0, 3) == 0.898


def test_kappa_does_not_depend_on_which_side_is_called_a() -> None:
    rng = np.random.default_rng(0)
    gold, vote = rng.choice([1, 0, -1, -2], (2, 500)).astype(np.int8)
    turned = [np.where(x >= -1, -x, x) for x in (gold, vote)]
    assert kappa(gold, vote) == pytest.approx(kappa(*turned), abs=1e-12)
