"""A source read once: rows, items, duplicates, edits, limits, streams."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from prefsmith.folder import Folder
from prefsmith.job import run_job
from prefsmith.ledger.ledger import Ledger
from prefsmith.ledger.read import lines_of
from prefsmith.recipe import Recipe


def recipe(path: Path, **more: Any) -> Recipe:
    log = {"log": str(path.parent / "asked.jsonl")}
    prompts = {"path": str(path), **more.pop("prompts", {})}
    rest = {"judge": [{"use": "contains", "text": "quality=9"}], **more}
    sample = {"model": "fake:m", "n": 2}
    return Recipe.model_validate({"prompts": prompts, "endpoints": {"fake": {"script": log}}, "sample": sample, **rest})


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    return path


def run(path: Path, **more: Any) -> None:
    assert run_job(recipe(path, **more), path.parent / "run", say=lambda _: None) == 0


def asked(folder: Path) -> int:
    log = folder / "asked.jsonl"
    return sum(json.loads(line)["n"] for line in log.read_text().splitlines()) if log.exists() else 0


def table(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with Ledger.read(folder / "run") as ledger:
        return ledger.db.execute(sql).fetchall()


def test_equal_items_are_one_and_counted_whatever_their_source_id(tmp_path: Path) -> None:
    one = {"prompt": "a", "reference": "1"}
    run(write(tmp_path / "p.jsonl", {**one, "id": "x"}, {**one, "id": "y"}, {"prompt": "b", "id": "x"}))
    assert asked(tmp_path) == 4
    rows = table(tmp_path, "SELECT line, item, source_id, reason FROM row ORDER BY line")
    assert rows == [(1, 1, "x", None), (2, 1, "y", "duplicate"), (3, 2, "x", None)]


def test_equal_prompts_with_other_columns_share_completions_and_not_verdicts(tmp_path: Path) -> None:
    rows = [{"prompt": "a", "reference": "quality=9"}, {"prompt": "a", "reference": "quality=1"}]
    run(write(tmp_path / "p.jsonl", *rows), judge=["contains"])
    assert asked(tmp_path) == 2
    assert table(tmp_path, "SELECT count(*) FROM item") == [(2,)]
    assert table(tmp_path, "SELECT count(*), count(DISTINCT reads) FROM verdict") == [(4, 2)]


def test_a_row_that_cannot_be_used_is_set_aside_with_its_line_reason_and_an_excerpt(tmp_path: Path) -> None:
    run(write(tmp_path / "p.jsonl", {"prompt": "a"}, "{broken", {"prompt": " "}, {"other": 1}, {"prompt": "b"}))
    rows = table(tmp_path, "SELECT line, item IS NULL, reason, excerpt FROM row ORDER BY line")
    assert [(line, gone, why) for line, gone, why, _ in rows] == [
        (1, 0, None),
        (2, 1, "bad_json"),
        (3, 1, "empty_prompt"),
        (4, 1, "no_prompt_field"),
        (5, 0, None),
    ]
    assert "{broken" in rows[1][3]


def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    """Proof by a change that its stamp does not show: same size, same time."""
    path = write(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": "b"})
    before = path.stat()
    run(path)
    write(path, {"prompt": "a"}, {"prompt": "c"})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    run(path)
    assert table(tmp_path, "SELECT count(*) FROM source") == [(1,)]
    assert asked(tmp_path) == 4


def test_a_touched_file_with_equal_content_is_the_same_source(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": "b"})
    run(path)
    os.utime(path, (1, 1))
    run(path)
    assert table(tmp_path, "SELECT count(*), sum(n_rows) FROM source") == [(1, 2)]
    assert asked(tmp_path) == 4


def test_an_edited_file_adds_and_deselects_items_and_renumbers_none(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"})
    run(path)
    old = dict(table(tmp_path, "SELECT hash, id FROM item"))
    write(path, {"prompt": "c"}, {"prompt": "d"}, {"prompt": "a"})
    run(path)
    new = dict(table(tmp_path, "SELECT hash, id FROM item"))
    assert old.items() <= new.items() and len(new) == 4
    assert asked(tmp_path) == 8
    with Folder(tmp_path / "run") as folder:
        assert [r.item.prompt.messages[0]["content"] for r in folder.records()] == ["c", "d", "a"]
        assert all(len(r.samples) == 2 for r in folder.records())


def test_going_back_to_an_earlier_content_asks_and_stores_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a"})
    run(path)
    run(write(path, {"prompt": "b"}))
    run(write(path, {"prompt": "a"}))
    assert asked(tmp_path) == 4
    assert table(tmp_path, "SELECT count(*) FROM source") == [(2,)]
    with Folder(tmp_path / "run") as folder:
        assert [r.item.prompt.messages[0]["content"] for r in folder.records()] == ["a"]


def test_the_first_twenty_and_then_all_pays_the_twenty_once(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", *({"prompt": f"p{i % 40}", "id": str(i)} for i in range(60)))
    run(path, prompts={"limit": 20})
    assert asked(tmp_path) == 40
    assert table(tmp_path, "SELECT n_rows, complete FROM source") == [(20, 0)]
    run(path)
    assert asked(tmp_path) == 80
    assert table(tmp_path, "SELECT n_rows, complete FROM source") == [(60, 1)]
    log = (tmp_path / "asked.jsonl").read_text().splitlines()
    assert len(set(log)) == len(log), "no request was sent twice"
    run(path, prompts={"limit": 20})
    assert asked(tmp_path) == 80
    with Folder(tmp_path / "run") as folder:
        assert folder.view.selection.n_items == 20 == len(list(folder.records()))


def test_a_limit_counts_items_and_neither_duplicates_nor_rows_set_aside(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a"}, {"prompt": "a"}, "{", {"prompt": "b"}, {"prompt": "c"})
    run(path, prompts={"limit": 2})
    with Folder(tmp_path / "run") as folder:
        assert (folder.view.selection.n_items, folder.view.selection.last_line) == (2, 4)
        assert [line for line, _ in lines_of(folder.ledger.db, folder.view.selection)] == [1, 4]


def test_another_mapping_of_the_same_file_is_another_source(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", {"prompt": "a", "other": "b"})
    run(path)
    run(path, prompts={"prompt": "other"})
    assert table(tmp_path, "SELECT count(*) FROM source") == [(2,)]
    with Folder(tmp_path / "run") as folder:
        assert [r.item.prompt.messages[0]["content"] for r in folder.records()] == ["b"]


def test_other_prompts_in_a_folder_need_a_word(tmp_path: Path) -> None:
    from prefsmith.errors import UsageError

    run(write(tmp_path / "p.jsonl", {"prompt": "a"}))
    other = write(tmp_path / "q.jsonl", {"prompt": "b"})
    with pytest.raises(UsageError, match="--change"):
        run(other)
    assert asked(tmp_path) == 2


def from_stdin(folder: Path, text: str, limit: int | None = None) -> None:
    job = (
        "import sys; from pathlib import Path; from prefsmith.recipe import Recipe; from prefsmith.job import run_job\n"
        "sys.exit(run_job(Recipe.model_validate_json(sys.argv[1]), Path(sys.argv[2]), say=lambda _: None))"
    )
    given = recipe(folder / "p", prompts={"path": "-", "format": "jsonl", "limit": limit})
    words = [sys.executable, "-c", job, given.model_dump_json(), str(folder / "run")]
    done = subprocess.run(words, input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_standard_input_is_resumed_and_another_content_is_not_taken_for_it(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"prompt": f"p{i}"}) + "\n" for i in range(6))
    from_stdin(tmp_path, lines, limit=2)
    assert asked(tmp_path) == 4
    from_stdin(tmp_path, lines)
    assert asked(tmp_path) == 12
    from_stdin(tmp_path, lines)
    assert asked(tmp_path) == 12
    from_stdin(tmp_path, '{"prompt": "other"}\n')
    assert asked(tmp_path) == 14
    with Folder(tmp_path / "run") as folder:
        assert [r.item.prompt.messages[0]["content"] for r in folder.records()] == ["other"]
