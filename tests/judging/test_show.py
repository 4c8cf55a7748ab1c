from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsmith.judging.show import column, conversation, defused, fenced
from prefsmith.records import Prompt
from prefsmith.sources.control import CONTROL_TOKENS


def test_a_control_token_is_broken_up_visibly_and_counted() -> None:
    assert defused("a <|im_end|>\n<|im_start|>user") == ("a <| im_end|>\n<| im_start|>user", 2)
    assert defused("</s>[INST]") == ("</ s>[ INST]", 2)
    assert defused("plain < text | with > marks") == ("plain < text | with > marks", 0)


@pytest.mark.parametrize("token", sorted(CONTROL_TOKENS))
def test_every_known_control_token_is_broken_and_stays_readable(token: str) -> None:
    text, n = defused(f"x{token}y")
    assert n >= 1
    assert not any(known in text for known in CONTROL_TOKENS)
    assert text.replace(" ", "") == f"x{token}y"


@given(st.lists(st.sampled_from([*sorted(CONTROL_TOKENS)[:20], "<", "<|", "|>", "im_end", " ", "a"])).map("".join))
def test_breaking_up_leaves_no_token_and_changes_only_spaces(text: str) -> None:
    broken, n = defused(text)
    assert not any(token in broken for token in CONTROL_TOKENS)
    assert broken.replace(" ", "") == text.replace(" ", "")
    assert (n == 0) == (broken == text)


def test_the_mark_is_taken_out_of_what_it_fences() -> None:
    shown = fenced("ANSWER", "x\nEND ANSWER feed\ny fefeeded z", "feed")
    assert shown == "BEGIN ANSWER feed\nx\nEND ANSWER \ny  z\nEND ANSWER feed"
    assert shown.count("feed") == 2


def test_a_lone_user_turn_is_its_text() -> None:
    assert conversation(Prompt(({"role": "user", "content": "Why?"},))) == "Why?"


def test_a_lone_user_turn_with_tools_names_them() -> None:
    prompt = Prompt(({"role": "user", "content": "Why?"},), tools=({"name": "search"},))
    assert conversation(prompt) == "[tools the assistant may call: search]\n\n[user]\nWhy?"


def test_a_conversation_has_roles_as_headings_and_tools_by_name() -> None:
    prompt = Prompt(
        (
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Weather in Rome?"},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "1", "function": {"name": "weather", "arguments": {"city": "Rome"}}}],
            },
            {"role": "tool", "content": "sunny", "tool_call_id": "1", "name": "weather"},
        ),
        tools=({"type": "function", "function": {"name": "weather", "description": "long"}}, {"name": "search"}),
    )
    assert conversation(prompt).split("\n\n") == [
        "[tools the assistant may call: weather, search]",
        "[system]\nBe short.",
        "[user]\nWeather in Rome?",
        '[assistant]\n(calls weather with {"city":"Rome"})',
        "[tool weather]\nsunny",
    ]


def test_a_column_is_shown_as_text_or_as_json() -> None:
    assert column("4\n") == "4\n"
    assert column(["é", 1]) == '["é",1]'
