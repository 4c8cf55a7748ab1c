"""The best and the worst by duels: how many are fought, and what they show."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsmith.outcomes import Choice, Score
from prefsmith.reasons import Reason
from prefsmith.stages.most import turns
from prefsmith.stages.tournament import Duel, Played, minmax, n_minmax, n_rounds, round_robin

UNREAD = Choice(reason=Reason.INCONSISTENT_ORDERS)


def by_worth(worth: Mapping[int, int]) -> Duel:
    return lambda a, b: Choice(-1 if worth[a] == worth[b] else 0 if worth[a] > worth[b] else 1)


def in_rounds(k: int, duel: Duel) -> tuple[Played, int]:
    """The tournament as a run plays it: what is owed comes back, and the next round is asked."""
    known: dict[tuple[int, int], Choice] = {}
    n_rounds = 0
    while (played := minmax(range(k), lambda a, b: known.get((a, b)))).owed:
        n_rounds += 1
        for a, b in played.owed:
            result = duel(a, b)
            assert result is not None
            known[a, b] = result
    return played, n_rounds


@pytest.mark.parametrize("k", range(2, 20))
def test_a_bracket_takes_three_halves_of_k_less_two_duels(k: int) -> None:
    played, rounds = in_rounds(k, by_worth({i: i for i in range(k)}))
    assert len(played.fought) == len(set(map(frozenset, played.fought))) == n_minmax(k) == ceil(3 * k / 2) - 2
    assert rounds == n_rounds(k)
    if k % 2 == 0:
        assert n_minmax(k) == 3 * ceil(k / 2) - 2


@pytest.mark.parametrize("k", range(2, 7))
def test_the_best_and_the_worst_are_found_in_every_seeding(k: int) -> None:
    for worths in permutations(range(k)):
        played, _ = in_rounds(k, by_worth(dict(enumerate(worths))))
        assert played.scores == {worths.index(k - 1): Score(1.0), worths.index(0): Score(0.0)}


_RESULTS = st.sampled_from([Choice(0), Choice(1), Choice(-1), UNREAD, Choice(reason=Reason.UNPARSEABLE)])


@settings(deadline=None)
@given(st.integers(2, 9), st.data())
def test_nobody_is_best_without_wins_that_lead_to_the_worst(k: int, data: st.DataObject) -> None:
    found: dict[frozenset[int], tuple[int, Choice]] = {}

    def duel(a: int, b: int) -> Choice:
        first, result = found.setdefault(frozenset((a, b)), (a, data.draw(_RESULTS)))
        return result if first == a else result.swap()

    played, _ = in_rounds(k, duel)
    assert played.scores
    wins = {(a, b) for a, b in permutations(range(k), 2) if frozenset((a, b)) in found and duel(a, b).position == 0}
    best, worst = ([t for t, one in played.scores.items() if one.value == value] for value in (1.0, 0.0))
    assert len(best) == len(worst) <= 1
    reached = set(best)
    for _ in range(k):
        reached |= {b for a, b in wins if a in reached}
    assert set(worst) <= reached


def test_a_tie_between_best_and_worst_is_a_tie_and_not_a_pair() -> None:
    tied, _ = in_rounds(2, lambda a, b: Choice(-1))
    assert tied.scores == {0: Score(0.5), 1: Score(0.5)}


def test_a_duel_without_a_verdict_that_matters_leaves_its_reason() -> None:
    lost, _ = in_rounds(2, lambda a, b: UNREAD)
    assert lost.scores == {t: Score(reason=Reason.INCONSISTENT_ORDERS) for t in (0, 1)}
    # 0 > 1 and 2 > 3 are known, and of 0 and 2 nothing is: 3 is below 1, so the bracket still shows 0 > 1 > 3.
    partly, _ = in_rounds(4, lambda a, b: UNREAD if {a, b} == {0, 2} else by_worth({0: 9, 1: 5, 2: 8, 3: 1})(a, b))
    assert partly.scores == {0: Score(1.0), 3: Score(0.0)}


def test_judges_that_go_round_in_a_circle_name_no_best() -> None:
    beats = {(0, 1), (1, 2), (2, 0)}
    played, _ = in_rounds(3, lambda a, b: Choice(0 if (a, b) in beats else 1))
    assert {one.reason for one in played.scores.values()} == {Reason.DISAGREEMENT}


def test_a_round_robin_scores_by_the_share_of_settled_duels_won() -> None:
    worth = {0: 3, 1: 2, 2: 2, 3: 0}
    played = round_robin(range(4), by_worth(worth))
    assert len(played.fought) == 6
    assert {t: one.value for t, one in played.scores.items()} == {0: 1.0, 1: 0.5, 2: 0.5, 3: 0.0}
    alone = round_robin(range(3), lambda a, b: UNREAD if 2 in (a, b) else Choice(0))
    assert alone.scores == {0: Score(1.0), 1: Score(0.0), 2: Score(reason=Reason.INCONSISTENT_ORDERS)}


def test_several_judges_of_a_duel_need_their_models_again_in_each_round() -> None:
    from prefsmith.stages.calls import Leaf, Stage

    two = [Stage.of(Leaf(i, b"%d" % i, "p", "judge", (), gives="choice", lane=f"lane {i}")) for i in (1, 2)]
    panel = Stage("panel", 3, b"3", "panel", None, tuple(two), "majority")
    assert turns(Stage("tournament", 4, b"4", "t", None, (panel,), "minmax"), 8) == ["lane 1", "lane 2"] * 3
    assert turns(Stage("tournament", 4, b"4", "t", None, (two[0],), "minmax"), 8) == ["lane 1"]
    assert turns(panel, 8) == ["lane 1", "lane 2"]
