"""A folder holds a run, an evaluation or a benchmark, and is used as nothing else."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import orjson
import pytest

from prefsmith.cli import main
from prefsmith.intake import _differences
from prefsmith.ledger.ids import text_hash


def prompts(folder: Path, n: int = 12) -> str:
    path = folder / "p.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Say {i}."}) + "\n" for i in range(n)))
    return str(path)


def evaluated(folder: Path) -> Path:
    out = folder / "eval"
    arms = ("--arm", "a=scripted:a", "--arm", "b=scripted:b")
    judge = ("--judge", "pairwise-help", "--judge-model", "scripted:j")
    assert main(["eval", prompts(folder), *arms, *judge, "-o", str(out), "--quiet"]) == 0
    return out


def benched(folder: Path) -> tuple[Path, Path]:
    file, out = folder / "pairs.jsonl", folder / "bench"
    row = {"id": "p1", "prompt": "Say 1.", "a": "one quality=8", "b": "two quality=2", "label": "A"}
    file.write_text(json.dumps(row) + "\n")
    judge = ("--judge", "pairwise-help", "--judge-model", "scripted:j")
    assert main(["bench", "judge", str(file), *judge, "-o", str(out), "--quiet"]) == 0
    return file, out


def ran(folder: Path, n: int = 12) -> Path:
    out = folder / "run"
    words = ("--gen", "scripted:a", "--n", "2", "--judge", "contains", "--set", "judge.0.text=bread")
    assert main(["run", prompts(folder, n), *words, "-o", str(out), "--quiet"]) == 0
    return out


def replies_become(out: Path, text: str) -> None:
    """Every stored reply of a judge says this, as if it always had."""
    kept = orjson.dumps(
        {"finish_reason": "stop", "message": {"content": text, "role": "assistant"}}, option=orjson.OPT_SORT_KEYS
    )
    with closing(sqlite3.connect(out / "ledger.db")) as db, db:
        db.execute("UPDATE call SET reply = ?, reply_hash = ? WHERE judge NOTNULL", (kept.decode(), text_hash(kept)))


def test_an_evaluation_that_is_read_again_is_told_again(tmp_path: Path) -> None:
    out = evaluated(tmp_path)
    before = json.loads((out / "eval/report.json").read_text())
    # Whoever stands first wins: in both orders that is no verdict.
    replies_become(out, "VERDICT: A")
    assert main(["judge", str(out), "--reread", "--quiet"]) == 0
    after = json.loads((out / "eval/report.json").read_text())
    assert before["temperatures"][0]["duels"] != after["temperatures"][0]["duels"]
    assert main(["verify", str(out)]) == 0


def test_a_benchmark_that_is_read_again_says_who_tells_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out = benched(tmp_path)
    replies_become(out, "VERDICT: B")
    assert main(["judge", str(out), "--reread"]) == 0
    assert f"`prefsmith bench judge {file} … -o {out}`" in capsys.readouterr().err
    judge = ("--judge", "pairwise-help", "--judge-model", "scripted:j")
    assert main(["bench", "judge", str(file), *judge, "-o", str(out), "--json"]) == 0
    told = capsys.readouterr()
    assert "nothing was asked" in told.err
    assert json.loads(told.out)["judges"][0]["shares"]["consistency"]["value"] == 0


def test_an_evaluation_is_not_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = ran(tmp_path), evaluated(tmp_path)
    for words in ([str(out)], [str(run), str(out), "-o", str(tmp_path / "both")]):
        assert main(["export", *words]) == 2
        assert f"{out} holds an evaluation, which makes no pairs" in capsys.readouterr().err
    assert not (out / "export").exists() and not (tmp_path / "both").exists()


def test_a_folder_goes_on_only_as_what_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, evaluation, (file, bench) = ran(tmp_path), evaluated(tmp_path), benched(tmp_path)
    sampled = ("--gen", "scripted:a", "--n", "2", "--judge", "number")
    arms = ("--arm", "a=scripted:a", "--arm", "b=scripted:b", "--judge", "number")
    judge = ("--judge", "pairwise-help", "--judge-model", "scripted:j")
    for words, held, wanted in (
        (["run", prompts(tmp_path), *sampled, "-o", str(evaluation)], "an evaluation", "a run that makes pairs"),
        (["run", str(file), *sampled, "-o", str(bench)], "a benchmark of judges", "a run that makes pairs"),
        (["eval", prompts(tmp_path), *arms, "-o", str(run)], "a run that makes pairs", "an evaluation"),
    ):
        assert main([*words, "--quiet"]) == 2
        assert f"holds {held}, not {wanted}; choose another folder with -o" in capsys.readouterr().err
    for words in ([], ["--estimate"]):
        assert main(["bench", "judge", str(file), *judge, "-o", str(run), *words]) == 2
        assert "no benchmark of judges; choose another folder" in capsys.readouterr().err


def test_a_change_of_judges_is_told_by_their_names() -> None:
    old = {"judge": [{"use": "number", "confirm": None}], "sample": [{"model": "a:x", "n": 1}]}
    new = {
        "judge": [{"use": None, "panel": [{"use": "a"}, {"use": "b"}]}, {"use": None, "confirm": "pairwise-help"}],
        "sample": [{"model": "a:x", "n": 2}],
    }
    assert _differences(old, new) == ["judge [number] -> [panel, pairwise-help]", "sample.0.n 1 -> 2"]


def rows_in(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_files_that_export_has_added_are_written_anew_when_the_pairs_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ran(tmp_path, 120)
    assert main(["export", str(run), "--to", "openai,parquet"]) == 0
    before = rows_in(run / "export/openai/preferences.jsonl")
    rubric = ("--judge", "rubric-help", "--judge-model", "scripted:j")
    assert main(["judge", str(run), *rubric, "--quiet"]) == 0
    n = rows_in(run / "export/trl/train.jsonl")
    assert n > before and rows_in(run / "export/openai/preferences.jsonl") == n
    assert main(["verify", str(run)]) == 0
    capsys.readouterr()
    # A judge that finds nothing stops the session: the files stay, and are told to be of an earlier recipe.
    stops = ("--set", "max_no_verdict=0", "--set", "endpoints.broken.script.unparseable=1")
    assert main(["judge", str(run), "--judge", "conciseness", "--judge-model", "broken:j", *stops, "--quiet"]) == 4
    assert rows_in(run / "export/trl/train.jsonl") == n
    assert main(["summary", str(run)]) == 0
    told = capsys.readouterr().out
    assert told.count(f"{n} rows, written under an earlier recipe") == 2  # trl, openai
    assert "the last session was stopped" in told


def test_a_typo_in_a_part_that_every_recipe_needs_is_told_as_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("prompts: {path: p.jsonl}\nsample:\n  - model: scripted:x\njuge: [number]\n")
    assert main(["run", str(path)]) == 2
    assert f"{path}:4: juge: unknown key; did you mean 'judge'?" in capsys.readouterr().err


def test_references_that_a_grader_cannot_read_are_told_as_the_rows_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "words.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Say {i}.", "reference": "APPLE"}) + "\n" for i in range(200)))
    assert main(["run", str(path), "--gen", "scripted:a", "--judge", "number", "-o", str(tmp_path / "out")]) == 4
    told = capsys.readouterr().err
    assert "a reference that it cannot read" in told and "Mend these rows" in told and "Mend the judge" not in told


def test_verify_compares_an_evaluations_report_with_its_ledger(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = evaluated(tmp_path)
    monkeypatch.chdir(tmp_path)
    # Also under another name of the folder than the one that stands in the report.
    assert main(["verify", "eval"]) == 0
    assert "eval/: 3 files compared with the ledger" in capsys.readouterr().out
    table = out / "eval/table.md"
    table.write_text(table.read_text().replace("0.0", "9.9"))
    (out / "eval/samples.jsonl").unlink()
    assert main(["verify", str(out)]) == 4
    told = capsys.readouterr().out
    assert "damaged: eval/table.md: does not tell what the ledger holds" in told
    assert "damaged: eval/samples.jsonl: is missing" in told and "--reread" in told
    assert main(["judge", str(out), "--reread", "--quiet"]) == 0
    assert main(["verify", str(out)]) == 0


def test_one_arm_is_not_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("eval", prompts(tmp_path), "--arm", "a=scripted:a", "-o", str(tmp_path / "out"), "--quiet")
    assert main([*words, "--judge", "pairwise-help", "--judge-model", "scripted:j"]) == 2
    assert "'a' is the only arm" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main([*words, "--judge", "contains", "--set", "judge.0.text=bread"]) == 0
    assert "one arm alone is marked" in capsys.readouterr().err


def test_every_row_that_was_set_aside_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = prompts(tmp_path)
    with Path(path).open("a") as file:
        file.writelines(f"{{bad {i}\n" for i in range(7))
        file.write('{"prompt": "Say 3."}\n')
    words = ("--gen", "scripted:a", "--n", "2", "--judge", "contains", "--set", "judge.0.text=bread")
    assert main(["run", path, *words, "-o", str(tmp_path / "run"), "--quiet"]) == 0
    assert f"`prefsmith summary {tmp_path / 'run'} --set-aside` names all" in capsys.readouterr().err
    assert main(["summary", str(tmp_path / "run"), "--set-aside"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"line {i}" for i in range(13, 21)]
    assert lines[0] == "line 13: bad_json: {bad 0" and lines[-1] == "line 20: duplicate"
    assert main(["summary", str(tmp_path / "run"), "--set-aside", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[6] == {"line": 19, "reason": "bad_json", "excerpt": "{bad 6"}


def test_export_pairs_anew_by_any_part_of_the_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--gen", "scripted:a", "--n", "4", "--judge", "rubric-help", "--judge-model", "scripted:j", "--quiet")
    assert main(["run", prompts(tmp_path), *words, "-o", str(tmp_path / "run")]) == 0
    one = rows_in(tmp_path / "run/export/trl/train.jsonl")
    export = ("export", str(tmp_path / "run"), "-o", str(tmp_path / "more"))
    assert main([*export, "--set", "pair.max_per_prompt=2"]) == 0
    assert rows_in(tmp_path / "more/trl/train.jsonl") > one
    assert main([*export, "--set", "seed=3"]) == 2
    assert "places of `pair` alone" in capsys.readouterr().err
    assert main([*export, "--strategy", "arms"]) == 2
    assert "known here: best_worst, correct_incorrect" in capsys.readouterr().err
    assert main(["judge", str(tmp_path / "run"), "--set", "pair.strategy=arms"]) == 2
    assert main([*export[:2], "-o", str(tmp_path / "run")]) == 2
    assert "holds a run" in capsys.readouterr().err and not (tmp_path / "run/trl").exists()
    assert main([*export[:2], "-o", str(tmp_path / "run/export")]) == 2
    assert main([*export[:2], "-o", prompts(tmp_path)]) == 2
    assert "is a file; name a folder with -o" in capsys.readouterr().err
    assert main([*export, "--set", "pair.strategy=arms"]) == 2
    assert main(["run", prompts(tmp_path), *words, "-o", str(tmp_path / "x"), "--set", "pair.strategy=arms"]) == 2
    assert "arms is for `prefsmith eval`" in capsys.readouterr().err
    assert main([*export, "--outt", "x"]) == 2
    assert "did you mean '--out'?" in capsys.readouterr().err


@pytest.mark.parametrize("by_recipe", [False, True])
def test_arms_answer_at_temperature_0_unless_told_otherwise(tmp_path: Path, by_recipe: bool) -> None:
    """Whatever a demo's own run samples at."""
    out, arms = tmp_path / "out", ("scripted:a", "scripted:b")
    words = ["demo:tiny", "--limit", "5", "--arm", arms[0], "--arm", arms[1], "--judge", "demo"]
    if by_recipe:
        rows = [{"model": arm} for arm in arms]
        recipe = {"prompts": {"path": "demo:tiny", "limit": 5}, "sample": rows, "judge": "demo"}
        words = [str(tmp_path / "r.yaml")]
        Path(words[0]).write_text(json.dumps(recipe))
    assert main(["eval", *words, "-o", str(out), "--quiet", "--set", "max_no_verdict=1"]) == 0
    report = json.loads((out / "eval/report.json").read_text())
    assert [one["temperature"] for one in report["temperatures"]] == [0.0]
    assert report["arms"][0]["sampled"]["max_tokens"] == (1024 if by_recipe else 44)


