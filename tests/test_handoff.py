"""Files from one run or several, noted where they were written."""

import json
from pathlib import Path

import pytest

from prefsmith.errors import UsageError
from prefsmith.folder import Folder
from prefsmith.handoff import export_job
from prefsmith.job import run_job
from prefsmith.ledger.ledger import Ledger
from prefsmith.recipe import Pairing, Recipe


def run(folder: Path, name: str, first: int, last: int) -> Path:
    prompts = folder / f"{name}.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"Say {i}."}) + "\n" for i in range(first, last)))
    recipe = Recipe.model_validate(
        {
            "prompts": {"path": str(prompts)},
            "endpoints": {"fake": {"script": {"chars": 100}}},
            "sample": {"model": "fake:m", "temperature": [0.5, 1.0], "n": 2},
            "judge": [{"use": "rubric-help", "model": "fake:j"}],
        }
    )
    assert run_job(recipe, folder / name, say=lambda _: None) == 0
    return folder / name


def rows(place: Path) -> list[bytes]:
    return place.read_bytes().splitlines()


def test_several_runs_become_one_file_with_all_their_pairs_each_once(tmp_path: Path) -> None:
    a, b = run(tmp_path, "a", 0, 12), run(tmp_path, "b", 8, 20)
    (written,) = export_job([a, b], ["trl"], None, tmp_path / "both")
    together = rows(written.path)
    apart = rows(a / "export/trl/train.jsonl") + rows(b / "export/trl/train.jsonl")
    assert len(together) == written.n_rows == len(set(apart)) < len(apart)
    assert set(together) == set(apart)


def test_several_runs_need_a_place_to_be_written(tmp_path: Path) -> None:
    a = run(tmp_path, "a", 0, 2)
    with pytest.raises(UsageError, match="-o FOLDER"):
        export_job([a, a], ["trl"], None, None)


def test_a_file_elsewhere_is_not_noted_and_one_in_the_folder_replaces_its_note(tmp_path: Path) -> None:
    a = run(tmp_path, "a", 0, 8)

    def noted() -> list[tuple[str, int, int]]:
        with Ledger.read(a) as ledger:
            return ledger.db.execute("SELECT path, n_rows, session FROM export").fetchall()

    before = noted()
    export_job([a], ["trl"], Pairing(min_margin=0.5), tmp_path / "out")
    assert noted() == before
    (written,) = export_job([a], ["trl"], Pairing(min_margin=0.5), None)
    assert noted() == [("export/trl/train.jsonl", written.n_rows, 1)]
    assert written.n_rows < before[0][1]


def test_pairing_by_another_rule_asks_nothing_and_changes_no_record_of_the_run(tmp_path: Path) -> None:
    a = run(tmp_path, "a", 0, 8)
    with Folder(a) as folder, Folder(a, Pairing(min_margin=1.5)) as other:
        assert any(r.pairs for r in folder.records())
        assert {str(r.reason) for r in other.records()} <= {"below_margin", "tie"}
        assert [r.samples for r in folder.records()] == [r.samples for r in other.records()]
