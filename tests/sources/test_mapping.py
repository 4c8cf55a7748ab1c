from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from prefsmith.errors import UsageError
from prefsmith.reasons import Reason
from prefsmith.records import Item, Row

Read = Callable[..., list[Row]]


def one(read: Read, row: dict[str, Any], **prompts: Any) -> Item:
    (found,) = read([json.dumps(row)], **prompts)
    assert found.item is not None, found
    return found.item


KNOWN = ["prompt", "messages", "question", "instruction", "input"]


@pytest.mark.parametrize("k", range(len(KNOWN)))
def test_the_prompt_is_the_first_known_column_that_is_not_null(read: Read, k: int) -> None:
    row = {name: None if i < k else name for i, name in enumerate(KNOWN)}
    item = one(read, dict(reversed(row.items())))
    assert item.prompt.messages == ({"role": "user", "content": KNOWN[k]},)
    assert item.columns == {name: name for name in KNOWN[k + 1 :]}


def test_a_named_prompt_column_leaves_the_others_to_be_carried(read: Read) -> None:
    item = one(read, {"prompt": "p", "text": "t", "difficulty": 3, "none": None}, prompt="text")
    assert item.prompt.messages == ({"role": "user", "content": "t"},)
    assert item.columns == {"prompt": "p", "difficulty": 3}


def test_reference_category_and_id_are_mapped_and_the_id_is_no_column(read: Read) -> None:
    (row,) = read(['{"id": 12, "prompt": "p", "answer": "A", "kind": "k", "check": {"n": [1]}}'])
    assert row.source_id == "12"
    assert row.item is not None
    assert (row.item.reference, row.item.category, row.item.columns) == ("A", "k", {"check": {"n": [1]}})


def test_named_columns_win_over_known_names(read: Read) -> None:
    (row,) = read(
        ['{"id": 1, "key": "k1", "prompt": "p", "answer": "A", "gold": "G", "kind": "k", "topic": "t"}'],
        reference="gold",
        category="topic",
        id="key",
    )
    assert row.source_id == "k1"
    assert row.item is not None
    assert (row.item.reference, row.item.category) == ("G", "t")
    assert row.item.columns == {"id": 1, "answer": "A", "kind": "k"}


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("8", "8"),
        ("8.0", "8.0"),
        ("-0.5", "-0.5"),
        ("true", "true"),
        ('["a", 1]', '["a",1]'),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ('" 8 "', " 8 "),
        ('" "', None),
        ("null", None),
    ],
)
def test_a_reference_that_is_no_text_is_what_json_prints(read: Read, written: str, text: str | None) -> None:
    (row,) = read([f'{{"prompt": "p", "answer": {written}}}'])
    assert row.item is not None
    assert row.item.reference == text
    assert row.item.columns == {}


def test_columns_restricts_what_is_carried(read: Read) -> None:
    row = {"prompt": "p", "a": 1, "b": 2, "answer": "x"}
    item = one(read, row, columns=["b"])
    assert (item.columns, item.reference) == ({"b": 2}, "x")
    assert one(read, row, columns=[]).columns == {}


def test_a_system_column_becomes_the_first_message_of_a_string_prompt(read: Read) -> None:
    item = one(read, {"prompt": "p", "sys": "be brief", "n": 1}, system="sys")
    assert item.prompt.messages == ({"role": "system", "content": "be brief"}, {"role": "user", "content": "p"})
    assert item.columns == {"n": 1}
    rows = read(['{"prompt": "p", "sys": "s"}', '{"prompt": "p", "sys": " "}', '{"prompt": "p"}'], system="sys")
    assert [len(row.item.prompt.messages) for row in rows if row.item] == [2, 1, 1]


def test_a_system_column_beside_a_conversation_is_carried_and_not_lost(read: Read) -> None:
    item = one(read, {"prompt": [{"role": "user", "content": "p"}], "sys": "be brief"}, system="sys")
    assert item.prompt.messages == ({"role": "user", "content": "p"},)
    assert item.columns == {"sys": "be brief"}


def test_tools_are_a_list_or_its_json_and_empty_is_none(read: Read) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    for written in ([tool], json.dumps([tool])):
        assert one(read, {"prompt": "p", "tools": written}).prompt.tools == (tool,)
        assert one(read, {"prompt": "p", "fns": written}, tools="fns").prompt.tools == (tool,)
    for empty in ([], "", "[]", None):
        item = one(read, {"prompt": "p", "tools": empty})
        assert (item.prompt.tools, item.columns) == (None, {})
    for broken in ("hammer", {"name": "f"}, ["f"]):
        (row,) = read([json.dumps({"prompt": "p", "tools": broken})])
        assert row.reason is Reason.BAD_JSON


def test_openai_preference_rows_are_understood(read: Read) -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    messages = [{"role": "user", "content": "p"}]
    answer = [{"role": "assistant", "content": "a"}]
    whole = {"messages": messages, "tools": [tool], "parallel_tool_calls": False}
    item = one(read, {"input": whole, "preferred_output": answer})
    assert item.prompt.messages == ({"role": "user", "content": "p"},)
    assert (item.prompt.tools, item.prompt.parallel_tool_calls) == ((tool,), False)
    assert item.columns == {"preferred_output": answer}
    assert one(read, {"input": {"messages": messages}}).prompt.parallel_tool_calls is None


@pytest.mark.parametrize("role", ["prompt", "reference", "category", "id", "system", "tools", "columns"])
def test_a_named_column_that_no_early_row_has_is_refused_with_those_that_exist(read: Read, role: str) -> None:
    rows = ['{"question": "q", "answr": "x"}'] * 100 + ['{"question": "q", "answer": "x"}']
    with pytest.raises(UsageError, match=rf"no column 'answer'.*`{role}:`.*did you mean 'answr'.*question"):
        read(rows, **{role: ["answer"] if role == "columns" else "answer"})


def test_a_named_column_may_be_missing_in_single_rows(read: Read) -> None:
    rows = ['{"q": "q"}'] * 99 + ['{"q": "q", "gold": 1}', '{"gold": 2}', '"bare"']
    found = read(rows, prompt="q", reference="gold")
    assert [row.item.reference for row in found if row.item] == [None] * 99 + ["1", None]
    assert found[100].reason is Reason.NO_PROMPT_FIELD


def test_a_bad_first_line_does_not_hide_a_named_column(read: Read) -> None:
    rows = read(['{"broken', "[]", '{"q": "a"}'], prompt="q")
    assert [row.reason for row in rows] == [Reason.BAD_JSON, Reason.BAD_JSON, None]
