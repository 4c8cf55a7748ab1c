"""A live benchmark is a run: each question is asked once, whatever happens; what it found is told like any recording.

The scripted judge reads the mark at the end of each answer and is right about it.
"""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from prefsmith.cli import main

JUDGES = ["--judge", "pairwise-help", "--judge", "rubric-help", "--judge-model", "jury:fake"]


def pairs(path: Path, n: int = 12, **more: Any) -> Path:
    """`n` pairs; the good answer says quality=8, the bad one quality=2."""
    rows = []
    for i in range(n):
        sides = [f"answer {i} quality=8", f"other answer {i} quality=2"]
        a, b = sides if i % 2 else sides[::-1]
        rows.append({"id": f"p{i}", "prompt": f"Question {i}?", "a": a, "b": b, "label": "A" if i % 2 else "B", **more})
    return written(path, rows)


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return path


def bench(folder: Path, file: Path, *words: str, judges: list[str] = JUDGES, **script: Any) -> int:
    sets = [f"endpoints.jury.script.{name}={value}" for name, value in {"log": folder / "log", **script}.items()]
    flags = [word for one in sets for word in ("--set", one)]
    return main(["bench", "judge", str(file), *judges, *flags, "-o", str(folder / "out"), "--quiet", *words])


def asked(folder: Path) -> list[dict[str, Any]]:
    log = folder / "log"
    return [orjson.loads(line) for line in log.read_bytes().splitlines()] if log.exists() else []


def rows(folder: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "out" / "ledger.db")) as db:
        return db.execute(sql).fetchall()


def report(folder: Path) -> Any:
    return orjson.loads((folder / "out" / "report.json").read_bytes())


def shares(folder: Path, judge: str) -> Any:
    return next(one["shares"] for one in report(folder)["judges"] if one["judge"] == judge)


def test_rankings_and_checklists_are_benched_as_they_score_samples(tmp_path: Path) -> None:
    names = ("listwise-help", "checklist-help")
    judges = [word for name in names for word in ("--judge", name)] + ["--judge-model", "jury:fake"]
    assert bench(tmp_path, pairs(tmp_path / "p.jsonl"), judges=judges) == 0
    n_listed = rows(tmp_path, "SELECT count(*), sum(json_array_length(body)) FROM artifact")[0]
    assert n_listed[0] == 12
    # Two answers have two orders; a list is written once and each of its questions asked about both answers.
    assert len(asked(tmp_path)) == 12 * 2 + 12 + 2 * n_listed[1]
    usage = {one["judge"]: one["usage"]["calls"] for one in report(tmp_path)["judges"]}
    assert usage == {"listwise-help": 24, "checklist-help": len(asked(tmp_path)) - 24}
    n = len(asked(tmp_path))
    assert bench(tmp_path, tmp_path / "p.jsonl", judges=judges) == 0
    assert len(asked(tmp_path)) == n


def test_a_pair_is_shown_in_both_orders_and_each_answer_scored_once(tmp_path: Path) -> None:
    assert bench(tmp_path, pairs(tmp_path / "p.jsonl")) == 0
    assert len(asked(tmp_path)) == 12 * 4
    for judge in ("pairwise-help", "rubric-help"):
        assert shares(tmp_path, judge)["accuracy"]["value"] == 1.0
    assert shares(tmp_path, "pairwise-help")["consistency"]["value"] == 1.0
    assert shares(tmp_path, "pairwise-help")["first_wins"]["value"] == 0.5
    assert rows(tmp_path, "SELECT DISTINCT origin, call FROM completion") == [("imported", None)]
    assert rows(tmp_path, "SELECT json FROM sampler") == [('{"origin":"imported"}',)]
    usage = report(tmp_path)["judges"][0]["usage"]
    assert usage["calls"] == 24
    assert usage["usd_per_1000_verdicts"] == 0


def test_it_tells_itself_again_for_nothing_and_as_a_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = pairs(tmp_path / "p.jsonl")
    assert bench(tmp_path, file) == 0
    n, first = len(asked(tmp_path)), (tmp_path / "out" / "report.json").read_bytes()
    assert bench(tmp_path, file) == 0
    assert len(asked(tmp_path)) == n
    assert (tmp_path / "out" / "report.json").read_bytes() == first
    capsys.readouterr()
    assert main(["bench", "judge", str(file), "--verdicts", str(tmp_path / "out" / "verdicts.jsonl"), "--json"]) == 0
    assert orjson.loads(capsys.readouterr().out) == orjson.loads(first)


