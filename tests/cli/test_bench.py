"""`prefsmith bench judge` from recorded verdicts: what it prints, writes, refuses and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from prefsmith.cli import main

LLMBAR = Path(__file__).resolve().parent.parent / "data" / "llmbar"
PAIRS, VERDICTS = str(LLMBAR / "pairs.jsonl"), str(LLMBAR / "verdicts.jsonl")


def recorded(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["bench", "judge", *words])
    out, err = capsys.readouterr()
    return code, out, err


def test_several_judges_stand_in_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = recorded(capsys, PAIRS, "--verdicts", VERDICTS)
    assert code == 0
    (gpt,) = (line for line in out.splitlines() if line.startswith("GPT-4/Vanilla ") and "two_order" in line)
    (chat,) = (line for line in out.splitlines() if line.startswith("ChatGPT/CoT ") and "two_order" in line)
    assert all(figure in gpt for figure in ("82.8%", "86.2%", "92.8%"))
    assert all(figure in chat for figure in ("40.1%", "40.6%", "58.2%"))
    # Both verdicts are there; they only do not agree.
    assert "GPT-4/Vanilla not covered: 30 pairs on which the two orders disagree" in out
    assert "GPT-4/Vanilla without a verdict" not in out
    assert "ChatGPT/CoT without a verdict: 5 not_said" in out


def test_what_is_written_is_read_again_to_the_same_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert recorded(capsys, PAIRS, "--verdicts", VERDICTS, "-o", str(out))[0] == 0
    assert sorted(path.name for path in out.iterdir()) == ["report.html", "report.json", "verdicts.jsonl"]
    first = (out / "report.json").read_bytes()
    code, printed, _ = recorded(capsys, PAIRS, "--verdicts", str(out / "verdicts.jsonl"), "-o", str(out), "--json")
    assert code == 0
    assert (out / "report.json").read_bytes() == first
    assert json.loads(printed) == orjson.loads(first)
    share = json.loads(printed)["judges"][0]["shares"]["accuracy"]
    assert set(share) == {"value", "k", "n", "rule", "wilson", "bootstrap"}


@pytest.mark.parametrize(
    ("flags", "code", "said"),
    [
        (["--min-accuracy", "0.8"], 4, "ChatGPT/CoT: accuracy (two_order) is 20.5%, below 80.0%"),
        (["--min-consistency", "0.9"], 4, "ChatGPT/CoT: consistency"),
        (["--min-accuracy", "0.2", "--min-consistency", "0.5"], 0, ""),
        (["--min-accuracy", "80"], 2, "expected a share from 0 to 1"),
    ],
)
def test_a_threshold_that_a_judge_misses_ends_with_4(
    flags: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, _, err = recorded(capsys, PAIRS, "--verdicts", VERDICTS, *flags)
    assert found == code
    assert said in err
    assert "GPT-4/Vanilla: accuracy" not in err


def written(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return str(path)


def test_consistency_is_not_enough_where_one_order_was_asked_and_not_asked_of_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = written(tmp_path / "p.jsonl", [{"id": "1", "prompt": "p", "a": "x", "b": "y", "label": "A"}])
    one = {"id": "1", "judge": "one order", "order": "AB", "verdict": "A"}
    scores = {"id": "1", "judge": "scores", "scores": [2, 1]}
    verdicts = written(tmp_path / "v.jsonl", [one, scores])
    code, _, err = recorded(capsys, pairs, "--verdicts", verdicts, "--min-consistency", "0.1")
    assert code == 4
    assert err.count("threshold:") == 1
    assert "one order: consistency is not known, for one order only was asked" in err


def test_bad_input_ends_with_2_and_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    bad = written(tmp_path / "v.jsonl", [{"id": "nobody", "judge": "j", "order": "AB", "verdict": "A"}])
    code, _, err = recorded(capsys, PAIRS, "--verdicts", VERDICTS, "--verdicts", bad, "-o", str(out))
    assert code == 2
    assert "v.jsonl:1: the benchmark has no pair 'nobody'" in err
    assert not out.exists()


def test_a_folder_of_another_run_takes_no_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"prompt": "one", "reference": "1"}\n')
    assert main(["run", str(prompts), "--gen", "scripted:m", "--judge", "contains", "-o", str(out), "--quiet"]) == 0
    capsys.readouterr()
    code, _, err = recorded(capsys, PAIRS, "--verdicts", VERDICTS, "-o", str(out))
    assert code == 2
    told = f"{out} holds a run over {prompts}, and no benchmark of judges; choose another folder with -o"
    assert told in err
    live = [PAIRS, "--judge", "pairwise-help", "--judge-model", "scripted:m", "-o", str(out), "--change", "--quiet"]
    code, _, err = recorded(capsys, *live)
    assert code == 2
    assert told in err
    assert not [*out.glob("report.*"), *out.glob("verdicts.*")]


def test_a_folder_of_the_same_benchmark_takes_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs, out = str(tmp_path / "pairs.jsonl"), str(tmp_path / "out")
    written(tmp_path / "pairs.jsonl", [{"id": "1", "prompt": "q", "a": "yes", "b": "no", "label": "A"}])
    said = written(tmp_path / "v.jsonl", [{"id": "1", "judge": "j", "order": "AB", "verdict": "A"}])
    live = [pairs, "--judge", "pairwise-help", "--judge-model", "scripted:m", "-o", out, "--quiet"]
    assert recorded(capsys, *live)[0] == 0
    assert recorded(capsys, pairs, "--verdicts", said, "-o", out)[0] == 0
    (tmp_path / "twin.jsonl").write_bytes(Path(pairs).read_bytes())
    code, _, err = recorded(capsys, str(tmp_path / "twin.jsonl"), "--verdicts", said, "-o", out)
    assert code == 2
    assert f"holds a benchmark of {pairs}, not of " in err


def test_verdicts_in_a_table_are_written_as_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, out = tmp_path / "v.parquet", tmp_path / "out"
    pq.write_table(
        pa.Table.from_pylist([orjson.loads(line) for line in Path(VERDICTS).read_bytes().splitlines()]), table
    )
    assert recorded(capsys, PAIRS, "--verdicts", str(table), "-o", str(out))[0] == 0
    assert recorded(capsys, PAIRS, "--verdicts", VERDICTS, "-o", str(tmp_path / "other"))[0] == 0
    assert (out / "report.json").read_bytes() == (tmp_path / "other" / "report.json").read_bytes()
    assert recorded(capsys, PAIRS, "--verdicts", str(out / "verdicts.jsonl"))[0] == 0


def test_the_same_judge_in_two_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    twin = tmp_path / "twin.jsonl"
    twin.write_bytes(Path(VERDICTS).read_bytes())
    code, _, err = recorded(capsys, PAIRS, "--verdicts", VERDICTS, "--verdicts", str(twin))
    assert code == 2
    assert "rename one of the two" in err
