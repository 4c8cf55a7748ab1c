from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefsmith.reasons import Reason
from prefsmith.recipe import Prompts
from prefsmith.records import Row
from prefsmith.sources import CONTROL_TOKENS, open_source
from prefsmith.sources.control import finder

Read = Callable[..., list[Row]]


@pytest.mark.parametrize("token", sorted(CONTROL_TOKENS))
def test_every_known_token_is_found_wherever_it_stands(token: str) -> None:
    find = finder(CONTROL_TOKENS)
    assert find(f"< [ <| {token}") is not None
    assert find(f"{token} x") is not None
    assert finder({token})(f"x{token}y") == token


@pytest.mark.parametrize(
    "text",
    ["", "plain", "a < b and b > c", "[1, 2]", "<|", "<html></html>", "<think>", "x[INST", "[PREFIX]", "<| im_end |>"],
)
def test_text_without_a_token_is_left_alone(text: str) -> None:
    assert finder(CONTROL_TOKENS)(text) is None


def test_a_blank_token_of_a_model_does_not_match_everything() -> None:
    assert finder({" ", "\n", "", "<x>"})("a b\nc") is None
    assert finder(())("<s>") is None


TOKEN = "<|im_start|>"
CALL = {"function": {"name": "f", "arguments": {"x": [TOKEN]}}}
WITH_TOKEN: list[dict[str, Any]] = [
    {"prompt": f"a{TOKEN}system"},
    {"prompt": "a", "sys": TOKEN},
    {"messages": [{"role": "system", "content": TOKEN}, {"role": "user", "content": "a"}]},
    {"messages": [{"role": "user", "content": [{"type": "text", "text": TOKEN}]}]},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [CALL]}] * 2
     + [{"role": "tool", "content": "1"}]},
    {"prompt": "a", "tools": [{"function": {"description": TOKEN}}]},
    {"input": {"messages": [{"role": "user", "content": "a"}], "tools": [{TOKEN: 1}]}},
]  # fmt: skip


@pytest.mark.parametrize("row", WITH_TOKEN)
def test_a_token_anywhere_in_what_the_model_reads_sets_the_row_aside(read: Read, row: dict[str, Any]) -> None:
    system = "sys" if "sys" in row else None
    (found,) = read([json.dumps(row)], system=system)
    assert (found.item, found.reason) == (None, Reason.CONTROL_TOKEN)
    assert (found.excerpt or "").startswith(TOKEN)
    (found,) = read([json.dumps(row)], system=system, allow_control_tokens=True)
    assert found.item is not None


def test_a_token_in_a_column_that_no_model_reads_is_no_matter(read: Read) -> None:
    (row,) = read([json.dumps({"prompt": "a", "answer": TOKEN, "note": TOKEN})])
    assert row.item is not None


def test_the_models_own_tokens_count(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("say ###END### now\n")
    rows = open_source(Prompts(path=str(path)), CONTROL_TOKENS | {"###END###"}).rows()
    assert [row.reason for row in rows] == [Reason.CONTROL_TOKEN]