def test_what_fails_is_owed_and_nothing_is_told_before_it_is_whole(tmp_path: Path) -> None:
    file = pairs(tmp_path / "p.jsonl")
    assert bench(tmp_path, file, "--set", "attempts=1", faults=0.4) == 5
    assert sorted(path.name for path in (tmp_path / "out").glob("[rv]*.*")) == ["run.lock"]
    paid = rows(tmp_path, "SELECT count(*) FROM verdict")[0][0]
    assert 0 < paid < 48
    n = len(asked(tmp_path))
    assert bench(tmp_path, file) == 0
    assert len(asked(tmp_path)) - n == 48 - paid
    assert shares(tmp_path, "pairwise-help")["accuracy"]["n"] == 12
    assert rows(tmp_path, "SELECT count(*), count(DISTINCT unit || prompt || judge) FROM call WHERE status = 'ok'") == [
        (48, 48)
    ]


def test_a_killed_bench_pays_for_no_verdict_twice(tmp_path: Path) -> None:
    file = pairs(tmp_path / "p.jsonl", 60)
    sets = [f"endpoints.jury.script.log={tmp_path / 'log'}", "endpoints.jury.script.latency_s=0.05"]
    flags = [word for one in (*sets, "endpoints.jury.limits.concurrency=4") for word in ("--set", one)]
    command = [sys.executable, "-m", "prefsmith", "bench", "judge", str(file), *JUDGES, *flags, "--quiet"]
    child = subprocess.Popen([*command, "-o", str(tmp_path / "out")], stderr=subprocess.DEVNULL)
    while len(asked(tmp_path)) < 80 and child.poll() is None:
        time.sleep(0.01)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    kept = rows(tmp_path, "SELECT count(*) FROM verdict")[0][0]
    assert 0 < kept < 240
    before = len(asked(tmp_path))
    assert bench(tmp_path, file) == 0
    assert len(asked(tmp_path)) - before == 240 - kept
    assert shares(tmp_path, "pairwise-help")["accuracy"]["value"] == 1.0


def test_several_pairs_of_one_prompt_keep_their_own_answers(tmp_path: Path) -> None:
    def row(of: str, a: str, b: str, label: str, **more: Any) -> dict[str, Any]:
        return {"id": of, "prompt": "The same question?", "a": a, "b": b, "label": label, **more}

    best, middle, worst = (f"text quality={n}" for n in (9, 5, 1))
    file = written(
        tmp_path / "p.jsonl",
        [
            row("1", best, worst, "A"),
            row("2", worst, middle, "B"),
            row("3", middle, best, "B", category="c"),
            row("4", best, worst, "A"),  # the first once more, under another id
            row("5", best, worst, "B"),  # and with another label
            row("6", best, best, "tie"),
        ],
    )
    assert bench(tmp_path, file) == 0
    assert len(asked(tmp_path)) == 7 + 3  # three pairs in both orders and one of equal answers; three texts
    accuracy = shares(tmp_path, "rubric-help")["accuracy"]
    assert (accuracy["k"], accuracy["n"]) == (5, 6)
    assert shares(tmp_path, "pairwise-help")["accuracy"]["k"] == 5
    usage = report(tmp_path)["judges"][0]["usage"]
    assert usage["calls"] == 7  # equal pairs share their verdicts, and the cost is told once


def test_a_corrected_label_asks_nothing_and_a_new_pair_only_for_itself(tmp_path: Path) -> None:
    file = pairs(tmp_path / "p.jsonl", 4)
    assert bench(tmp_path, file) == 0
    content = file.read_bytes()
    file.write_bytes(content.replace(b'"label":"A"', b'"label":"B"'))
    assert bench(tmp_path, file) == 0
    assert len(asked(tmp_path)) == 16
    assert shares(tmp_path, "rubric-help")["accuracy"]["value"] == 0.5
    pairs(file, 5)
    assert bench(tmp_path, file) == 0
    assert len(asked(tmp_path)) == 20


def test_a_judge_without_a_verdict_is_measured_and_not_stopped(tmp_path: Path) -> None:
    file = pairs(tmp_path / "p.jsonl", 150)
    judges = ["--judge", "pairwise-help", "--judge-model", "jury:fake"]
    assert bench(tmp_path, file, judges=judges, unparseable=0.7) == 0
    (judge,) = report(tmp_path)["judges"]
    n = judge["no_verdict"]["unparseable"]
    assert n > 60
    assert rows(tmp_path, "SELECT count(*) FROM verdict WHERE reason IS NOT NULL") == [(n,)]
    assert judge["shares"]["coverage"]["value"] < 0.8
    assert judge["shares"]["selective"]["value"] > 0.9


def test_each_judge_is_asked_with_each_model_and_graders_stand_beside_them(tmp_path: Path) -> None:
    file = pairs(tmp_path / "p.jsonl", 4, reference="quality=8")
    models = ["--judge-model", "jury:one", "--judge-model", "jury:two"]
    assert bench(tmp_path, file, judges=["--judge", "rubric-help", "--judge", "contains", *models]) == 0
    named = [one["judge"] for one in report(tmp_path)["judges"]]
    assert named == ["rubric-help jury:one", "rubric-help jury:two", "contains"]
    assert shares(tmp_path, "contains")["accuracy"]["value"] == 1.0
    assert len(asked(tmp_path)) == 16


