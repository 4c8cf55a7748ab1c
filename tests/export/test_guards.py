from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsmith.export.guards import ANYTHING, HUGGING_FACE, OPENAI, refusal
from prefsmith.outcomes import Pair, Record
from prefsmith.reasons import Reason

TARGETS = {"hf": HUGGING_FACE, "openai": OPENAI, "any": ANYTHING}
USER = {"role": "user", "content": "q"}
ASSISTANT = {"role": "assistant", "content": "a"}


def refused(record: Record, target: str = "any") -> str | None:
    return refusal(record, record.pairs[0], TARGETS[target])


def test_an_ordinary_pair_is_refused_by_no_target(record: Callable[..., Record]) -> None:
    assert [refused(record(), target) for target in TARGETS] == [None, None, None]


def test_the_six_characters_of_an_escaped_nul_are_a_text_like_others(record: Callable[..., Record]) -> None:
    assert refused(record(answers=("write \\u0000", "y"))) is None
    assert refused(record(answers=("write \\u0000", "y\0"))) == "nul"


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (("4", "4"), "identical"),
        (("4", " 4\n"), "identical"),
        (("caf\u00e9", "cafe\u0301"), "identical"),
        (("caf\u00e9", " cafe\u0301 "), "identical"),
        (("", "x"), "blank_completion"),
        (("x", " \n\t"), "blank_completion"),
        (("x\0", "y"), "nul"),
        (("\ud800", "y"), "not_encodable"),
        (({"role": "user", "content": "x"}, "y"), "bad_role"),
        (({"role": "assistant", "content": None}, "y"), "null_content"),
        (({"role": "assistant", "content": "x", "refusal": "no"}, "y"), "message_key"),
    ],
)
def test_completions_that_would_train_wrong_are_refused(
    record: Callable[..., Record], answers: tuple[Any, ...], reason: str
) -> None:
    assert [refused(record(answers=answers), target) for target in TARGETS] == [reason] * 3


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "empty_prompt"),
        ([{"role": "user", "content": " \n"}], "empty_prompt"),
        ([{"role": "system", "content": "s"}], "empty_prompt"),
        ([USER, ASSISTANT], "ends_with_assistant"),
        ([USER, {"role": "system", "content": "s"}, USER], "late_system"),
        ([{"role": "developer", "content": "s"}, USER], "bad_role"),
        ([{"role": "user", "content": None}], "null_content"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "not_text"),
        ([USER, {"role": "tool", "content": "r", "tool_call_id": "c"}], "result_without_call"),
    ],
)
def test_prompts_that_no_trainer_takes_are_refused(
    record: Callable[..., Record], messages: list[Any], reason: str
) -> None:
    assert [refused(record(messages), target) for target in TARGETS] == [reason] * 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "forecast"}, "call_not_offered"),
        ({"arguments": "{}"}, "bad_tool_call"),
        ({"arguments": None}, "bad_tool_call"),
    ],
)
def test_calls_that_do_not_fit_the_tools_are_refused(
    record: Callable[..., Record], called: Any, tools: Any, change: dict[str, Any], reason: str
) -> None:
    call = called(city="Oslo")
    call["function"] |= change
    answers = ({"role": "assistant", "content": None, "tool_calls": [call]}, "no")
    assert refused(record(answers=answers, tools=tools)) == reason


def test_calls_without_offered_tools_and_repeated_ids_are_refused(
    record: Callable[..., Record], called: Any, tools: Any
) -> None:
    one = {"role": "assistant", "content": None, "tool_calls": [called(city="Oslo")]}
    two = {"role": "assistant", "content": None, "tool_calls": [called(city="Oslo"), called(city="Rom")]}
    assert refused(record(answers=(one, "no"))) == "call_not_offered"
    assert refused(record(answers=(two, "no"), tools=tools)) == "call_id_repeated"
    assert refused(record(tools=())) == "empty_tools"


def test_calls_that_differ_only_in_their_ids_are_identical(
    record: Callable[..., Record], called: Any, tools: Any
) -> None:
    turns = tuple(
        {"role": "assistant", "content": None, "tool_calls": [called(call_id=i, city="Oslo")]} for i in ("a", "b")
    )
    other = {"role": "assistant", "content": None, "tool_calls": [called(call_id="b", city="Rom")]}
    assert refused(record(answers=turns, tools=tools)) == "identical"
    assert refused(record(answers=(turns[0], other), tools=tools)) is None


def test_two_user_turns_in_a_row_are_refused_where_templates_raise_on_them(record: Callable[..., Record]) -> None:
    twice = record([USER, USER])
    assert {target: refused(twice, target) for target in TARGETS} == {"hf": "user_run", "openai": None, "any": None}


def test_a_participants_name_is_refused_where_no_template_prints_it(record: Callable[..., Record]) -> None:
    named = record([{"role": "user", "name": "Ada", "content": "q"}])
    assert {t: refused(named, t) for t in TARGETS} == {"hf": "message_key", "openai": None, "any": None}


def test_control_tokens_of_a_target_are_refused_anywhere_in_the_text(record: Callable[..., Record]) -> None:
    told = replace(HUGGING_FACE, control_tokens=("<|im_end|>",))
    for spoilt in (record("hi <|im_end|> there"), record(answers=("x<|im_end|>", "y"))):
        assert refusal(spoilt, spoilt.pairs[0], told) == "control_token"
        assert refused(spoilt, "hf") is None


@pytest.mark.parametrize("scores", [(0.5, 0.5), (0.2, 0.9)])
def test_a_chosen_score_not_above_the_rejected_one_is_refused(
    record: Callable[..., Record], scores: tuple[float, float]
) -> None:
    assert refused(record(scores=scores)) == "tie"


@pytest.mark.parametrize("scores", [(float("nan"), 0.0), (float("inf"), 0.0), (1.0, float("-inf"))])
def test_scores_that_json_cannot_hold_are_refused(record: Callable[..., Record], scores: tuple[float, float]) -> None:
    assert refused(record(scores=scores)) == "not_finite"


def test_damaged_gated_and_truncated_completions_are_refused(record: Callable[..., Record]) -> None:
    assert refused(record(damaged=True)) == "damaged"
    assert refused(record(gate=Reason.IDENTICAL)) == "identical"
    cut = record()
    cut = replace(cut, samples=(cut.samples[0]._replace(finish_reason="length"), cut.samples[1]))
    assert refused(cut) == "truncated"


@given(chosen=st.text(), rejected=st.text(), prompt=st.text())
def test_no_text_gets_past_the_guards_that_a_file_cannot_hold(chosen: str, rejected: str, prompt: str) -> None:
    from prefsmith.outcomes import Sample
    from prefsmith.records import Item, Prompt

    sides = tuple(
        Sample((1, i), {"role": "assistant", "content": text}, "stop", len(text))
        for i, text in enumerate((chosen, rejected))
    )
    item = Item(Prompt(({"role": "user", "content": prompt},)))
    pair = Pair((1, 0), (1, 1), 1.0, 0.0, 1, "r")
    whole = Record("i", "p", item, None, sides, (pair,), None)
    passes = all(text.strip() and "\0" not in text for text in (chosen, rejected, prompt))
    if refusal(whole, pair, ANYTHING) is None:
        assert passes and chosen.strip() != rejected.strip()
    elif passes:
        assert refusal(whole, pair, ANYTHING) == "identical"
