from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsmith.judging.parse import read_choice, read_score, without_reasoning
from prefsmith.outcomes import Choice, Score
from prefsmith.reasons import Reason
from prefsmith.records import Generated, Message

DIGITS = tuple("123456789")
LETTERS = ("A", "B", "TIE")
A, B, TIE = 0, 1, -1
BAD, TWO = Reason.UNPARSEABLE, Reason.AMBIGUOUS


def reply(
    text: str | None, finish_reason: str = "stop", refusal: str | None = None, reasoning: str | None = None
) -> Generated:
    message: Message = {"role": "assistant", "content": text}
    if refusal is not None:
        message["refusal"] = refusal
    return Generated(0, message, finish_reason, reasoning=reasoning)


PAIRWISE: list[tuple[str, int | Reason]] = [
    # the last non-empty line, and what does not count below it
    ("VERDICT: A", A),
    ("VERDICT: B", B),
    ("VERDICT: TIE", TIE),
    ("The second one is wrong.\n\nVERDICT: A\n\n \n", A),
    ("Some reasons.\r\nVERDICT: B\r\n", B),
    ("```\nVERDICT: A\n```", A),
    ("```text\nreasons\n\nVERDICT: A\n```\n---", A),
    ("VERDICT: A\n\n***", A),
    ("VERDICT: A\n\n=====\n", A),
    ("VERDICT: A\n\u200b\n", A),
    ("VERDICT: A\nI hope that helps!", BAD),
    ("VERDICT: A\n```python\nprint()\n```", BAD),
    ("A is better in every way.", BAD),
    ("", BAD),
    ("\n \n", BAD),
    ("VERDICT: A\n\nVERDICT: A", A),
    ("VERDICT: A\nOn reflection:\nVERDICT: B", TWO),
    ("VERDICT: A or B\nVERDICT: A", A),
    ("VERDICT: not B\nVERDICT: A", TWO),
    # a candidate's own verdict line, quoted by the judge
    ("The first answer contains:\n> VERDICT: A\nThat is no argument.\nVERDICT: B", B),
    ('It says "VERDICT: A" in its last line, an attempt to cheat.\nVERDICT: B', B),
    ("The first answer contains:\nVERDICT: A\nwhich I ignore.\nVERDICT: B", TWO),
    ("VERDICT: B\n> VERDICT: A", BAD),
    ("The answer ends with VERDICT: A", BAD),
    # the word
    ("Verdict: A", A),
    ("verdict: B", B),
    ("VERDICT：A", A),
    ("VERDICT A", BAD),
    ("VERDICT - A", BAD),
    ("VERDICT:\nA", BAD),
    ("VERDICT:", BAD),
    ("MY VERDICT: A", BAD),
    ("VERDICTS: A", BAD),
    # decoration
    ("**VERDICT: A**", A),
    ("**VERDICT:** B", B),
    ("**Verdict**: **TIE**", TIE),
    ("## VERDICT: A", A),
    ("`VERDICT: A`", A),
    ("VERDICT: `B`", B),
    ("VERDICT: [[A]]", A),
    ("[VERDICT: A]", A),
    ("VERDICT: (B)", B),
    ('VERDICT: "A"', A),
    ("VERDICT: “A”.", A),
    ("VERDICT: 「B」。", B),
    ("VERDICT: _A_", A),
    ("VERDICT: A.", A),
    ("VERDICT: A!", A),
    ("VERDICT: A?", BAD),
    # a gloss, and what is none
    ("VERDICT: A (clearer)", A),
    ("VERDICT: A - more complete", A),
    ("VERDICT: A — more complete", A),
    ("VERDICT: B, by a little", B),
    ("VERDICT: TIE. Both are right.", TIE),
    ("VERDICT: A，更好", A),
    ("VERDICT: A更好", BAD),
    ("VERDICT: A不好", BAD),
    ("裁决理由：第二个更准确。\nVERDICT：B。", B),
    ("VERDICT: 甲", BAD),
    ("VERDICT: Ａ", BAD),
    ("VERDICT: A is worse", BAD),
    ("VERDICT: A, it beats B", TWO),
    ("VERDICT: A/B", TWO),
    ("VERDICT: A or B", TWO),
    ("VERDICT: neither A nor B", TWO),
    ("VERDICT: ~~A~~ B", TWO),
    ("VERDICT: A_B", TWO),
    ("VERDICT: T*I*E", BAD),
    ("VERDICT: A- better", BAD),
    ("VERDICT: A VERDICT: B", TWO),
    # stand-alone capitals
    ("VERDICT: a", BAD),
    ("VERDICT: tie", BAD),
    ("VERDICT: AB", BAD),
    ("VERDICT: A1", BAD),
    ("VERDICT: C", BAD),
    ("VERDICT: Answer A", BAD),
    ("VERDICT: not A", BAD),
    ("VERDICT: both", BAD),
    ("VERDICT: <A>", BAD),
    ("VERDICT: 1", BAD),
    # reasoning
    ("<think>VERDICT: A</think>\nVERDICT: B", B),
    ("<think>\nVERDICT: A", BAD),
    ("<think>first\nVERDICT: A</think>", BAD),
    ("VERDICT: B\n<reasoning>hm, VERDICT: A", B),
    ("I lean to A.\nVERDICT: A\n</think>\n\nVERDICT: B", B),
    ("VERDICT: A\n</think>", BAD),
    ("VERDICT: A\n<think>x</think>\n</think>VERDICT: B", B),
    ("<THINKING>x</Thinking>VERDICT: A", A),
    ("<think>x</thinking>\nVERDICT: A", BAD),
    ("They said <think>x</think>VERDICT: A", BAD),
    ("<think>a<think>b</think>c</think>VERDICT: B", B),
]

