import io
from collections import Counter
from dataclasses import replace

import pytest

from prefsmith.cli.progress import ProgressLine, render
from prefsmith.progress import Progress, Spending

SEEN = Progress(
    n_items=300,
    n_items_done=180,
    n_items_before=60,
    n_items_settled=120,
    n_items_looked=120,
    n_pairs=90,
    n_calls_ok=1200,
    n_calls_failed=Counter(timeout=1, rate_limited=20, server_error=0),
    n_completions=960,
    n_verdicts=700,
    n_no_verdict=Counter(unparseable=4),
    n_tokens=33_400,
    elapsed_s=10.0,
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_a_line_says_how_far_how_fast_with_what_yield_and_what_failed() -> None:
    assert render(SEEN) == (
        "items 120/240 (50%), 60 done before · 0:10, 0:10 left · 90 pairs (0.75 an item) "
        "· 21 calls failed (rate_limited 20, timeout 1) · 4 without a verdict (unparseable 4) "
        "· 120 calls/s, 33.4k tokens · 960 completions, 700 verdicts"
    )


def test_money_is_told_as_spent_or_of_the_budget_and_so_is_a_reply_without_a_price() -> None:
    assert "$" not in render(SEEN)
    assert " · 90 pairs (0.75 an item) · $1.23 · 21 calls failed" in render(replace(SEEN, spent_nanousd=1_230_000_000))
    of = replace(SEEN, spent_nanousd=1, budget=Spending("nanousd", 1_230_000_000, 5_000_000_000))
    assert " · $1.23 of $5.00 · 21 calls" in render(of)
    assert " · 1.5M of 2.0M tokens · " in render(replace(of, budget=Spending("tokens", 1_500_000, 2_000_000)))
    assert " · $1.23 of $5.00 · 3 replies without a price · " in render(replace(of, n_unpriced=3))
    assert " · <$0.0001 · " in render(replace(SEEN, spent_nanousd=7))


def test_pairs_that_were_counted_over_a_share_of_the_items_are_told_as_an_estimate() -> None:
    assert " · about 90 pairs (0.75 an item) · " in render(replace(SEEN, n_items_looked=40, n_pairs=30))


def test_a_line_before_anything_came_back_divides_by_nothing() -> None:
    assert render(Progress()) == "items 0/0 · 0:00 · 0 pairs · 0 completions, 0 verdicts"


def test_items_let_go_of_with_something_owed_are_not_done() -> None:
    told = render(Progress(n_items=10, n_items_done=4, n_items_left=3, n_items_settled=7, elapsed_s=7))
    assert told.startswith("items 4/10 (40%), 3 left open · 0:07, 0:03 left")


def test_hours_are_shown_as_hours() -> None:
    assert render(replace(SEEN, elapsed_s=3725.0)).startswith(
        "items 120/240 (50%), 60 done before · 1:02:05, 1:02:05 left"
    )


def test_a_pipe_gets_whole_lines_one_at_once_the_others_ten_seconds_apart_and_no_control_code() -> None:
    stream, clock = io.StringIO(), Clock()
    with ProgressLine(stream, clock) as line:
        for second in range(35):
            clock.seconds = second
            line.update(SEEN)
        line.say("farm answers again")
    lines = stream.getvalue().splitlines()
    assert lines == [render(SEEN)] * 4 + ["farm answers again"]
    assert not set("\x1b\r") & set(stream.getvalue())


def test_a_terminal_gets_one_line_that_is_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    stream, clock = Terminal(), Clock()
    with ProgressLine(stream, clock) as line:
        line.update(SEEN)
        line.update(SEEN)
        clock.seconds = 1.0
        line.update(SEEN)
        line.say("farm answers \x1b[31magain")
    out = stream.getvalue()
    shown = render(SEEN)[:38] + "…"
    assert out.count(f"\r{shown}\x1b[K") == 2
    assert f"\rfarm answers \\x1b[31magain\x1b[K\n{shown}" in out
    assert out.endswith("\n")


def test_a_stream_that_fails_does_not_end_the_run() -> None:
    stream = Terminal()
    line = ProgressLine(stream, Clock())
    stream.close()
    line.update(SEEN)
    line.say("still here")


def test_one_of_a_thing_is_told_in_the_singular() -> None:
    one = Progress(n_items=1, n_calls_failed=Counter(timeout=1), n_completions=1, n_verdicts=1, n_unpriced=1)
    told = render(one)
    assert "1 call failed (timeout 1)" in told and "1 reply without a price" in told
    assert told.endswith("1 completion, 1 verdict")


def test_an_evaluation_shows_no_pairs() -> None:
    assert "90 pairs" in render(SEEN) and "pair" not in render(replace(SEEN, makes_pairs=False))
