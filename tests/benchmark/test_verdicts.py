"""Recorded verdicts: the figures that are known of LLMBar, and what is wrong with a file told by line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from prefsmith.agreement.compare import compared
from prefsmith.agreement.votes import Votes
from prefsmith.benchmark.formats import contests_of
from prefsmith.benchmark.gold import Benchmark, benchmark
from prefsmith.benchmark.verdicts import votes_of
from prefsmith.errors import UsageError

LLMBAR = Path(__file__).resolve().parent.parent / "data" / "llmbar"
IDS = {"1": 0, "2": 1}


@pytest.fixture(scope="module")
def llmbar() -> Benchmark:
    return benchmark(contests_of(LLMBAR / "pairs.jsonl"))


@pytest.mark.parametrize(
    ("judge", "ab", "ba", "consistency"),
    [("GPT-4/Vanilla", 0.828, 0.862, 0.928), ("ChatGPT/CoT", 0.401, 0.406, 0.582)],
)
def test_the_accuracies_and_consistencies_recorded_for_llmbar_come_out(
    judge: str, ab: float, ba: float, consistency: float, llmbar: Benchmark
) -> None:
    report = compared(llmbar.gold, votes_of(LLMBAR / "verdicts.jsonl", llmbar.ids))
    shares = next(one["shares"] for one in report["judges"] if one["judge"] == judge)
    assert round(shares["single_ab"]["value"], 3) == ab
    assert round(shares["single_ba"]["value"], 3) == ba
    assert round(shares["consistency"]["value"], 3) == consistency
    assert {shares[name]["n"] for name in ("single_ab", "single_ba", "consistency")} == {419}


def told(folder: Path, *rows: dict[str, Any]) -> Votes:
    path = folder / "v.jsonl"
    path.write_bytes(b"".join(orjson.dumps({"judge": "j", **row}) + b"\n" for row in rows))
    (one,) = votes_of(path, IDS)
    return one


def both(of: str, ab: str | None = "A", ba: str | None = "B", **more: Any) -> list[dict[str, Any]]:
    return [{"id": of, "order": o, "verdict": v, **more} for o, v in (("AB", ab), ("BA", ba))]


def test_a_verdict_names_the_answer_shown_in_that_place(tmp_path: Path) -> None:
    votes = told(tmp_path, *both("1", p=0.75), *both("2", "TIE", None, reason="refused"))
    assert votes.ab.tolist() == [1, 0]
    assert votes.ba is not None
    assert votes.ba.tolist() == [1, -2]
    assert votes.p_ab is not None
    assert votes.p_ba is not None
    assert (votes.p_ab[0], votes.p_ba[0]) == (0.75, 0.25)
    assert votes.reasons == {"refused": 1}


def test_scores_are_compared_and_a_missing_one_is_no_verdict(tmp_path: Path) -> None:
    votes = told(tmp_path, {"id": "1", "scores": [7, 3]}, {"id": "2", "scores": [5, None]})
    assert votes.pointwise
    assert votes.ba is None
    assert votes.ab.tolist() == [1, -2]
    assert votes.reasons == {"not_said": 1}


def test_the_first_repeat_counts_and_the_others_tell_how_stable_it_is(tmp_path: Path) -> None:
    rows = [{"id": of, "order": "AB", "verdict": "A", "repeat": 0} for of in IDS]
    rows += [{"id": "1", "order": "AB", "verdict": v, "repeat": i} for i, v in ((2, "B"), (1, "A"))]
    rows += [{"id": "2", "order": "AB", "verdict": None, "repeat": i} for i in (1, 2)]
    votes = told(tmp_path, *reversed(rows))
    assert votes.ab.tolist() == [1, 1]
    assert votes.repeated == (1, 6)  # A A B: one of three; A, none, none: none of three


def test_usage_is_summed_over_the_verdicts_that_tell_it(tmp_path: Path) -> None:
    votes = told(tmp_path, *both("1", usage={"prompt_tokens": 10, "usd": 0.5, "seconds": 2}), *both("2"))
    assert (votes.usage.n_verdicts, votes.usage.n_usd_told, votes.usage.usd) == (4, 2, 1.0)
    assert (votes.usage.prompt_tokens, votes.usage.seconds) == (20, 4)


def test_ratings_of_all_raters_stand_beside_the_majority(llmbar: Benchmark) -> None:
    assert llmbar.gold.ratings is None
    assert np.bincount(llmbar.gold.cluster).max() == 2  # two of its prompts are equal


FINE = both("1")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([*FINE, *both("3")], "v.jsonl:3: the benchmark has no pair '3'"),
        ([*FINE, *FINE], "v.jsonl:3: judge 'j' gave this verdict on line 1 already"),
        (FINE, "judge 'j' has no verdict, in either order, on 1 of 2 pairs (first '2')"),
        ([*FINE, both("2")[0]], "has both orders of some pairs and one of 1 (first '2')"),
        ([*FINE, {"id": "2", "scores": [1, 2]}], "v.jsonl:3: judge 'j' gave verdicts from line 1 on and scores here"),
        ([{"id": "1", "scores": [1, 2], "scale": "1-9"}, {"id": "2", "scores": [0.1, 0.2], "scale": "0-1"}],
         "v.jsonl:2: judge 'j' has the scale '0-1' here and '1-9' on line 1"),
        ([{"id": "1", "order": "AB", "verdict": "C"}], "v.jsonl:1: verdict is 'C', expected 'A'"),
        ([{"id": "1", "order": "AB", "verdict": 7}], "a number is a score: write it as `scores`"),
        ([{"id": "1", "order": "AB"}], "v.jsonl:1: no verdict is given: write `verdict` as 'A'"),
        ([{"id": "1", "oder": "AB", "verdict": "A"}], "v.jsonl:1: unknown key 'oder'; did you mean 'order'?"),
        ([*FINE, {"id": "2", "scores": [1, 2], "note": "x"}], "v.jsonl:3: unknown key 'note'; "),
        ([{"id": "1", "order": "AB", "verdict": "A", "usage": {"usdd": 3}}],
         "v.jsonl:1: unknown key 'usage.usdd'; did you mean 'usd'?"),
        ([{"id": "1", "verdict": "A"}], "v.jsonl:1: order is None, expected 'AB'"),
        ([{"id": "1", "order": "AB", "verdict": "A", "p": 1.5}], "v.jsonl:1: p is 1.5"),
        ([{"id": "1", "order": "AB", "scores": [1, 2]}], "scores stand beside an order"),
        ([{"id": "1", "scores": [1]}], "scores is [1], expected [score of a, score of b]"),
        ([{"id": "1", "order": "AB", "verdict": "A", "usage": {"usd": -1}}], "usage.usd is -1"),
        ([{"order": "AB", "verdict": "A"}], "v.jsonl:1: no id or no judge"),
        ([], "holds no verdicts"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_verdict_is_told_with_place_and_remedy(
    rows: list[dict[str, Any]], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError) as error:
        told(tmp_path, *rows)
    assert said in str(error.value)


@pytest.mark.parametrize("score", ["NaN", "Infinity"])
def test_a_score_that_is_no_number_is_refused(score: str, tmp_path: Path) -> None:
    path = tmp_path / "v.jsonl"
    path.write_text(f'{{"id": "1", "judge": "j", "scores": [{score}, 0.5]}}\n')
    with pytest.raises(UsageError, match=r"v.jsonl:1: a score is (nan|inf), expected a finite number"):
        votes_of(path, IDS)
