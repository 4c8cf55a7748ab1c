"""The documented demo: pairs that a grader made of the bundled data, the bundled model as their judge, thresholds that
refuse it. Real model, real grader, no network."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from prefsmith.cli import main


def test_the_tiny_model_is_no_judge_and_the_thresholds_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--limit", "16", "-o", "runs/demo", "--quiet"]) == 0
    pairs = "runs/demo/export/trl/train.jsonl"
    n = len(Path(pairs).read_bytes().splitlines())
    assert n >= 5
    judges = ["--judge", "pairwise-short", "--judge-model", "embedded:tiny", "--judge", "contains"]
    words = ["bench", "judge", pairs, *judges, "--min-accuracy", "0.6", "-o", "runs/bench", "--quiet"]
    assert main(words) == 4
    out, err = capsys.readouterr()
    assert "threshold: pairwise-short: accuracy (two_order) is 0.0%, below 60.0%" in err
    tiny, contains = orjson.loads(Path("runs/bench/report.json").read_bytes())["judges"]
    # It answers as if it were asked one of its tasks: no verdict, never a guess.
    assert set(tiny["no_verdict"]) <= {"unparseable", "reply_truncated"}
    assert sum(tiny["no_verdict"].values()) == 2 * n
    assert tiny["shares"]["coverage"]["value"] == 0
    assert contains["shares"]["accuracy"]["value"] > 0.6
    assert main(words) == 4  # told again for nothing
    assert capsys.readouterr().out == out
