from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsmith.judging.verdicts import Step, both_orders, next_step
from prefsmith.outcomes import Choice
from prefsmith.reasons import Reason

ASK, REPAIR, FRESH, LONGER = Step
BAD, TWO, CUT = Reason.UNPARSEABLE, Reason.AMBIGUOUS, Reason.REPLY_TRUNCATED

_results = st.builds(Choice, st.sampled_from([0, 1, -1]), p=st.none() | st.sampled_from([0.0, 0.25, 0.5, 1.0]))
_missing = st.builds(lambda reason: Choice(reason=reason), st.sampled_from([BAD, TWO, CUT, Reason.REFUSED]))


@pytest.mark.parametrize(
    ("done", "expected"),
    [
        ([], ASK),
        ([(ASK, BAD)], REPAIR),
        ([(ASK, TWO)], REPAIR),
        ([(ASK, Reason.LOW_MASS)], REPAIR),
        ([(ASK, BAD), (REPAIR, TWO)], FRESH),
        ([(ASK, BAD), (REPAIR, BAD), (FRESH, BAD)], None),
        ([(ASK, CUT)], LONGER),
        ([(ASK, CUT), (LONGER, CUT)], None),
        ([(ASK, CUT), (LONGER, BAD)], REPAIR),
        ([(ASK, CUT), (LONGER, BAD), (REPAIR, BAD)], FRESH),
        ([(ASK, BAD), (REPAIR, CUT)], LONGER),
        ([(ASK, BAD), (REPAIR, CUT), (LONGER, BAD)], FRESH),
        ([(ASK, BAD), (REPAIR, CUT), (LONGER, BAD), (FRESH, CUT)], None),
        ([(ASK, Reason.REFUSED)], None),
        ([(ASK, Reason.CONTENT_FILTER)], None),
        ([(ASK, BAD), (REPAIR, Reason.REFUSED)], None),
        ([(ASK, Reason.BAD_REQUEST)], None),
        ([(ASK, Reason.CONTEXT_TOO_LONG)], None),
        ([(ASK, BAD), (REPAIR, Reason.RATE_LIMITED)], REPAIR),
    ],
)
def test_the_next_step_follows_from_what_ended_without_a_verdict(
    done: list[tuple[Step, Reason]], expected: Step | None
) -> None:
    assert next_step(done) is expected


@given(st.lists(st.sampled_from([r for r in Reason if not r.owed]), min_size=4, max_size=6))
def test_a_verdict_takes_at_most_four_steps_and_none_twice(reasons: list[Reason]) -> None:
    done: list[tuple[Step, Reason]] = []
    for reason in reasons:
        step = next_step(done)
        if step is None:
            break
        done.append((step, reason))
    assert len({step for step, _ in done}) == len(done) <= 4


def test_two_orders_agree_only_on_the_same_answer() -> None:
    for ab, ba in product((0, 1, -1), repeat=2):
        same = ab == {0: 1, 1: 0, -1: -1}[ba]
        expected = Choice(ab) if same else Choice(reason=Reason.INCONSISTENT_ORDERS)
        assert both_orders(Choice(ab), Choice(ba)) == expected


def test_a_judge_that_always_takes_the_first_shown_decides_nothing() -> None:
    assert both_orders(Choice(0), Choice(0)).reason is Reason.INCONSISTENT_ORDERS


@given(_results, _results)
def test_naming_the_two_answers_the_other_way_round_swaps_the_result(ab: Choice, ba: Choice) -> None:
    assert both_orders(ba, ab) == both_orders(ab, ba).swap()


@given(_results | _missing, _missing)
def test_a_missing_order_gives_its_reason(one: Choice, missing: Choice) -> None:
    assert both_orders(missing, one) == missing
    assert both_orders(one, missing) == (one if one.position is None else missing)


def test_probabilities_of_two_orders_are_averaged_over_the_first_ones_positions() -> None:
    assert both_orders(Choice(0, p=0.75), Choice(1, p=0.5)) == Choice(0, p=0.625)
    assert both_orders(Choice(0, p=0.75), Choice(1)) == Choice(0)
