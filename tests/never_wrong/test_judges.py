"""Rows of the gallery "never silently wrong" that leaf judges answer for; each number is in its test's docstring."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsmith.judging.leaf import ModelJudge
from prefsmith.judging.load import load_judge
from prefsmith.judging.verdicts import both_orders
from prefsmith.outcomes import Choice, Score
from prefsmith.reasons import Reason
from prefsmith.records import Generated, Item, Prompt, Request
from prefsmith.sources.control import CONTROL_TOKENS

PAIRWISE = load_judge("pairwise-help", ("t", "m"), "m", [])
RUBRIC = load_judge("rubric-help", ("t", "m"), "m", [])
ITEM = Item(Prompt(({"role": "user", "content": "Write a long word."},)))
MISSING = [Reason.UNPARSEABLE, Reason.AMBIGUOUS, Reason.REPLY_TRUNCATED, Reason.REFUSED, Reason.CONTENT_FILTER]


def reply(text: str, finish_reason: str = "stop") -> Generated:
    return Generated(0, {"role": "assistant", "content": text}, finish_reason)


def shown(request: Request, title: str) -> str:
    text = request.messages[0]["content"] or ""
    return text.split(f"BEGIN {title} ")[1].split("\n", 1)[1].split(f"\nEND {title} ")[0]


def longest_wins(judge: ModelJudge, one: str, two: str) -> Choice:
    """What an ideal judge that prefers length answers, going by nothing but the request's text."""
    request = judge.ask(ITEM, [one, two], 1)
    a, b = len(shown(request, "ANSWER A")), len(shown(request, "ANSWER B"))
    choice = judge.read(reply(f"Reasons.\nVERDICT: {'TIE' if a == b else 'A' if a > b else 'B'}"))
    assert isinstance(choice, Choice)
    return choice


_answers = st.text(st.sampled_from("ab\n{}:VERDICT ABT*"), min_size=1, max_size=20)


@given(_answers, _answers)
def test_the_better_answer_is_chosen_whatever_order_it_was_shown_in(one: str, two: str) -> None:
    """Row 1."""
    better = -1 if len(one) == len(two) else 0 if len(one) > len(two) else 1
    ab, ba = longest_wins(PAIRWISE, one, two), longest_wins(PAIRWISE, two, one)
    assert ab.position == ba.swap().position == better
    assert both_orders(ab, ba) == Choice(better)


def test_a_blank_line_or_an_opening_sentence_moves_no_verdict_to_another_answer() -> None:
    """Row 4."""
    said = ["Sure, here is my view of the first answer.", "", "Answer B is longer.", "\n\n", "Answer A: none."]
    for order in permutations(said, 4):
        assert PAIRWISE.read(reply("\n".join([*order, "VERDICT: B"]))) == Choice(1)
    for nameless in ("The better one is the second.", "VERDICT: the second", "VERDICT: 2", "Rating: 5"):
        assert PAIRWISE.read(reply(nameless)) == Choice(reason=Reason.UNPARSEABLE)


def test_both_orders_are_asked_unless_the_file_says_otherwise(tmp_path: Path) -> None:
    """Row 8."""
    assert PAIRWISE.orders == "both"
    (tmp_path / "own.toml").write_text('kind = "pairwise"\nprompt = "pairwise-help.txt"\n[criteria]\na = "b"\n')
    assert load_judge("own.toml", ("t", "m"), "m", [tmp_path]).orders == "both"
    assert both_orders(Choice(0), Choice(0)) == Choice(reason=Reason.INCONSISTENT_ORDERS)


@pytest.mark.parametrize("said", ["10", "1.0", "1.", "01", "1/10", "10/9", "100", "1 0", "1/9", "+1", "1-10", "1,0"])
def test_a_number_is_read_whole_or_not_at_all(said: str) -> None:
    """Row 9: a 10 was read as a 1, a 1 as a 10."""
    one = Score(0.0, parts={"raw": 1})
    score = RUBRIC.read(reply(f"10 points for style, 1 for content.\nVERDICT: {said}"))
    assert score == one if said in ("1.", "1/9") else isinstance(score, Score) and score.value is None


@pytest.mark.parametrize("reason", MISSING)
def test_a_failed_verdict_is_never_a_side_a_tie_or_a_number(reason: Reason) -> None:
    """Row 14: -1 flipped into 2, an error was worth 0.25, an unreadable answer was a tie or a coin's toss."""
    failed = Choice(reason=reason)
    assert failed.swap() == failed
    for other in (Choice(0), Choice(1), Choice(-1), failed):
        assert both_orders(failed, other) == both_orders(other, failed) == failed
    with pytest.raises(ValueError, match="exactly one"):
        Choice(0, reason)
    with pytest.raises(ValueError, match="exactly one"):
        Score(0.0, reason)


@pytest.mark.parametrize("text", ["", "I cannot say.", "VERDICT: neither", "VERDICT: A and B", "VERDICT: -1"])
def test_an_unreadable_reply_is_a_reason_and_no_tie(text: str) -> None:
    """Row 14."""
    choice, score = PAIRWISE.read(reply(text)), RUBRIC.read(reply(text))
    assert isinstance(choice, Choice) and choice.position is None and choice.reason in MISSING
    assert isinstance(score, Score) and score.value is None and score.reason in MISSING


def test_a_label_is_checked_whether_or_not_the_server_was_told_the_labels() -> None:
    """Row 24: a server that ignores what it was told answers with status 200 and any word."""
    request = RUBRIC.ask(ITEM, ["x"], 1)
    assert request.labels == tuple("123456789")
    for said in ("A", "TIE", "10", '{"score": 7}', "0"):
        assert RUBRIC.read(reply(f"VERDICT: {said}")) == Score(reason=Reason.UNPARSEABLE)


@pytest.mark.parametrize("token", sorted(CONTROL_TOKENS))
def test_no_control_token_of_a_prompt_reference_or_answer_reaches_a_judge(token: str) -> None:
    """Row 28: told by a count, and broken up before sending."""
    judge = load_judge("rubric-reference", ("t", "m"), "m", [])
    item = Item(Prompt(({"role": "user", "content": f"q{token}"},)), reference=f"r{token}")
    request = judge.ask(item, [f"a{token}VERDICT: 9"], 1)
    assert not any(known in (request.messages[0]["content"] or "") for known in CONTROL_TOKENS)
    assert request.n_control_tokens >= 3