RUBRIC: list[tuple[str, int | Reason]] = [
    ("Fine.\nVERDICT: 7", 7),
    ("VERDICT: 1", 1),
    ("VERDICT: 9.", 9),
    ("VERDICT: **8**", 8),
    ("VERDICT: 7/9", 7),
    ("VERDICT: 7 / 9", 7),
    ("VERDICT: **7**/9", 7),
    ("VERDICT: 9/9", 9),
    ("VERDICT: 7 out of 9", 7),
    ("VERDICT: 7 (out of 9)", 7),
    ("VERDICT: 7/9 (small slips)", 7),
    ("VERDICT: 7 - solid", 7),
    ("VERDICT: 4 (good and/or fair)", 4),
    ("VERDICT: 7/9, that is 7 out of 9", 7),
    ("VERDICT: 7/9 (form 3/9)", TWO),
    ("VERDICT: 7/10", BAD),
    ("VERDICT: 7/5", BAD),
    ("VERDICT: 7/9.5", BAD),
    ("VERDICT: 7/90", BAD),
    ("VERDICT: 7/9/2026", BAD),
    ("VERDICT: 7, out of 10", BAD),
    ("VERDICT: 7 out of ten", BAD),
    ("VERDICT: /9", BAD),
    ("VERDICT: 10", BAD),
    ("VERDICT: 10/9", BAD),
    ("VERDICT: 0", BAD),
    ("VERDICT: 7.5", BAD),
    ("VERDICT: 7.0", BAD),
    ("VERDICT: 7,5", BAD),
    ("VERDICT: 07", BAD),
    ("VERDICT: >7", BAD),
    ("VERDICT: -7", BAD),
    ("VERDICT: ~7", BAD),
    ("VERDICT: 7+", BAD),
    ("VERDICT: 7%", BAD),
    ("VERDICT: 7th", BAD),
    ("VERDICT: 7²", BAD),
    ("VERDICT: ７", BAD),
    ("VERDICT: 7分", BAD),
    ("VERDICT: not 7", BAD),
    ("VERDICT: seven", BAD),
    ("VERDICT: A", BAD),
    ("VERDICT: 7 points", BAD),
    ("VERDICT: 7 (or 10)", BAD),
    ("VERDICT: 7-8", TWO),
    ("VERDICT: 7 or 8", TWO),
    ("VERDICT: 7 (the code: 3)", TWO),
    ("VERDICT: 6\nVERDICT: 7", TWO),
    ("VERDICT: 7/9\nso\nVERDICT: 7", 7),
    ("VERDICT: 1<think>so far</think>0", BAD),
    ("VERDICT: 1*0*", BAD),
    ("VERDICT: 1\u200b0", BAD),
    ("Helpfulness: 9\nCorrectness: 3\nVERDICT: 4", 4),
]


@pytest.mark.parametrize(("text", "expected"), PAIRWISE)
def test_a_pairwise_reply_is_read_as_the_rules_say(text: str, expected: int | Reason) -> None:
    wanted = Choice(reason=expected) if isinstance(expected, Reason) else Choice(expected)
    assert read_choice(reply(text), LETTERS) == wanted


@pytest.mark.parametrize(("text", "expected"), RUBRIC)
def test_a_rubric_reply_is_read_as_the_rules_say(text: str, expected: int | Reason) -> None:
    wanted = (
        Score(reason=expected) if isinstance(expected, Reason) else Score((expected - 1) / 8, parts={"raw": expected})
    )
    assert read_score(reply(text), DIGITS) == wanted


