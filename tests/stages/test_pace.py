"""How long a forecast says: whichever limit binds, by hand."""

from __future__ import annotations

import pytest

from prefsmith.limits.limiter import TOKEN_MARGIN
from prefsmith.limits.pacer import MARGIN
from prefsmith.prices import FREE
from prefsmith.stages.pace import HERE_S, Load, Pace, Terms, pace, whole

WIDE = Load(n_requests=6000, n_tokens=3_000_000, wall_s=12_000, at_once=2048)


def terms(**limits: float | None) -> Terms:
    return Terms("farm:m", FREE, **{"concurrency": 64, **limits})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("limits", "load", "expected"),
    [
        ({}, WIDE, Pace(12_000 / 64, "64 at a time")),
        ({}, WIDE._replace(at_once=16), Pace(750, "only 16 at a time: no more prompts are open (window)")),
        ({"rpm": 600}, WIDE, Pace(600 / MARGIN, "600 requests a minute")),
        ({"rpm": 600, "tpm": 100_000}, WIDE, Pace(1800 / TOKEN_MARGIN, "100,000 tokens a minute")),
        ({"tpm": 100_000}, WIDE._replace(n_tokens=None), Pace(12_000 / 64, "64 at a time")),
    ],
)
def test_the_limit_that_takes_longest_binds(limits: dict[str, float], load: Load, expected: Pace) -> None:
    found = pace(terms(**limits), load)
    assert found.seconds == pytest.approx(expected.seconds) and found.bound_by == expected.bound_by


def test_models_work_beside_each_other_unless_they_take_turns() -> None:
    loads = {"a": WIDE, "b": WIDE._replace(wall_s=6_000)}
    of = {"a": terms(), "b": terms()}
    beside, in_turn = (whole(loads, of, tail_s=3, start_s=2, in_turn=turns) for turns in (False, True))
    assert beside and in_turn
    assert beside.seconds == pytest.approx(12_000 / 64 + 5) and in_turn.seconds == pytest.approx(18_000 / 64 + 5)
    assert beside.bound_by == "farm:m: 64 at a time"


def test_a_server_that_answers_at_once_is_bound_by_this_machine() -> None:
    found = whole({"a": WIDE._replace(wall_s=0.1)}, {"a": terms()}, tail_s=0, start_s=0, in_turn=False)
    assert found == Pace(6000 * HERE_S, "this machine's own work for each request")


def test_nothing_to_ask_takes_no_time() -> None:
    assert whole({"a": Load(0, 0, 0, 0)}, {"a": terms()}, tail_s=0, start_s=9, in_turn=False) is None
