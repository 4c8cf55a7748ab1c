"""Each known file, by its published columns, becomes the right pairs; anything else is told with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefsmith.benchmark.contest import Contest
from prefsmith.benchmark.formats import FORMATS, contests_of
from prefsmith.errors import UsageError

TURNS = [{"role": "user", "content": "q1"}, {"role": "assistant", "content": "r1"}]
MORE = [{"role": "user", "content": "q2"}, {"role": "assistant", "content": "r2"}]
OTHER = [{"role": "user", "content": "q1"}, {"role": "assistant", "content": "s1"}]


def written(folder: Path, rows: list[dict[str, Any]], name: str = "bench.jsonl") -> Path:
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith(".json"):
        path.write_bytes(orjson.dumps(rows))
    else:
        path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def read(folder: Path, *rows: dict[str, Any], name: str = "bench.jsonl", of: str = "auto") -> list[Contest]:
    return list(contests_of(written(folder, list(rows), name), of))


def mt(judge: str, winner: str, a: str = "m1", b: str = "m2", turn: int = 1) -> dict[str, Any]:
    of = {"m1": TURNS + MORE, "m2": OTHER + MORE}
    named = {"question_id": 81, "model_a": a, "model_b": b, "winner": winner, "judge": judge}
    return {**named, "conversation_a": of[a], "conversation_b": of[b], "turn": turn}


def test_own_rows_keep_their_columns(tmp_path: Path) -> None:
    own = {"id": 7, "prompt": "p", "a": "x", "b": "yy", "label": "tie", "category": "c", "reference": "r"}
    many = {"id": "8", "messages": TURNS[:1], "a": "x", "b": "y", "labels": ["A", "b", None, "A"], "model_a": "m"}
    first, second = read(tmp_path, own, many)
    assert (first.id, first.label, first.category, first.reference) == ("7", 0, "c", "r")
    assert (second.ratings, second.label, second.model_a) == ((1, -1, None, 1), 1, "m")
    assert second.prompt == ({"role": "user", "content": "q1"},)


def test_a_draw_between_raters_is_no_gold_label(tmp_path: Path) -> None:
    (one,) = read(tmp_path, {"id": "1", "prompt": "p", "a": "x", "b": "y", "labels": ["A", "B"]})
    assert one.label is None


SINGLE = {
    "judgebench": (
        {"pair_id": "j1", "original_id": "o", "source": "mmlu-pro-law", "question": "p", "response_model": "gpt-4o",
         "response_A": "x", "response_B": "y", "label": "B>A"},
        ("j1", -1, "mmlu-pro-law"),
    ),
    "llmbar": ({"input": "p", "output_1": "x", "output_2": "y", "label": 2}, ("1", -1, None)),
    "pandalm": (
        {"idx": 3, "motivation_app": "wiki", "cmp_key": "k", "input": "in", "instruction": "p", "response1": "x",
         "response2": "y", "annotator1": 2, "annotator2": 0, "annotator3": 2},
        ("3", -1, "wiki"),
    ),
    "auto-j": ({"scenario": "s", "label": 2, "prompt": "p", "response 1": "x", "response 2": "y"}, ("1", 0, "s")),
    "alpaca-eval": (
        {"instruction": "p", "output_1": "x", "generator_1": "g1", "dataset": "d", "output_2": "y",
         "generator_2": "g2", "annotator": "gpt4", "preference": 1.0},
        ("p", 1, "d"),
    ),
    "mt-bench": (mt("author_1", "model_b"), ("81:1:m1:m2", -1, "turn 1")),
}  # fmt: skip


@pytest.mark.parametrize("name", SINGLE)
def test_a_published_row_is_recognised_by_its_columns(name: str, tmp_path: Path) -> None:
    row, (of, label, category) = SINGLE[name]
    for kind in ("bench.jsonl", "bench.json", "bench.parquet"):
        (one,) = read(tmp_path, row, name=kind)
        assert (one.id, one.label, one.category) == (of, label, category)
        assert one.a != one.b
    assert read(tmp_path, row, of=name) == read(tmp_path, row)


def test_panda_lms_input_follows_its_instruction(tmp_path: Path) -> None:
    (one,) = read(tmp_path, SINGLE["pandalm"][0])
    assert one.prompt[0]["content"] == "p\n\nin"
    assert one.ratings == (-1, 0, -1)


def test_raters_of_one_pair_are_merged_whichever_side_stood_first(tmp_path: Path) -> None:
    rows = [mt("e1", "model_a"), mt("e2", "model_a"), mt("e3", "model_a", "m2", "m1"), mt("e4", "tie", turn=2)]
    first, second = read(tmp_path, *rows)
    assert (first.ratings, first.label, first.model_a) == ((1, 1, -1), 1, "m1")
    assert second.a == "r1\n\n[user]\nq2\n\n[assistant]\nr2"


def test_alpaca_evals_raters_are_merged_and_a_missing_one_is_no_rating(tmp_path: Path) -> None:
    base = SINGLE["alpaca-eval"][0]
    (one,) = read(tmp_path, *({**base, "preference": p} for p in (1.2, 2, None, 1.5, 0)))
    assert one.ratings == (1, -1, None, 0, 0)


PAIR = {"chosen": "good", "rejected": "bad"}
DRAWN = {
    "rewardbench": {**PAIR, "prompt": "p", "chosen_model": "m1", "rejected_model": "m2", "subset": "s", "id": 1},
    "trl": {**PAIR, "prompt": "p"},
    "ultrafeedback": {
        "prompt": "q1", "prompt_id": "h", "chosen": TURNS, "rejected": OTHER, "messages": TURNS, "score_chosen": 8.0,
        "score_rejected": 6.5,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_a_good_answer_that_always_stands_first_is_shown_first_in_half_the_pairs(name: str, tmp_path: Path) -> None:
    rows = [{**DRAWN[name], "id": i} for i in range(400)]
    found = read(tmp_path, *rows)
    good = {"good", "r1"}
    assert all((one.a in good) == (one.label == 1) for one in found)
    assert 160 < sum(one.label == 1 for one in found) < 240
    assert read(tmp_path, *rows) == found


def test_an_exported_pair_keeps_its_reference_and_category(tmp_path: Path) -> None:
    (one,) = read(tmp_path, {**DRAWN["trl"], "id": "1", "reference": "4", "category": "sum", "margin": 1.0})
    assert (one.reference, one.category) == ("4", "sum")


def test_an_implicit_prompt_is_the_turns_before_the_answer(tmp_path: Path) -> None:
    (one,) = read(tmp_path, {"chosen": TURNS, "rejected": OTHER})
    assert one.prompt == ({"role": "user", "content": "q1"},)


def test_reward_bench_2_is_three_pairs_of_one_group(tmp_path: Path) -> None:
    row = {"id": "9", "prompt": "p", "chosen": ["g"], "rejected": ["b1", "b2", "b3"], "num_correct": 1,
           "num_incorrect": 3, "total_completions": 4, "models": ["m"], "subset": "Math"}  # fmt: skip
    found = read(tmp_path, row)
    assert [one.id for one in found] == ["9/1-1", "9/1-2", "9/1-3"]
    assert {one.group for one in found} == {"9"}
    assert all((one.a == "g") == (one.label == 1) for one in found)


def test_rm_bench_is_nine_pairs_in_three_levels(tmp_path: Path) -> None:
    row = {"id": "4", "prompt": "p", "chosen": ["g1", "g2", "g3"], "rejected": ["b1", "b2", "b3"], "domain": "chat"}
    found = {(one.a, one.b) if one.label == 1 else (one.b, one.a): one.category for one in read(tmp_path, row)}
    assert len(found) == 9
    # A good answer in a plainer style than the bad one is the hard case (arXiv 2410.16184, section 3).
    assert found["g1", "b3"] == "chat/hard"
    assert found["g2", "b2"] == "chat/normal"
    assert found["g3", "b1"] == "chat/easy"


def test_an_unknown_shape_names_its_columns_and_the_known_formats(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"bench.jsonl:1: .*columns are query, winner.*Known: own \(id, a, b\)"
    ) as told:
        read(tmp_path, {"query": "p", "winner": 1})
    assert all(one.name in str(told.value) for one in FORMATS)


OWN = {"id": "1", "prompt": "p", "a": "x", "b": "y", "label": "A"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([OWN, {**OWN, "id": "2", "label": "C"}], "bench.jsonl:2: label is 'C', expected 'A', 'B' or 'tie'"),
        ([OWN, {**OWN, "label": "B"}], "bench.jsonl:2: the id '1' is on line 1 too"),
        ([OWN, {**OWN, "id": ""}], "bench.jsonl:2: the id is blank"),
        ([OWN, {"id": "2", "prompt": "p", "a": "x", "label": "A"}], "bench.jsonl:2: own needs 'b'"),
        ([OWN, {**OWN, "id": "2", "a": 3}], "bench.jsonl:2: a is '3', expected the answer's text"),
        ([{**OWN, "prompt": ""}], "bench.jsonl:1: the prompt cannot be shown"),
        ([{**OWN, "labels": []}], "bench.jsonl:1: labels is []"),
        ([{**SINGLE["llmbar"][0], "label": 3}], "bench.jsonl:1: label is 3, expected 1"),
        ([{**SINGLE["alpaca-eval"][0], "preference": 4}], "bench.jsonl:1: preference is 4"),
        ([{**SINGLE["judgebench"][0], "label": "A>>B"}], "bench.jsonl:1: label is 'A>>B'"),
    ],
)
def test_a_row_that_does_not_fit_is_told_with_its_line(rows: list[dict[str, Any]], said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as told:
        read(tmp_path, *rows)
    assert said in str(told.value)


def test_files_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    (tmp_path / "bench.jsonl").write_text('{"id": 1}\nno json\n')
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "bad.parquet").write_text("PAR")
    for path, of, said in (
        ("bench.jsonl", "trl", "needs 'chosen', 'rejected'"),
        ("empty.jsonl", "auto", "holds no rows"),
        ("bad.parquet", "auto", "no readable Parquet"),
        ("none.jsonl", "auto", "No such file"),
        ("bench.jsonl", "tlr", "did you mean 'trl'"),
    ):
        with pytest.raises(UsageError, match=said):
            list(contests_of(tmp_path / path, of))
