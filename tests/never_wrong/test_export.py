"""Rows of the gallery that belong to export: what another tool got wrong, and cannot happen here."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from pathlib import Path

import orjson
import pytest

from prefsmith.export import FORMATS, Naming, verify_file, write
from prefsmith.outcomes import Pair, Record, Sample
from prefsmith.reasons import Reason
from prefsmith.records import Item, Prompt

NAMES = Naming({1: {"model": "tiny", "temperature": 1.0, "system": "Answer as a pirate."}}, {1: "number"})
TRAINERS = ("trl", "trl-parquet", "openai")


def made(prompt: str, *answers: str, source_id: str | None = None, **sample: object) -> Record:
    """Answer 0 is chosen, answer 1 rejected."""
    samples = tuple(
        Sample((1, i), {"role": "assistant", "content": text}, "stop", len(text), scores={1: 1.0 - i / 4})
        for i, text in enumerate(answers)
    )
    samples = tuple(s._replace(**sample) for s in samples)  # type: ignore[arg-type]
    item = Item(Prompt(({"role": "user", "content": prompt},)))
    pair = Pair((1, 0), (1, 1), 1.0, 0.75, 1, "best_worst")
    return Record(prompt.encode().hex(), prompt.encode().hex(), item, source_id, samples, (pair,), None)


def rows(records: list[Record], folder: Path) -> list[dict[str, object]]:
    (written,) = write(records, ["trl"], folder, NAMES)
    return [orjson.loads(line) for line in written.path.read_bytes().split(b"\n")[:-1]]


def test_any_subset_of_records_leaves_every_other_row_as_it_was(tmp_path: Path) -> None:
    """2: one failed row shifted every later prompt onto its neighbour's answers."""
    records = [made(f"q{i}", f"right {i}", f"wrong {i}") for i in range(6)]
    whole = {row["id"]: row for row in rows(records, tmp_path)}
    for dropped in range(6):
        lost = replace(records[dropped], pairs=(), reason=Reason.NO_VERDICT)
        left = rows([*records[:dropped], lost, *records[dropped + 1 :]], tmp_path)
        assert len(left) == 5
        assert all(row == whole[row["id"]] for row in left)


def test_ties_and_identical_texts_are_in_no_file_and_counted(tmp_path: Path) -> None:
    """3: on a tie the same completion became chosen and rejected."""
    tie = made("q", "a", "b")
    tie = replace(tie, pairs=(tie.pairs[0]._replace(rejected_score=1.0),))
    same = made("p", "a", "b")
    same = replace(same, pairs=(same.pairs[0]._replace(rejected=(1, 0)),))
    for written in write([tie, same], TRAINERS, tmp_path, NAMES):
        assert (written.n_rows, dict(written.skipped)) == (0, {"identical": 1, "tie": 1})


def test_every_side_of_every_row_is_a_list_of_messages(tmp_path: Path) -> None:
    """5: a string prompt with message-list answers makes TRL raise, depending on the hash seed."""
    for row in rows([made("q", "a", "b"), made("p", "", "b"), made("r", "c", "d")], tmp_path):
        for side in ("prompt", "chosen", "rejected"):
            assert isinstance(row[side], list)
            assert all(message.keys() == {"role", "content"} for message in row[side])


@pytest.mark.parametrize("blank", ["", " ", "\n\t", "\u2003"])
def test_a_blank_answer_is_in_no_file(blank: str, tmp_path: Path) -> None:
    """6: an empty answer trains a dummy prompt."""
    for written in write([made("q", "a", blank), made("p", blank, "a")], TRAINERS, tmp_path, NAMES):
        assert (written.n_rows, dict(written.skipped)) == (0, {"blank_completion": 2})


def test_pairs_in_are_rows_and_skipped_pairs(tmp_path: Path) -> None:
    """12: tail rows were dropped by a division, and pairs were written over another file."""
    records = [made(f"q{i}", "a", "a" if i % 3 == 0 else f"b{i}") for i in range(1001)]
    for written in write(records, TRAINERS, tmp_path, NAMES):
        assert (written.n_rows, dict(written.skipped)) == (667, {"identical": 334})


def test_no_order_of_arrival_of_the_samples_changes_a_file(tmp_path: Path) -> None:
    """19: the same recipe gives other pairs in a folder with history."""
    record = made("q", "a", "b", "c")
    first = [w.sha256 for w in write([record], tuple(FORMATS), tmp_path, NAMES)]
    for samples in permutations(record.samples):
        again = write([replace(record, samples=samples)], tuple(FORMATS), tmp_path, NAMES)
        assert [w.sha256 for w in again] == first


def test_a_completion_that_did_not_end_by_itself_is_in_no_file(tmp_path: Path) -> None:
    """20: aborted and truncated outputs arrive as normal completions."""
    cut = made("q", "a", "b", finish_reason="length")
    gated = made("p", "a", "b", gate=Reason.ABORTED)
    for written in write([cut, gated], TRAINERS, tmp_path, NAMES):
        assert (written.n_rows, dict(written.skipped)) == (0, {"aborted": 1, "truncated": 1})


def test_a_samplers_system_prompt_is_provenance_and_in_no_message(tmp_path: Path) -> None:
    """26: the sampler's system prompt trained into the model."""
    (row,) = rows([made("q", "a", "b")], tmp_path)
    assert row["prompt"] == [{"role": "user", "content": "q"}]
    assert "pirate" in str(row["metadata"])
    (written,) = write([made("q", "a", "b")], ["openai"], tmp_path, NAMES)
    assert "pirate" not in written.path.read_text("utf-8")


def test_control_tokens_of_the_model_are_told_and_counted(tmp_path: Path) -> None:
    """28: the model's control tokens inside a text are parsed as turns."""
    told = replace(NAMES, control_tokens=("<|im_start|>",))
    for written in write([made("q <|im_start|>system", "a", "b")], TRAINERS, tmp_path, told):
        assert (written.n_rows, dict(written.skipped)) == (0, {"control_token": 1})


def test_a_damaged_reply_is_in_no_file(tmp_path: Path) -> None:
    """29: a lone surrogate in a reply, replaced by U+FFFD and marked, is never exported."""
    for written in write([made("q", "a\ufffd", "b", damaged=True)], TRAINERS, tmp_path, NAMES):
        assert (written.n_rows, dict(written.skipped)) == (0, {"damaged": 1})


def test_two_items_with_one_prompt_write_the_same_pair_once(tmp_path: Path) -> None:
    """30: two items with one prompt write the same pair twice."""
    one = made("q", "a", "b")
    records = [one, replace(one, id="ff"), made("q", "a", "c")]
    for written in write(records, TRAINERS, tmp_path, NAMES):
        assert (written.n_rows, dict(written.skipped)) == (2, {"same_pair": 1})
        assert verify_file(written.path, written.format, written.sha256, records, NAMES) == []
