from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsmith.errors import PrefsmithError
from prefsmith.export import FORMATS, Naming
from prefsmith.export.rows import completion_rows, openai_rows, pair_id, trl_rows
from prefsmith.export.writer import write
from prefsmith.outcomes import Pair, Record, Sample
from prefsmith.reasons import Reason
from prefsmith.records import Item, Prompt

TRL_COLUMNS = [
    "id",
    "prompt",
    "chosen",
    "rejected",
    "margin",
    "score_chosen",
    "score_rejected",
    "reference",
    "category",
    "metadata",
]
# Names that switch a trainer to another path, or that it takes for itself (trainers page 3.1 and trap 7).
RESERVED = {
    "images", "image", "input_ids", "prompt_ids", "chosen_ids", "rejected_ids", "ref_chosen_logps", "completion",
    "ref_rejected_logps", "label", "labels", "chat_template_kwargs", "completions", "text", "prompts", "messages",
    "completion_ids", "trainer_state", "log_extra", "log_metric", "environments",
}  # fmt: skip


@pytest.mark.parametrize(
    ("format", "kind"), [("trl", "plain"), ("trl", "tools"), ("openai", "plain"), ("openai", "tools")]
)
def test_the_lines_of_a_format_are_those_of_its_golden_file(
    format: str,
    kind: str,
    gallery: list[Record],
    tool_gallery: list[Record],
    names: Naming,
    golden: Path,
    tmp_path: Path,
) -> None:
    records = gallery if kind == "plain" else tool_gallery
    (written,) = write(records, [format], tmp_path, replace(names, has_tools=kind == "tools"))
    assert written.path.read_text("utf-8") == (golden / f"{format}-{kind}.jsonl").read_text("utf-8")
    if format == "openai":
        assert (
            written.path.parent.with_name("openai-index.jsonl").read_bytes()
            == (golden / f"index-{kind}.jsonl").read_bytes()
        )


@pytest.mark.parametrize("format", ["trl-parquet", "parquet"])
@pytest.mark.parametrize("kind", ["plain", "tools"])
def test_the_rows_and_types_of_a_parquet_file_are_those_of_its_golden_file(
    format: str,
    kind: str,
    gallery: list[Record],
    tool_gallery: list[Record],
    names: Naming,
    golden: Path,
    tmp_path: Path,
) -> None:
    from pyarrow import parquet

    records = gallery if kind == "plain" else tool_gallery
    (written,) = write(records, [format], tmp_path, replace(names, has_tools=kind == "tools"))
    table = parquet.read_table(written.path)
    lines = [{field.name: str(field.type) for field in table.schema}, *table.to_pylist()]
    text = b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines).decode()
    assert text == (golden / f"{format}-{kind}.jsonl").read_text("utf-8")


def test_the_note_in_a_parquet_schema_is_what_datasets_itself_would_write(names: Naming) -> None:
    from datasets import Features, Json, List, Value

    from prefsmith.export.formats import trl_columns
    from prefsmith.export.sinks import arrow_schema

    for has_tools in (False, True):
        text = Value("string")
        message = Json() if has_tools else {"role": text, "content": text}
        kinds = {"prompt": List(message), "chosen": List(message), "rejected": List(message)}
        reals = dict.fromkeys(("margin", "score_chosen", "score_rejected"), Value("float64"))
        features = Features({name: kinds.get(name) or reals.get(name) or text for name in trl_columns(has_tools)})
        ours = arrow_schema(trl_columns(has_tools))
        assert ours.equals(features.arrow_schema)
        assert orjson.loads(ours.metadata[b"huggingface"]) == orjson.loads(
            features.arrow_schema.metadata[b"huggingface"]
        )


@given(
    columns=st.dictionaries(st.sampled_from(sorted(RESERVED)) | st.text("abc_", max_size=5), st.booleans()),
    reference=st.none() | st.just("r"),
    category=st.none() | st.just("c"),
    score=st.integers(1, 5),
)
def test_a_sources_columns_never_become_columns_that_a_trainer_reads(
    columns: dict[str, bool], reference: str | None, category: str | None, score: int
) -> None:
    sides = tuple(Sample((1, i), {"role": "assistant", "content": str(i)}, "stop", 1) for i in range(2))
    item = Item(Prompt(({"role": "user", "content": "q"},)), reference, category, columns)
    pair = Pair((1, 0), (1, 1), score, 0, 1, "r")
    whole = Record("i", "p", item, None, sides, (pair,), None)
    names = Naming({1: {"model": "m"}}, {1: "j"})
    (row,) = trl_rows(whole, [pair], names)
    assert list(row) == TRL_COLUMNS
    assert not RESERVED & row.keys()
    assert {type(row[name]) for name in ("margin", "score_chosen", "score_rejected")} == {float}
    assert {type(row[name]) for name in ("reference", "category", "metadata")} == {str}
    assert orjson.loads(row["metadata"])["columns"] == columns
    (row,) = openai_rows(whole, [pair], names)
    assert list(row) == ["input", "preferred_output", "non_preferred_output"]
    assert list(row["input"]) == ["messages", "tools", "parallel_tool_calls"]