def test_an_item_that_lacks_what_a_judge_needs_is_no_verdict(tmp_path: Path) -> None:
    file = pairs(tmp_path / "p.jsonl", 3, reference="r")
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[1] + lines[2].replace(b',"reference":"r"', b""))
    assert bench(tmp_path, file, judges=["--judge", "rubric-reference", "--judge-model", "jury:fake"]) == 0
    (judge,) = report(tmp_path)["judges"]
    assert judge["no_verdict"] == {"lacks reference": 1}
    assert judge["shares"]["accuracy"]["n"] == 3


def test_recorded_judges_stand_in_the_table_of_a_live_one(tmp_path: Path) -> None:
    file = pairs(tmp_path / "p.jsonl", 2)
    other = [{"id": f"p{i}", "judge": "people", "order": o, "verdict": "A"} for i in range(2) for o in ("AB", "BA")]
    recorded = written(tmp_path / "v.jsonl", other)
    assert bench(tmp_path, file, "--verdicts", str(recorded)) == 0
    assert [one["judge"] for one in report(tmp_path)["judges"]] == ["pairwise-help", "rubric-help", "people"]
    assert bench(tmp_path, file, "--verdicts", str(recorded)) == 0


def test_an_estimate_counts_what_is_owed_and_makes_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = pairs(tmp_path / "p.jsonl")
    assert bench(tmp_path, file, "--estimate", "--json") == 0
    found = orjson.loads(capsys.readouterr().out)
    assert not (tmp_path / "out").exists()
    assert asked(tmp_path) == []
    assert [(one["requests"], one["held"]) for one in found["judges"]] == [(24, 0), (24, 0)]
    assert bench(tmp_path, file) == 0
    capsys.readouterr()
    assert bench(tmp_path, file, "--estimate") == 0
    assert "pairwise-help by jury:fake: 0 requests, 24 verdicts are here" in capsys.readouterr().out


def test_an_estimate_needs_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    words = ["--judge", "pairwise-help", "--judge-model", "openai:gpt-4.1-mini", "--estimate", "--json"]
    assert main(["bench", "judge", str(pairs(tmp_path / "p.jsonl", 10)), *words]) == 0
    (judge,) = orjson.loads(capsys.readouterr().out)["judges"]
    assert judge["requests"] == 20
    assert 0 < judge["usd_at_most"] < 1


def test_a_budget_ends_a_bench_which_a_larger_one_goes_on_with(tmp_path: Path) -> None:
    file = pairs(tmp_path / "p.jsonl", 30)
    assert bench(tmp_path, file, "--budget", "20ktok") == 3
    assert not (tmp_path / "out" / "report.json").exists()
    paid = rows(tmp_path, "SELECT count(*) FROM verdict")[0][0]
    assert 0 < paid < 120
    n = len(asked(tmp_path))
    assert bench(tmp_path, file, "--budget", "2Mtok") == 0
    assert len(asked(tmp_path)) - n == 120 - paid


def test_its_folder_is_whole_and_says_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = pairs(tmp_path / "p.jsonl", 3)
    assert bench(tmp_path, file) == 0
    out = str(tmp_path / "out")
    assert main(["verify", out]) == 0
    assert main(["explain", out, "line:1"]) == 0
    assert "reason: benchmark" in capsys.readouterr().out
    for words in (["summary", out], ["export", out, "--to", "trl"], ["judge", out, "--judge", "number"]):
        assert main(words) == 2
        assert "holds a benchmark of judges" in capsys.readouterr().err


def test_another_file_in_the_same_folder_is_refused_until_it_is_meant(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(tmp_path, pairs(tmp_path / "p.jsonl", 3)) == 0
    other = pairs(tmp_path / "q.jsonl", 2)
    assert bench(tmp_path, other) == 2
    assert "--change" in capsys.readouterr().err
    assert bench(tmp_path, other, "--change") == 0
    assert report(tmp_path)["gold"]["n_items"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--judge", "pairwise-hepl", "--judge-model", "scripted:fake"], "did you mean 'pairwise-help'"),
        (["--judge", "pairwise-help"], "asks a model; name it"),
        (["--judge-model", "scripted:fake"], "say whom to measure"),
        (["--estimate", "--verdicts", "v.jsonl"], "--estimate and --judge-model are for judges that are asked"),
        (["--judge", "number", "--format", "trl"], "trl needs 'chosen', 'rejected'"),
    ],
)
def test_what_cannot_work_is_refused_before_a_folder_is_made(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = pairs(tmp_path / "p.jsonl", 2)
    assert main(["bench", "judge", str(file), *words, "-o", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