def test_files_of_an_unfinished_run_are_told_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    words = ["run", prompts(tmp_path), "--gen", "scripted:a", "--n", "2", "--judge", "contains"]
    words += ["--set", "judge.0.text=bread", "-o", str(run), "--quiet"]
    assert main([*words, "--budget", "1tok"]) == 3
    assert main(["judge", str(run), "--judge", "contains", "--set", "judge.0.text=a", "--quiet"]) == 0
    assert not (run / "export").exists()  # nothing to train on, and more to come
    capsys.readouterr()
    assert main(["export", str(run)]) == 0
    assert f"{run} is not finished: 12 items to go" in capsys.readouterr().err


def test_verify_says_what_it_does_not_look_at_in_a_benchmark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out = benched(tmp_path)
    assert main(["verify", str(out)]) == 0
    assert "the benchmark's report and verdicts: not compared" in capsys.readouterr().out


def test_a_recipe_that_lacks_its_judge_tells_its_typos_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"prompts: {{path: {prompts(tmp_path)}}}\nsample:\n  - model: scripted:a\n    temprature: 1\n")
    assert main(["run", str(path), "-o", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert f"{path}:4: sample.0.temprature: unknown key" in told and "exact" not in told
    path.write_text(path.read_text().replace("temprature", "temperature"))
    assert main(["run", str(path), "-o", str(tmp_path / "run")]) == 2
    assert f"{path}: no judge; give --judge NAME" in capsys.readouterr().err


def test_a_damaged_page_is_no_bug_of_prefsmith(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = ran(tmp_path, 400)
    with (run / "ledger.db").open("r+b") as file:
        size = file.seek(0, 2)
        for place in range(8192 * 4, size, 8192):
            file.seek(place)
            file.write(b"\xff" * 200)
    capsys.readouterr()
    assert main(["export", str(run), "-o", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert "is damaged" in told and "prefsmith verify" in told and "bug" not in told
    assert main(["verify", str(run)]) == 4


def test_a_path_is_short_for_prompts(tmp_path: Path) -> None:
    prompts(tmp_path)
    recipe = {"prompts": "p.jsonl", "sample": {"model": "scripted:a", "n": 2}}
    (tmp_path / "r.yaml").write_text(json.dumps({**recipe, "judge": {"use": "contains", "text": "bread"}}))
    assert main(["run", str(tmp_path / "r.yaml"), "-o", str(tmp_path / "run"), "--quiet"]) == 0
