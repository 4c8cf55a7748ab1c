"""The named rules against a plain reading of their words, one item after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsmith.agreement import rules
from prefsmith.agreement.compare import compared
from prefsmith.agreement.shares import shares
from prefsmith.agreement.votes import ABSENT, NONE, Gold, Usage, Votes

SIDES = st.sampled_from([1, 0, -1])
VOTE = st.sampled_from([1, 0, -1, NONE])
ROWS = st.lists(st.tuples(st.sampled_from([1, 0, -1, ABSENT]), VOTE, VOTE, SIDES), min_size=1, max_size=40)
Row = tuple[int, int, int, int]


def columns(rows: Sequence[Row]) -> tuple[Gold, Votes]:
    label, ab, ba, longer = np.array(rows, np.int8).T
    n = len(rows)
    return Gold(label, np.arange(n), longer, np.full(n, -1)), Votes("j", ab, ba)


def share(rows: Sequence[Row], name: str) -> tuple[float, float]:
    found = {one.name: one for one in shares(*columns(rows))}
    return found[name].k, found[name].n


@settings(deadline=None)
@given(ROWS)
def test_two_order_sums_the_votes_of_the_orders(rows: list[Row]) -> None:
    def right(gold: int, ab: int, ba: int) -> bool:
        total = sum(vote for vote in (ab, ba) if vote != NONE)
        if gold == 0:
            return total == 0 and NONE not in (ab, ba)
        return total * gold > 0

    known = [row for row in rows if row[0] != ABSENT]
    assert share(rows, "two_order") == (sum(right(*row[:3]) for row in known), len(known))
    assert share(rows, "accuracy") == share(rows, "two_order")


@settings(deadline=None)
@given(ROWS)
def test_the_other_rules_are_what_their_words_say(rows: list[Row]) -> None:
    known = [row for row in rows if row[0] != ABSENT]
    agreed = [row for row in known if row[1] == row[2] != NONE]
    assert share(rows, "both_orders") == (sum(g == ab == ba for g, ab, ba, _ in known), len(known))
    assert share(rows, "selective") == (sum(g == ab for g, ab, _, _ in agreed), len(agreed))
    assert share(rows, "consistency") == (sum(ab == ba != NONE for _, ab, ba, _ in rows), len(rows))
    if known:
        assert share(rows, "single_ab") == (sum(g == ab for g, ab, _, _ in known), len(known))
        mean = sum((g == ab) + (g == ba) for g, ab, ba, _ in known) / 2
        assert share(rows, "single") == (mean, len(known))


@settings(deadline=None)
@given(ROWS)
def test_bias_shares_count_the_verdicts_that_name_a_side(rows: list[Row]) -> None:
    ab = [(g, x, long) for g, x, _, long in rows if abs(x) == 1]
    ba = [(g, x, long) for g, _, x, long in rows if abs(x) == 1]
    first = sum(x == 1 for _, x, _ in ab) + sum(x == -1 for _, x, _ in ba)
    assert share(rows, "first_wins") == (first, len(ab) + len(ba))
    uneven = [(x, long) for _, x, long in ab + ba if long]
    assert share(rows, "longer_wins") == (sum(x == long for x, long in uneven), len(uneven))
    sided = [row for row in rows if abs(row[0]) == 1 and row[3]]
    halves = [share(rows, f"accuracy_{name}_is_gold") for name in ("longer", "shorter")]
    assert sum(n for _, n in halves) == len(sided)


def test_a_judge_asked_in_one_order_has_no_rule_of_two() -> None:
    gold, _ = columns([(1, 1, 1, 1), (-1, 1, -1, 1)])
    found = {one.name for one in shares(gold, Votes("j", np.array([1, -1], np.int8)))}
    assert {"accuracy", "single", "single_ab", "selective"} <= found
    assert found & {"two_order", "both_orders", "consistency", "single_ba"} == set()


def test_no_verdict_is_never_consistent_and_is_wrong_under_every_rule() -> None:
    rows = [(1, NONE, NONE, 1)] * 3
    for name in ("accuracy", "single", "both_orders", "consistency"):
        assert share(rows, name) == (0, 3)
    assert share(rows, "selective") == (0, 0)


def test_best_of_wants_the_good_answer_to_beat_each_other() -> None:
    label, votes = np.ones(6, np.int8), np.array([1, 1, 1, 1, -1, 1], np.int8)
    gold = Gold(label, np.repeat([0, 1], 3), np.zeros(6, np.int8), np.full(6, -1), group=np.repeat([0, 1], 3))
    found = {one.name: one for one in shares(gold, Votes("j", votes, votes))}
    assert (found["best_of"].k, found["best_of"].n) == (1, 2)


def test_a_report_tells_reasons_repeats_usage_and_halves() -> None:
    gold, votes = columns([(1, 1, 1, 1), (-1, 1, -1, 1), (-1, NONE, -1, -1), (0, 0, 0, 0)])
    usage = Usage(8, calls=9, prompt_tokens=800, completion_tokens=80, n_tokens_told=8, usd=0.004, n_usd_told=8)
    told = Votes("j", votes.ab, votes.ba, reasons={"refused": 1}, repeated=(3, 4), usage=usage)
    report = compared(gold, [told], seed=1)
    (one,) = report["judges"]
    assert one["no_verdict"] == {"inconsistent_orders": 1, "refused": 1}
    assert one["repeats"] == {"agreed": 3, "n": 4}
    assert one["usage"]["usd_per_1000_verdicts"] == pytest.approx(0.5)
    assert one["shares"]["accuracy"]["rule"] == "two_order"
    assert (report["gold"]["longer_is_gold"]["k"], report["gold"]["longer_is_gold"]["n"]) == (2, 3)
    assert one["confusion"]["B"] == {"A": 0, "tie": 0, "B": 0, "none": 2}


@settings(max_examples=30, deadline=None)
@given(ROWS, st.lists(st.tuples(VOTE, VOTE), min_size=40, max_size=40))
def test_swapping_the_answers_of_every_item_changes_no_figure(rows: list[Row], more: list[tuple[int, int]]) -> None:
    def swapped(x: int) -> int:
        return -x if x >= -1 else x

    other = [(swapped(g), swapped(ba), swapped(ab), -long) for g, ab, ba, long in rows]
    for name in ("accuracy", "both_orders", "selective", "single", "consistency", "first_wins", "longer_wins"):
        assert share(rows, name) == share(other, name)


def test_two_judges_are_held_against_each_other_on_the_same_draws() -> None:
    n = 400
    rng = np.random.default_rng(0)
    label = rng.choice([1, -1], n).astype(np.int8)
    good = np.where(rng.random(n) < 0.9, label, -label).astype(np.int8)
    bad = np.where(rng.random(n) < 0.7, label, -label).astype(np.int8)
    gold = Gold(label, np.arange(n), np.zeros(n, np.int8), np.full(n, -1))
    report = compared(gold, [Votes("good", good, good), Votes("bad", bad, bad), Votes("twin", good, good)])
    first, twin, _ = report["between"]["pairs"]
    right = (good == label, bad == label)
    assert first["only_right"] == [int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())]
    assert first["mcnemar_p"] < 1e-6
    low, high = first["bootstrap"]
    assert low < first["difference"] < high
    assert twin["difference"] == 0
    assert twin["bootstrap"] == (0.0, 0.0)
    assert twin["mcnemar_p"] == 1.0
    assert twin["kappa"]["value"] == 1.0


def test_every_rule_that_a_report_names_is_written_down() -> None:
    gold, votes = columns([(1, 1, 1, 1), (-1, 1, -1, 1)])
    named = {one.name for one in shares(gold, votes)}
    assert {"single_ab", "single_ba", "single", "two_order", "both_orders", "selective"} <= named & set(rules.RULES)
