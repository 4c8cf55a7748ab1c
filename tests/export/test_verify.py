from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from prefsmith.errors import UsageError
from prefsmith.export import FORMATS, Naming, verify_file, write
from prefsmith.export.files import sha256_of
from prefsmith.outcomes import Record

LINES = ("trl", "openai")
SIDES = {"trl": ("prompt", "chosen", "rejected"), "openai": ("input", "preferred_output", "non_preferred_output")}


@pytest.fixture
def many(record: Callable[..., Record]) -> list[Record]:
    return [record(f"q {i}", (f"right {i}", f"wrong {i}", f"other {i}"), (1.0, 0.25, 0.5)) for i in range(12)]


class Damaged:
    """A written file whose lines a test changes; its sha256 is fixed afterwards, as whoever tampers would."""

    def __init__(self, format: str, records: list[Record], names: Naming, folder: Path) -> None:
        (self.written,) = write(records, [format], folder, names)
        self.path, self.format, self.records, self.names = self.written.path, format, records, names
        self.name = FORMATS[format].file
        self.lines = self.path.read_bytes().split(b"\n")[:-1]

    def row(self, line: int) -> Any:
        return orjson.loads(self.lines[line - 1])

    def put(self, line: int, row: Any) -> None:
        self.lines[line - 1] = orjson.dumps(row)

    def found(self, fixed: bool = True) -> list[str]:
        self.path.write_bytes(b"".join(line + b"\n" for line in self.lines))
        sha256 = sha256_of(self.path) if fixed else self.written.sha256
        return verify_file(self.path, self.format, sha256, iter(self.records), self.names)


@pytest.fixture
def damaged(many: list[Record], names: Naming, tmp_path: Path) -> Callable[..., Damaged]:
    return lambda format, records=many: Damaged(format, records, names, tmp_path)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("kind", ["plain", "tools"])
def test_a_whole_file_has_no_damage(
    format: str, kind: str, gallery: list[Record], tool_gallery: list[Record], names: Naming, tmp_path: Path
) -> None:
    records = gallery if kind == "plain" else [*gallery, *tool_gallery]
    told = replace(names, has_tools=kind == "tools")
    (written,) = write(records, [format], tmp_path, told)
    assert verify_file(written.path, format, written.sha256, iter(records), told) == []


def test_a_date_file_with_its_leading_row_has_no_damage(
    record: Callable[..., Record], damaged: Callable[..., Damaged]
) -> None:
    file = damaged("trl", [record(f"{i}", ("2024-01-01", f"2024-02-0{i}")) for i in range(1, 5)])
    assert b'"tool_calls":null' in file.lines[0] and b"tool_calls" not in file.lines[1]
    assert file.found() == []


@pytest.mark.parametrize("format", LINES)
def test_a_changed_byte_in_a_text_is_named_with_its_line(format: str, damaged: Callable[..., Damaged]) -> None:
    file = damaged(format)
    for line, was, now in ((3, b"right 2", b"rigkt 2"), (5, b"wrong 4", b"wrpng 4"), (9, b"q 8", b"q 9")):
        file.lines[line - 1] = file.lines[line - 1].replace(was, now)
    found = file.found()
    assert [line.split(" (")[0] for line in found] == [
        f"{file.name} line 3: chosen text is not a completion of its prompt",
        f"{file.name} line 5: rejected text is not a completion of its prompt",
        f"{file.name} line 9: its prompt is not the one that its completions belong to",
    ]
    assert file.found(fixed=False)[0].startswith(f"{file.name}: sha256 is ")
    assert file.found(fixed=False)[1:] == found


@pytest.mark.parametrize("format", LINES)
def test_a_row_glued_to_another_prompt_is_named(format: str, damaged: Callable[..., Damaged]) -> None:
    file = damaged(format)
    prompt = SIDES[format][0]
    here, there = file.row(4), file.row(7)
    file.put(4, here | {prompt: there[prompt]})
    (found,) = file.found()
    assert found.startswith(f"{file.name} line 4: its prompt is not the one that its completions belong to (pair ")