def test_tool_calls_follow_the_style_of_each_target(tool_gallery: list[Record], names: Naming) -> None:
    whole = tool_gallery[1]
    (trl,) = trl_rows(whole, whole.pairs, replace(names, has_tools=True))
    (openai,) = openai_rows(whole, whole.pairs, names)
    assert trl["chosen"][0]["content"] == ""
    assert trl["chosen"][0]["tool_calls"][0]["function"]["arguments"] == {"city": "Oslo", "days": [1, 2]}
    assert orjson.loads(trl["tools"]) == list(whole.item.prompt.tools or ())
    assert openai["preferred_output"][0]["content"] is None
    assert openai["preferred_output"][0]["tool_calls"][0]["function"]["arguments"] == '{"city":"Oslo","days":[1,2]}'
    assert openai["input"]["tools"] == list(whole.item.prompt.tools or ())
    assert openai["input"]["parallel_tool_calls"] is False


def test_no_message_holds_an_empty_list_of_calls(record: Callable[..., Record], names: Naming) -> None:
    whole = record(answers=({"role": "assistant", "content": "x", "tool_calls": []}, "y"))
    (trl,) = trl_rows(whole, whole.pairs, names)
    (openai,) = openai_rows(whole, whole.pairs, names)
    assert trl["chosen"] == openai["preferred_output"] == [{"role": "assistant", "content": "x"}]


def test_openai_messages_and_tools_are_what_its_own_types_allow(
    gallery: list[Record], tool_gallery: list[Record], names: Naming
) -> None:
    from openai.types.chat import (
        ChatCompletionAssistantMessageParam,
        ChatCompletionMessageParam,
        ChatCompletionToolParam,
    )
    from pydantic import TypeAdapter

    messages = TypeAdapter(list[ChatCompletionMessageParam])
    answer, tools = TypeAdapter(ChatCompletionAssistantMessageParam), TypeAdapter(list[ChatCompletionToolParam])
    for whole in (*gallery, *tool_gallery):
        for row in openai_rows(whole, whole.pairs, names):
            messages.validate_python(row["input"]["messages"], strict=True)
            tools.validate_python(row["input"]["tools"], strict=True)
            for side in ("preferred_output", "non_preferred_output"):
                (message,) = row[side]
                given = answer.validate_python(message, strict=True)
                # Iterables are checked when they are walked.
                assert [dict(c) for c in given.get("tool_calls") or ()] == (message.get("tool_calls") or [])


def test_every_completion_with_every_verdict_is_in_the_parquet(gallery: list[Record], names: Naming) -> None:
    rows = [row for whole in gallery for row in completion_rows(whole, whole.pairs, names)]
    assert len(rows) == sum(len(whole.samples) for whole in gallery)
    (gated,) = [row for row in rows if row["gate"] is not None]
    assert (gated["gate"], orjson.loads(gated["scores"]), gated["in_pair"]) == (
        "empty",
        {"number": "unparseable"},
        None,
    )
    assert [row["in_pair"] for row in rows[:2]] == ["chosen", "rejected"]
    assert {row["no_pair"] for row in rows} == {None, "tie"}


def test_two_judges_of_one_name_are_told_and_hide_no_score(record: Callable[..., Record], names: Naming) -> None:
    whole = record()
    samples = tuple(s._replace(scores={**s.scores, 8: 0.5}) for s in whole.samples)
    twice = replace(names, judges={**names.judges, 8: "number"})
    with pytest.raises(PrefsmithError, match="two judges are named 'number'"):
        list(completion_rows(replace(whole, samples=samples), (), twice))


def test_a_pairs_id_depends_on_what_it_holds_and_on_nothing_else(record: Callable[..., Record]) -> None:
    whole, other = record(), record(answers=("4", "six"))
    (pair,) = whole.pairs
    moved = replace(whole, samples=tuple(s._replace(key=(s.key[0] + 5, s.key[1])) for s in whole.samples))
    there = pair._replace(chosen=(6, 0), rejected=(7, 0), judge=9, chosen_score=0.9)
    assert pair_id(whole, pair) == pair_id(moved, there)
    assert pair_id(whole, pair) != pair_id(other, other.pairs[0])
    assert pair_id(whole, pair).startswith(whole.id + "-")


@pytest.mark.parametrize("format", FORMATS)
def test_rows_of_no_pairs_hold_no_pair(format: str, gallery: Sequence[Record], names: Naming) -> None:
    dropped = next(whole for whole in gallery if whole.reason is Reason.TIE)
    rows: list[Any] = list(FORMATS[format].rows(dropped, (), names))
    assert len(rows) == (len(dropped.samples) if format == "parquet" else 0)
