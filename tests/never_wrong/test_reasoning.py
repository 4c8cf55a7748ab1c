"""Thoughts are no answers: rows 20 and 24 of the gallery, as they concern models that think."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from runs import described_run, rows
from served import Model, serving

from prefsmith.folder import Folder
from prefsmith.job import run_job
from prefsmith.reasons import Reason
from prefsmith.recheck import verify_folder
from prefsmith.recipe import Recipe

TRAINERS = ("trl/train.jsonl", "openai/preferences.jsonl", "trl-parquet/train-00000-of-00001.parquet")
MARK = "SECRET"


def run(folder: Path, farm: Model, jury: Model, **more: Any) -> None:
    whole = described_run(folder, 12, **more)
    whole["endpoints"] = {
        "farm": {"urls": [farm.url], "n_per_request": 2},
        "jury": {"urls": [jury.url]},
    }
    judged = {"model": "jury:fake"}
    whole["judge"] = [{"use": "rubric-help", **judged}, {"confirm": "pairwise-help", **judged}]
    whole["export"] = ["trl", "openai", "trl-parquet", "parquet"]
    whole["max_no_verdict"] = 1
    assert run_job(Recipe.model_validate(whole), folder / "out", say=lambda _: None) == 0


@pytest.mark.parametrize("where", ["reasoning_content", "reasoning", "think", "template"])
@pytest.mark.parametrize("probe", [True, False])
def test_reasoning_never_reaches_a_judge_a_pair_or_a_trainers_file(where: str, probe: bool, tmp_path: Path) -> None:
    """20: what stands before the answer is not the answer, asked or not, whoever opened its tag."""
    with serving(thinks=where) as farm, serving() as jury:
        run(tmp_path, farm, jury, probe=probe)
        assert len(farm.probes) == (2 if probe else 0)
        assert jury.bodies and MARK not in orjson.dumps(jury.bodies).decode()
    assert rows(tmp_path, f"SELECT count(*) FROM completion WHERE reasoning LIKE '{MARK}%'") == [(48,)]
    assert rows(tmp_path, f"SELECT count(*) FROM text WHERE body LIKE '%{MARK}%' OR body LIKE '%think>%'") == [(0,)]
    assert rows(tmp_path, f"SELECT count(*) FROM call WHERE reply LIKE '%{MARK}%'") == [(0,)]
    with Folder(tmp_path / "out") as folder:
        pairs = [(r, p) for r in folder.records() for p in r.pairs]
        texts = [record.sample(key).text for record, p in pairs for key in (p.chosen, p.rejected)]
    assert texts and all(text.startswith("It is ") for text in texts)
    exported = tmp_path / "out/export"
    for name in TRAINERS:
        path = exported / name
        read = orjson.dumps(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else path.read_bytes()
        assert read and MARK.encode() not in read
    # The file of every completion, which no trainer reads, has them in a column of their own.
    table = pq.read_table(exported / "parquet/completions.parquet")
    with_thoughts = {name for name in table.column_names if MARK in str(table[name].to_pylist())}
    assert with_thoughts == {"reasoning"}


def test_a_thought_that_was_cut_off_is_truncated_and_never_judged_or_paired(tmp_path: Path) -> None:
    """20: `length` inside a thought leaves no answer, whatever the server says of its text."""
    with serving(thinks="think", cut=True) as farm, serving() as jury:
        run(tmp_path, farm, jury)
        assert jury.bodies and MARK not in orjson.dumps(jury.bodies).decode()
    with Folder(tmp_path / "out") as folder:
        records = list(folder.records())
    samples = [s for record in records for s in record.samples]
    cut = [s for s in samples if s.seed is not None and s.seed % 2]
    assert cut and len(cut) < len(samples)
    assert all((s.text, s.gate, s.scores) == ("", Reason.TRUNCATED, {}) for s in cut)
    assert all(s.reasoning is not None and s.reasoning.startswith(MARK) for s in samples)
    paired = {(r.id, key) for r in records for p in r.pairs for key in (p.chosen, p.rejected)}
    assert paired and not paired & {(r.id, s.key) for r in records for s in r.samples if s in cut}


def test_a_judges_own_thoughts_give_no_verdict(tmp_path: Path) -> None:
    """24: the verdict is what the judge says at the end, not what it thought of saying."""
    with serving() as farm, serving(thinks="template") as jury:
        run(tmp_path, farm, jury)
    assert rows(tmp_path, f"SELECT count(*) FROM call WHERE reply LIKE '%{MARK}%'") == [(0,)]
    assert rows(tmp_path, "SELECT count(*) FROM verdict WHERE kind = 'score' AND value NOTNULL") == [(48,)]


def test_dropped_thoughts_are_in_no_file_even_where_an_earlier_recipe_kept_them(tmp_path: Path) -> None:
    """A folder with a history writes the files of a fresh one."""
    with serving(thinks="reasoning_content") as farm, serving() as jury:
        run(tmp_path, farm, jury)
        n_asked = len(farm.bodies)
        sample = described_run(tmp_path, 12)["sample"]
        run(tmp_path, farm, jury, sample={**sample, "reasoning": "drop"})
        assert len(farm.bodies) == n_asked
        file = tmp_path / "out/export/parquet/completions.parquet"
        assert pq.read_table(file)["reasoning"].null_count == 48
        with Folder(tmp_path / "out") as folder:
            assert all(s.reasoning is None for record in folder.records() for s in record.samples)
        assert not verify_folder(tmp_path / "out", 10).damages
        run(tmp_path, farm, jury)
        assert pq.read_table(file)["reasoning"].null_count == 0