@pytest.mark.parametrize("format", LINES)
def test_answers_glued_to_another_prompt_are_named(format: str, damaged: Callable[..., Damaged]) -> None:
    file = damaged(format)
    _, *sides = SIDES[format]
    here, there = file.row(4), file.row(7)
    for side in sides:
        here[side] = there[side]
    file.put(4, here)
    del file.lines[6]
    found = file.found()
    assert any(line.startswith(f"{file.name} line 4: ") for line in found)
    assert any(line.endswith(" is missing") for line in found)


@pytest.mark.parametrize("format", LINES)
def test_a_missing_row_is_named_once(format: str, damaged: Callable[..., Damaged], many: list[Record]) -> None:
    file = damaged(format)
    del file.lines[4]
    found = file.found()
    missing = [line for line in found if line.endswith(" is missing")]
    assert len(missing) == 1 and missing[0].startswith(f"{file.name}: pair {many[4].id}-")
    if format == "trl":
        assert len(found) == 1
    else:
        assert all("sidecar" in line for line in found if line not in missing) and len(found) <= 6


@pytest.mark.parametrize("format", LINES)
def test_a_repeated_row_is_named(format: str, damaged: Callable[..., Damaged]) -> None:
    file = damaged(format)
    file.lines.append(file.lines[2])
    assert f"{file.name} line 13: repeats line 3" in file.found()


@pytest.mark.parametrize("format", LINES)
def test_swapped_sides_are_named(format: str, damaged: Callable[..., Damaged]) -> None:
    file = damaged(format)
    _, chosen, rejected = SIDES[format]
    row = file.row(6)
    file.put(6, row | {chosen: row[rejected], rejected: row[chosen]})
    (found,) = file.found()
    assert found.startswith(f"{file.name} line 6: chosen and rejected are swapped")


@pytest.mark.parametrize("format", LINES)
def test_another_completion_of_the_same_prompt_is_named(format: str, damaged: Callable[..., Damaged]) -> None:
    file = damaged(format)
    file.lines[1] = file.lines[1].replace(b"right 1", b"other 1")
    (found,) = file.found()
    assert f"{file.name} line 2: chosen text is another completion of its prompt than the pair names" in found


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("margin", 0.5, "margin is 0.5, not 0.75"),
        ("score_chosen", 1, "score_chosen is 1, not 1.0"),
        ("id", "x", "id is 'x', not '"),
        ("reference", None, "reference is None, not ''"),
        ("images", None, "column 'images' does not belong there"),
    ],
)
def test_a_changed_column_is_named(column: str, value: Any, told: str, damaged: Callable[..., Damaged]) -> None:
    file = damaged("trl")
    file.put(8, file.row(8) | {column: value})
    (found,) = file.found()
    assert found.startswith(f"{file.name} line 8: {told}")


def test_a_lost_column_an_unreadable_line_a_blank_one_and_a_lost_newline_are_named(
    damaged: Callable[..., Damaged],
) -> None:
    file = damaged("trl")
    file.put(2, {k: v for k, v in file.row(2).items() if k != "category"})
    file.lines[4] = file.lines[4][:-9]
    file.put(6, {"chosen": "text"})
    file.lines.append(b"")
    found = file.found()
    assert f"{file.name} line 2: column 'category' is missing" in found
    assert any(line.startswith(f"{file.name} line 5: is not JSON") for line in found)
    assert any(line.startswith(f"{file.name} line 6: is not a row of this format") for line in found)
    assert f"{file.name} line 13: is blank" in found
    assert sum(line.endswith("is missing") and ": pair" in line for line in found) == 2
    file.path.write_bytes(b"\n".join(file.lines[:1]))
    found = verify_file(file.path, "trl", file.written.sha256, file.records, file.names)
    assert f"{file.name} line 1: the final newline is missing" in found


