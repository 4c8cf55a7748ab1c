from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from prefsmith.reasons import Reason
from prefsmith.records import Message, Row

Read = Callable[..., list[Row]]

USER = {"role": "user", "content": "hi"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": "{}"}}],
}


def only(read: Read, messages: Any) -> Row:
    (row,) = read([json.dumps({"messages": messages})])
    return row


def accepted(read: Read, messages: Any) -> tuple[Message, ...]:
    row = only(read, messages)
    assert row.item is not None, row
    return row.item.prompt.messages


def test_a_conversation_keeps_its_turns(read: Read) -> None:
    turns = [
        {"role": "system", "content": "s"},
        USER,
        {"role": "assistant", "content": "a", "refusal": None},
        {"role": "user", "content": "b", "name": "ann", "weight": 1},
    ]
    assert accepted(read, turns) == (
        {"role": "system", "content": "s"},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "a"},
        {"role": "user", "content": "b", "name": "ann"},
    )


@pytest.mark.parametrize("arguments", ['{"x": 1}', {"x": 1}])
def test_arguments_of_a_call_are_an_object(read: Read, arguments: Any) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    turns = [USER, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c1", "content": ""}]
    assert accepted(read, turns)[1:] == (
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}],
        },
        {"role": "tool", "content": "", "tool_call_id": "c1"},
    )


def test_a_flat_call_and_no_arguments_are_understood(read: Read) -> None:
    turns = [
        USER,
        {"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]},
        {"role": "tool", "content": "1"},
    ]
    assert accepted(read, turns)[1] == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {}}}],
    }


def test_text_parts_are_joined(read: Read) -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}]
    assert accepted(read, [{"role": "user", "content": parts}]) == ({"role": "user", "content": "a b"},)


@pytest.mark.parametrize(
    ("messages", "reason", "told"),
    [
        ([USER, {"role": "assistant", "content": "a"}], Reason.ENDS_WITH_ASSISTANT, ""),
        ([USER, CALL], Reason.ENDS_WITH_ASSISTANT, ""),
        ([], Reason.EMPTY_PROMPT, "no user message"),
        ([{"role": "system", "content": "s"}], Reason.EMPTY_PROMPT, "no user message"),
        ([{"role": "user", "content": " "}], Reason.EMPTY_PROMPT, "blank"),
        ([{"role": "user"}], Reason.EMPTY_PROMPT, "message 1 has no content"),
        ([{"role": "user", "content": []}], Reason.EMPTY_PROMPT, "blank"),
        ([USER, {"role": "system", "content": "s"}, USER], Reason.BAD_JSON, "message 2 is a system message"),
        ([{"role": "human", "content": "hi"}], Reason.BAD_JSON, "message 1: unknown role 'human'"),
        ([{"from": "human", "value": "hi"}], Reason.BAD_JSON, "message 1: unknown role None"),
        ([{"role": ["user"], "content": "hi"}], Reason.BAD_JSON, "message 1: unknown role"),
        (["hi"], Reason.BAD_JSON, "message 1 is not an object"),
        ([{"role": "user", "content": 5}], Reason.BAD_JSON, "content must be a string"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}], Reason.BAD_JSON, "'image_url'"),
        ([USER, {"role": "assistant", "content": None}, USER], Reason.BAD_JSON, "message 2 has no content"),
        ([USER, {"role": "tool", "content": "1"}], Reason.BAD_JSON, "message 2 is a tool result without its call"),
        ([USER, CALL, USER, {"role": "tool", "content": "1"}], Reason.BAD_JSON, "message 4 is a tool result"),
        (
            [USER, CALL, {"role": "tool", "tool_call_id": "c2", "content": "1"}],
            Reason.BAD_JSON,
            "message 3 is a tool result without its call",
        ),
        ([{**USER, "tool_calls": CALL["tool_calls"]}], Reason.BAD_JSON, "tool_calls of role 'user'"),
        (
            [USER, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{x"}}]}, USER],
            Reason.BAD_JSON,
            "message 2, call 1: arguments: not JSON",
        ),
        (
            [USER, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": [1]}}]}, USER],
            Reason.BAD_JSON,
            "arguments must be an object",
        ),
        (
            [USER, {"role": "assistant", "content": "", "function_call": {"name": "f"}}, USER],
            Reason.BAD_JSON,
            "function_call is not read",
        ),
        ([{"role": "user", "content": "a\x00b"}], Reason.BAD_ENCODING, "a NUL character in message 1"),
    ],
)
def test_a_conversation_that_does_not_fit_is_set_aside(read: Read, messages: Any, reason: Reason, told: str) -> None:
    row = only(read, messages)
    assert (row.item, row.reason) == (None, reason)
    assert told in (row.excerpt or "")


def test_a_result_may_follow_the_result_of_another_call(read: Read) -> None:
    calls = [{"id": i, "function": {"name": "f", "arguments": {}}} for i in ("c1", "c2")]
    results = [{"role": "tool", "tool_call_id": i, "content": "1"} for i in ("c2", "c1")]
    assert len(accepted(read, [USER, {"role": "assistant", "tool_calls": calls}, *results])) == 4


def test_json_text_in_a_messages_column_is_a_conversation(read: Read) -> None:
    assert accepted(read, json.dumps([USER])) == ({"role": "user", "content": "hi"},)
    assert accepted(read, "[1] is a list") == ({"role": "user", "content": "[1] is a list"},)


def test_json_text_in_a_prompt_column_of_json_stays_text(read: Read) -> None:
    text = json.dumps([USER])
    (row,) = read([json.dumps({"prompt": text})])
    assert row.item is not None
    assert row.item.prompt.messages == ({"role": "user", "content": text},)