def test_the_ends_of_the_scale_are_0_and_1() -> None:
    assert [read_score(reply(f"VERDICT: {d}"), DIGITS).value for d in "159"] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(
    ("given_reply", "reason"),
    [
        (reply("VERDICT: A", "length"), Reason.REPLY_TRUNCATED),
        (reply("VERDICT: A", "stop", refusal="I cannot judge this."), Reason.REFUSED),
        (reply("VERDICT: A", "content_filter"), Reason.CONTENT_FILTER),
        (reply("VERDICT: A", "abort"), Reason.UNPARSEABLE),
        (reply("VERDICT: A", "error"), Reason.UNPARSEABLE),
        (reply("I'm sorry, I cannot help with that."), Reason.UNPARSEABLE),
        (reply(None), Reason.UNPARSEABLE),
    ],
)
def test_how_a_reply_ended_is_looked_at_before_its_text(given_reply: Generated, reason: Reason) -> None:
    assert read_choice(given_reply, LETTERS) == Choice(reason=reason)


def test_the_reasoning_field_is_never_read() -> None:
    assert read_choice(reply("", reasoning="VERDICT: A"), LETTERS).reason is Reason.UNPARSEABLE
    assert read_choice(reply("VERDICT: B", reasoning="VERDICT: A"), LETTERS).position == B


def test_without_tie_among_the_labels_a_tie_is_unparseable() -> None:
    assert read_choice(reply("VERDICT: TIE"), ("A", "B")).reason is Reason.UNPARSEABLE


_SAID = ["VERDICT", "verdict", ":", "：", "A", "B", "TIE", "7", "9", "/9", "10", ".5", " out of ", "not ", "é", "更"]
_MARKS = ["<think>", "</think>", "```", "---", "**", ">", "(", ")", " ", "\n", "\u2028", "\ud800", "\x00"]
_PIECES = st.sampled_from(_SAID + _MARKS)
_TEXTS = st.one_of(st.text(), st.lists(_PIECES, max_size=14).map("".join))


@given(_TEXTS, st.sampled_from(["stop", "length", "tool_calls", "", "content_filter"]))
@settings(max_examples=300, deadline=None)
def test_reading_never_raises_and_gives_a_result_or_a_reason(text: str, finish_reason: str) -> None:
    score, choice = read_score(reply(text, finish_reason), DIGITS), read_choice(reply(text, finish_reason), LETTERS)
    assert score.value is None or (0 <= score.value <= 1 and finish_reason not in ("length", "content_filter"))
    assert choice.position in (None, 0, 1, -1)


@given(_TEXTS.filter(lambda text: "verdict" not in text.lower()))
@settings(max_examples=200, deadline=None)
def test_a_text_without_a_verdict_line_has_no_value(text: str) -> None:
    assert read_score(reply(text), DIGITS) == Score(reason=Reason.UNPARSEABLE)
    assert read_choice(reply(text), LETTERS) == Choice(reason=Reason.UNPARSEABLE)


@given(st.lists(_PIECES, max_size=8).map("".join), st.sampled_from(LETTERS))
@settings(max_examples=200, deadline=None)
def test_whatever_stands_above_the_last_line_is_its_verdict_or_none(above: str, label: str) -> None:
    choice = read_choice(reply(f"{above}\nVERDICT: {label}"), LETTERS)
    assert choice.position in (None, {"A": A, "B": B, "TIE": TIE}[label])


@pytest.mark.parametrize("unit", ["a", " ", "<think", "out ", "7 ", "/", "VERDICT: ", "-", "(", "7(", ".,", "*"])
def test_reading_takes_time_linear_in_the_text(unit: str) -> None:
    text = "VERDICT:" + unit * (200_000 // len(unit))
    start = time.process_time()
    read_score(reply(text), DIGITS)
    read_choice(reply(text + "\nVERDICT: A"), LETTERS)
    assert time.process_time() - start < 2


def test_reasoning_is_taken_out_and_nothing_is_joined() -> None:
    assert without_reasoning("a<think>b</think>c") == "a c"
    assert without_reasoning("no tags") == "no tags"
    assert without_reasoning("x</think>y").strip() == "y"
    assert without_reasoning("x<think>y").strip() == "x"


@given(
    st.lists(
        st.sampled_from(
            [
                "VERDICT: 7",
                "VERDICT: A",
                "Verdict: 3",
                "VERDICT: 10",
                "VERDICT: ",
                "fine\u2028VERDICT: 2",
                "so <think>",
                "",
            ]
        )
        | st.text(max_size=12),
        max_size=4,
    ),
    st.sampled_from([("1", "2", "3", "4", "5", "6", "7", "8", "9"), ("A", "B", "TIE")]),
)
def test_the_short_way_of_a_plain_reply_agrees_with_the_long_one(lines: list[str], labels: tuple[str, ...]) -> None:
    from prefsmith.judging import parse

    text = "\n".join(lines)
    plain = parse._plain_label(text, labels)
    if plain is not None:
        assert parse._read_text(parse.without_reasoning(text), labels).label == plain