def test_a_score_that_its_judge_did_not_give_is_named(
    many: list[Record], names: Naming, tmp_path: Path, damaged: Callable[..., Damaged]
) -> None:
    file = damaged("trl")
    changed = many[3]
    samples = tuple(s._replace(scores={7: 0.1}) if i == 0 else s for i, s in enumerate(changed.samples))
    records = [*many[:3], replace(changed, samples=samples), *many[4:]]
    found = verify_file(file.path, "trl", file.written.sha256, records, names)
    assert f"{file.name} line 4: chosen score 0.1 is not above rejected score 0.25" in found


@pytest.mark.parametrize("format", ["trl-parquet", "parquet"])
def test_damage_in_a_parquet_file_is_named(
    format: str, many: list[Record], names: Naming, tmp_path: Path, record: Callable[..., Record]
) -> None:
    name = FORMATS[format].file
    (written,) = write(many, [format], tmp_path / "good", names)
    changed = record("q 4", ("right 4", "wrpng 4", "other 4"), (1.0, 0.25, 0.5))
    forged = [*many[:2], *many[3:4], replace(changed, id=many[4].id), *many[5:]]
    (bad,) = write(forged, [format], tmp_path / "bad", names)
    shutil.copy(bad.path, written.path)
    found = verify_file(written.path, format, bad.sha256, many, names)
    if format == "trl-parquet":
        assert found[0].startswith(f"{name}: pair {many[2].id}-") and found[0].endswith(" is missing")
        assert found[1].startswith(f"{name} line 4: rejected text is not a completion of its prompt")
        assert len(found) == 2
    else:
        assert [line for line in found if line.endswith(" is missing")] == found[:3]
        assert any(line.startswith(f"{name} line 12: text is 'wrpng 4', not 'wrong 4'") for line in found)


def test_a_flipped_bit_in_a_parquet_file_is_named_wherever_it_changes_what_is_read(
    record: Callable[..., Record], names: Naming, tmp_path: Path
) -> None:
    from pyarrow.parquet import read_table

    records = [record(f"q {i}", (f"r {i}", f"w {i}")) for i in range(200)]
    (written,) = write(records, ["trl-parquet"], tmp_path, names)
    whole, table, n_named = written.path.read_bytes(), read_table(written.path), 0
    for at in range(10, len(whole), max(1, len(whole) // 40)):
        changed = bytearray(whole)
        changed[at] ^= 16
        written.path.write_bytes(changed)
        if verify_file(written.path, "trl-parquet", sha256_of(written.path), records, names):
            n_named += 1
        else:
            assert read_table(written.path).equals(table), at
    assert n_named > 20


def test_damage_of_the_sidecar_is_named(damaged: Callable[..., Damaged]) -> None:
    file = damaged("openai")
    side = file.path.parent.with_name("openai-index.jsonl")
    whole = side.read_bytes()
    side.write_bytes(whole.replace(b'"line":3', b'"line":4'))
    assert file.found() == [f"{file.name} line 3: its line in the sidecar is not as written for this pair"]
    side.write_bytes(whole + whole[:60])
    assert f"{file.name}: its sidecar openai-index.jsonl has more lines than the file" in file.found()
    side.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    assert file.found() == [f"{file.name} line 12: its line in the sidecar is missing"]
    side.unlink()
    assert file.found() == [f"{file.name}: its sidecar openai-index.jsonl is missing"]


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_of_another_run_is_told_shortly(
    format: str, record: Callable[..., Record], names: Naming, tmp_path: Path
) -> None:
    (written,) = write((record(f"other {i}") for i in range(2000)), [format], tmp_path, names)
    found = verify_file(written.path, format, written.sha256, (record(f"q {i}") for i in range(2000)), names)
    assert found == [f"{FORMATS[format].file}: more than 1000 rows do not match this run; looked no further"]


def test_a_missing_file_and_an_unknown_format_are_told(names: Naming, tmp_path: Path) -> None:
    path = tmp_path / "trl" / "train.jsonl"
    assert verify_file(path, "trl", "0" * 64, [], names) == ["trl/train.jsonl: the file is missing"]
    with pytest.raises(UsageError, match="no export format 'dpo'"):
        verify_file(path, "dpo", "0" * 64, [], names)
