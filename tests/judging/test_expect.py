"""Expectation over the labels' probabilities: where they are looked for, and when the text decides instead."""

from __future__ import annotations

import math

import pytest

from prefsmith.judging.expect import tail
from prefsmith.judging.parse import read_choice, read_score, read_yes
from prefsmith.ledger.read import as_generated, as_kept
from prefsmith.outcomes import Choice, Score
from prefsmith.reasons import Reason
from prefsmith.records import Generated, Token

DIGITS = tuple("123456789")


def token(text: str, p: float, **others: float) -> Token:
    top = ((text, math.log(p)), *((name.replace("_", " "), math.log(q)) for name, q in others.items()))
    return Token(text, math.log(p), top)


def said(*tokens: Token | str, finish: str = "stop") -> Generated:
    read = tuple(Token(one, -0.5) if isinstance(one, str) else one for one in tokens)
    text = "".join(one.text for one in read)
    return Generated(0, {"role": "assistant", "content": text}, finish, tokens=read)


def test_the_value_is_the_mean_over_the_labels_renormalised() -> None:
    reply = said("Good.\n", "VER", "DICT", ":", token(" 7", 0.5, _8=0.25, _the=0.2, **{"9": 0.05}))
    score = read_score(reply, DIGITS)
    raw = (7 * 0.5 + 8 * 0.25 + 9 * 0.05) / 0.8
    assert score.value == pytest.approx((raw - 1) / 8, abs=1e-12)
    assert score.parts == {"raw": pytest.approx(raw), "mass": pytest.approx(0.8), "label": 7}
    assert score.p == pytest.approx(0.5 / 0.8)


def test_the_place_is_the_token_after_the_last_verdict() -> None:
    reply = said("7 points, so VERDICT", ": soon.\n", "VERDICT", ":", token(" 2", 0.9, _9=0.1))
    score = read_score(reply, DIGITS)
    assert score.parts is not None and score.parts["raw"] == pytest.approx(2.7)


def test_too_little_mass_lets_the_text_decide_unless_the_judge_needs_it() -> None:
    reply = said("VERDICT", ":", token(" 7", 0.3, _great=0.6))
    assert read_score(reply, DIGITS) == Score(0.75, parts={"raw": 7, "mass": pytest.approx(0.3)})
    low = read_score(reply, DIGITS, needs_mass=True)
    assert low.reason is Reason.LOW_MASS and low.parts == {"mass": pytest.approx(0.3)}
    without = Generated(0, {"role": "assistant", "content": "VERDICT: 7"}, "stop")
    assert read_score(without, DIGITS) == Score(0.75, parts={"raw": 7})
    assert read_score(without, DIGITS, needs_mass=True).reason is Reason.LOW_MASS


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("VERDICT: 7 or 8", "stop", Reason.AMBIGUOUS),
        ("VERDICT: great", "stop", Reason.UNPARSEABLE),
        ("VERDICT: 7", "length", Reason.REPLY_TRUNCATED),
    ],
)
def test_probabilities_never_make_up_for_a_text_without_a_label(text: str, finish: str, reason: Reason) -> None:
    assert read_score(said("VERDICT", ":", token(" 7", 1.0), finish=finish), DIGITS).reason in (None, reason)
    head, _, rest = text.partition(" ")
    assert read_score(said(head, token(f" {rest}", 1.0), finish=finish), DIGITS) == Score(reason=reason)


def test_a_label_that_shares_its_token_has_no_mass() -> None:
    assert read_score(said("VERDICT", token(": 7", 1.0)), DIGITS) == Score(0.75, parts={"raw": 7})
    assert read_score(said("VERDICT:", token(" 7.", 1.0)), DIGITS) == Score(0.75, parts={"raw": 7})


def test_a_pairwise_p_is_that_of_the_first_shown_and_a_tie_counts_half() -> None:
    labels = ("A", "B", "TIE")
    choice = read_choice(said("VERDICT", ":", token(" B", 0.5, _A=0.3, _T=0.2)), labels)
    assert (choice.position, choice.p) == (1, pytest.approx(0.4))
    assert choice.swap().p == pytest.approx(0.6)
    tie = read_choice(said("VERDICT", ":", token(" T", 0.8, _A=0.2), "IE"), labels)
    assert (tie.position, tie.p) == (-1, pytest.approx(0.6))
    low = said("VERDICT", ":", token(" A", 0.2))
    assert read_choice(low, labels) == Choice(0)
    assert read_choice(low, labels, needs_mass=True) == Choice(reason=Reason.LOW_MASS)


def test_a_checklist_scores_by_the_probability_of_yes() -> None:
    labels = ("YES", "NO")
    score = read_yes(said("VERDICT", ":", token(" NO", 0.6, _YES=0.2)), labels)
    assert (score.value, score.p) == (pytest.approx(0.25), pytest.approx(0.75))
    assert read_yes(Generated(0, {"role": "assistant", "content": "VERDICT: NO"}, "stop"), labels).value == 0.0


def test_what_is_kept_of_the_tokens_reads_the_same_again() -> None:
    reply = said(*["word "] * 300, "VERDICT: 3?\n", "VER", "DICT", token(":", 0.9), token(" 7", 0.5, _8=0.4), "\n")
    kept = as_generated(as_kept(reply._replace(tokens=tail(reply.tokens or ()))).decode())
    assert kept.tokens is not None and len(kept.tokens) == 5
    assert kept.tokens[0].top == kept.tokens[1].top == ()
    assert read_score(kept, DIGITS) == read_score(reply, DIGITS)
    assert tail((Token("no", -1.0),)) == ()
