"""`prefsmith eval`: figures that can be counted by hand, and a run that asks nothing twice."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pytest
import yaml
from runs import logged

from prefsmith.agreement.intervals import wilson
from prefsmith.cli import main
from prefsmith.errors import UsageError
from prefsmith.evaluation.report import report_of
from prefsmith.evaluation.samples import beside

GOOD = {"use": "regex", "pattern": "quality=[5-9]"}
TINY = ("demo:tiny-eval", "--arm", "base=embedded:tiny", "--max-tokens", "44", "--quiet")


def recipe(folder: Path, n: int = 60, arms: tuple[str, ...] = ("one", "two"), **more: Any) -> str:
    """The path of a recipe whose arms are fakes that answer at temperatures 0 and 1."""
    (folder / "p.jsonl").write_text(
        "".join(json.dumps({"prompt": f"Say {i}.", "kind": f"k{i % 3}"}) + "\n" for i in range(n))
    )
    sample = [{"model": f"farm:{a}", "arm": a, "temperature": [0, 1], "n": 3} for a in arms]
    endpoints = {"farm": {"script": {"log": str(folder / "log")}}}
    recipe = {"prompts": {"path": str(folder / "p.jsonl")}, "endpoints": endpoints, "sample": sample, "judge": [GOOD]}
    path = folder / "eval.yaml"
    path.write_text(yaml.safe_dump({**recipe, **more}))
    return str(path)


def evaluated(folder: Path, *words: str) -> Any:
    out = folder / "out"
    assert main(["eval", *words, "-o", str(out), "--quiet"]) == 0
    return report_of(out)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out" / "eval" / "samples.jsonl").read_text().splitlines()]


def share(row: dict[str, Any], arm: str) -> float:
    return mean(answer["right"] for answer in row["answers"][arm])


def test_rates_and_paired_differences_are_those_of_the_answers(tmp_path: Path) -> None:
    report = evaluated(tmp_path, recipe(tmp_path, 300))
    warm = [row for row in rows_of(tmp_path) if row["temperature"] == 1]
    at = report["temperatures"][1]
    assert (at["temperature"], at["n_items"], at["n_prompts"], len(warm)) == (1, 300, 300, 300)
    for arm in at["arms"]:
        assert arm["n_answers"] == 900
        assert arm["pass"]["value"] == pytest.approx(mean(share(row, arm["arm"]) for row in warm))
    (told,) = at["differences"]
    by_prompt = [share(row, "two") - share(row, "one") for row in warm]
    assert (told["arm"], told["over"]) == ("two", "one")
    assert told["pass"]["value"] == pytest.approx(mean(by_prompt))
    # The textbook's interval of a paired mean; the bootstrap must say about the same.
    half = 1.96 * stdev(by_prompt) / 300**0.5
    assert told["pass"]["interval"] == pytest.approx([mean(by_prompt) - half, mean(by_prompt) + half], abs=0.012)
    assert (told["better"], told["worse"]) == (sum(d > 0 for d in by_prompt), sum(d < 0 for d in by_prompt))
    assert {n: of["n_items"] for n, of in at["categories"].items()} == {"k0": 100, "k1": 100, "k2": 100}


def test_an_evaluation_goes_on_and_asks_nothing_twice(tmp_path: Path) -> None:
    first = evaluated(tmp_path, recipe(tmp_path))
    n_asked = len(logged(tmp_path))
    assert evaluated(tmp_path, recipe(tmp_path)) == first
    assert len(logged(tmp_path)) == n_asked
    three = evaluated(tmp_path, recipe(tmp_path, arms=("one", "two", "three")))
    assert {line["model"] for line in logged(tmp_path)[n_asked:]} == {"three"}
    for before, after in zip(first["temperatures"], three["temperatures"], strict=True):
        assert after["arms"][:2] == before["arms"]
        assert after["differences"][0] == before["differences"][0]
        assert len(after["differences"]) == 3


def test_an_unlucky_evaluation_ends_in_the_report_of_a_lucky_one(tmp_path: Path) -> None:
    judge = [GOOD, {"confirm": "pairwise-help", "model": "jury:judge"}]
    reports = []
    for name, luck in (("calm", ()), ("rough", (0.5, 0.3))):
        folder = tmp_path / name
        folder.mkdir()
        for faults in luck:
            fakes = {who: {"script": {"faults": faults}} for who in ("farm", "jury")}
            path = recipe(folder, 40, judge=judge, endpoints=fakes, attempts=1)
            assert main(["eval", path, "-o", str(folder / "out"), "--quiet"]) == 5
        calm = {who: {"script": {}} for who in ("farm", "jury")}
        report = evaluated(folder, recipe(folder, 40, judge=judge, endpoints=calm))
        reports.append({key: report[key] for key in ("arms", "items", "temperatures")})
    assert reports[0] == reports[1]


def test_an_evaluation_with_answers_owed_leaves_their_items_out_and_writes_no_files(tmp_path: Path) -> None:
    path = recipe(tmp_path, 40, attempts=1, endpoints={"farm": {"script": {"faults": 0.3}}})
    assert main(["eval", path, "-o", str(tmp_path / "out"), "--quiet"]) == 5
    report = report_of(tmp_path / "out")
    n = report["items"]["incomplete"]
    assert 0 < n < 40
    assert [at["n_items"] for at in report["temperatures"]] == [40 - n, 40 - n]
    assert not (tmp_path / "out" / "eval").exists()


def test_cut_off_answers_are_wrong_and_counted(tmp_path: Path) -> None:
    endpoints = {"farm": {"script": {"truncated": 0.3}}}
    report = evaluated(tmp_path, recipe(tmp_path, 30, judge={"use": "regex", "pattern": ""}, endpoints=endpoints))
    for arm in report["temperatures"][1]["arms"]:
        assert arm["cut_off"]["value"] > 0
        assert arm["pass"]["value"] == pytest.approx(1 - arm["cut_off"]["value"])


def test_an_answer_without_a_verdict_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    grader = tmp_path / "g.py"
    grader.write_text("def grade(text, item):\n    return None if 'quality=3' in text else 'quality=7' in text\n")
    report = evaluated(tmp_path, recipe(tmp_path, judge=[f"{grader}:grade"], max_no_verdict=1.0))
    for at in report["temperatures"]:
        n_without = [arm["without_verdict"] for arm in at["arms"]]
        answers = [
            a for row in rows_of(tmp_path) if row["temperature"] == at["temperature"] for a in row["answers"].values()
        ]
        assert sum(n_without) == sum(one["right"] is None for of in answers for one in of) > 0
        assert at["n_items"] + at["left_out"] == 60


def test_items_of_one_prompt_are_one_draw(tmp_path: Path) -> None:
    path = recipe(tmp_path, 20)
    rows = [{"prompt": f"Say {i}.", "note": k} for i in range(20) for k in range(5)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    fivefold = evaluated(tmp_path, path)["temperatures"][1]
    assert (fivefold["n_items"], fivefold["n_prompts"]) == (100, 20)
    (tmp_path / "once").mkdir()
    once = evaluated(tmp_path / "once", recipe(tmp_path / "once", 20))["temperatures"][1]
    assert fivefold["differences"][0]["pass"]["interval"] == pytest.approx(once["differences"][0]["pass"]["interval"])


def test_prompts_that_all_agree_are_no_certainty(tmp_path: Path) -> None:
    """Wilson's over the 20 prompts: not over their 60 answers, and not the draws' width of zero. Nor over 40 items."""
    sure = [{"use": "regex", "pattern": "quality="}]
    path = recipe(tmp_path, 20, judge=sure)
    prompts = (tmp_path / "p.jsonl").read_text()
    report = evaluated(tmp_path, path)
    assert report["temperatures"][1]["arms"][0]["n_answers"] == 60
    (tmp_path / "p.jsonl").write_text(prompts + prompts.replace("k", "other "))
    (tmp_path / "twice").mkdir()
    assert main(["eval", path, "-o", str(tmp_path / "twice"), "--quiet"]) == 0
    for told in (report, report_of(tmp_path / "twice")):
        for at in told["temperatures"]:
            assert at["n_prompts"] == 20
            for arm in at["arms"]:
                assert arm["pass"]["value"] == 1 and arm["pass"]["interval"] == wilson(20, 20)
            assert at["differences"][0]["pass"] == {"value": 0, "interval": (0, 0)}


def quality(text: str) -> int:
    return int(text.rpartition("quality=")[2])


def test_a_judge_compares_each_arm_with_the_first_in_both_orders(tmp_path: Path) -> None:
    judge = [GOOD, {"confirm": "pairwise-help", "model": "farm:judge"}]
    path = recipe(tmp_path, 60, arms=("one", "two", "three"), judge=judge)
    report = evaluated(tmp_path, path)
    for at in report["temperatures"]:
        rows = [row for row in rows_of(tmp_path) if row["temperature"] == at["temperature"]]
        for told in at["duels"]:
            worth = []
            for row in rows:
                pairs = zip(row["answers"][told["arm"]], row["answers"]["one"], strict=True)
                better = [quality(a["text"]) - quality(b["text"]) for a, b in pairs]
                worth.append(mean(1.0 if d > 0 else 0.5 if d == 0 else 0.0 for d in better))
            assert (told["over"], told["n_items"]) == ("one", 60)
            assert told["win_rate"]["value"] == pytest.approx(mean(worth))
            low, high = told["win_rate"]["interval"]
            assert low < mean(worth) < high
            assert set(told["outcomes"]) <= {"won", "lost", "tie", "same_text"}
    asked = [line for line in logged(tmp_path) if line["model"] == "judge"]
    assert len(asked) == 2 * sum(
        d["outcomes"].get(k, 0) for at in report["temperatures"] for d in at["duels"] for k in ("won", "lost", "tie")
    )
    assert evaluated(tmp_path, path) == report
    assert len([line for line in logged(tmp_path) if line["model"] == "judge"]) == len(asked)


def test_a_judge_alone_is_enough_and_what_is_cut_off_loses(tmp_path: Path) -> None:
    cut = {"farm": {"script": {"log": str(tmp_path / "log"), "truncated": 0.3}}, "jury": {"script": {}}}
    judge = [{"confirm": "pairwise-help", "model": "jury:judge"}]
    report = evaluated(tmp_path, recipe(tmp_path, 60, judge=judge, endpoints=cut))
    (told,) = report["temperatures"][1]["duels"]
    assert report["grader"] is None and report["temperatures"][1]["arms"][0]["pass"] is None
    assert told["outcomes"]["won_unasked"] and told["outcomes"]["lost_unasked"] and told["outcomes"]["both_unfit"]
    assert sum(told["outcomes"].values()) == 180
    table = (tmp_path / "out" / "eval" / "table.md").read_text()
    assert "compared by pairwise-help in both orders" in table and "right, %" not in table


def test_samples_beside_each_other_say_what_the_judge_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fakes = {"farm": {"script": {"truncated": 0.2}}, "jury": {"script": {}}}
    judge = [{"confirm": "pairwise-help", "model": "jury:judge"}]
    report = evaluated(tmp_path, recipe(tmp_path, 30, judge=judge, endpoints=fakes))
    rows = rows_of(tmp_path)
    for at in report["temperatures"]:
        told = [d for row in rows if row["temperature"] == at["temperature"] for d in row["duels"]["two"]]
        assert Counter(d["outcome"] for d in told) == at["duels"][0]["outcomes"]
        for d in told:
            if d["outcome"] in ("won", "lost", "tie"):
                assert d["shown_first"] == d["shown_second"] == d["outcome"]
            else:
                assert (d["shown_first"], d["shown_second"]) == (None, None)
    capsys.readouterr()
    assert main(["summary", str(tmp_path / "out"), "--show", "60"]) == 0
    shown = capsys.readouterr().out
    assert "no verdict" not in shown
    assert " · temperature 0 · two won in both orders" in shown
    assert "two lost, for it is cut off or empty" in shown
    row = next(row for row in rows if row["duels"]["two"][0]["outcome"] == "won")
    row["duels"]["two"][0] |= {"outcome": "orders_disagree", "shown_second": "lost"}
    title, _, texts = beside(row)
    assert title.endswith("two won when shown first, lost when shown second")
    assert list(texts) == ["one", "two"]


def test_duels_whose_verdict_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    fakes = {"farm": {"script": {}}, "jury": {"script": {"unparseable": 0.9}}}
    judge = [{"confirm": "pairwise-help", "model": "jury:judge"}]
    report = evaluated(tmp_path, recipe(tmp_path, 60, judge=judge, endpoints=fakes, max_no_verdict=1.0))
    (told,) = report["temperatures"][0]["duels"]
    assert told["n_items"] == 60 - told["outcomes"]["without_verdict"] < 60


def test_the_demo_grader_tells_form_from_content(tmp_path: Path) -> None:
    report = evaluated(tmp_path, *TINY, "--limit", "60", "--temps", "0")
    (arm,) = report["temperatures"][0]["arms"]
    assert arm["pass"]["value"] < arm["form"]["value"] < 1
    assert arm["pass_given_form"]["value"] == pytest.approx(arm["pass"]["value"] / arm["form"]["value"])
    assert "right given the form" in (tmp_path / "out" / "eval" / "table.md").read_text()


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["eval", *words]) == 2
    return capsys.readouterr().err


def test_arms_that_cannot_be_told_apart_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "two arms are the same model" in refused(capsys, *TINY, "--arm", "tuned=embedded:tiny")
    assert "2 arms are called 'base'" in refused(capsys, *TINY, "--arm", "base=scripted:x")
    assert "several values of top_p" in refused(capsys, *TINY, "--top-p", "0.5,1")
    assert "a temperature is given twice" in refused(capsys, *TINY, "--temps", "1,1")
    assert "no model to ask; give --arm" in refused(capsys, "demo:tiny-eval")
    nobody = refused(capsys, recipe(tmp_path, judge=[]))
    assert "nobody marks the answers" in nobody and "number" in nobody
    assert "(pairwise-help, pairwise-reference, pairwise-short)" in nobody
    assert "--judge: judge.0: eval compares by a pairwise judge; 'rubric-help' is a rubric" in refused(
        capsys, *TINY, "--arm", "b=scripted:x", "--judge", "rubric-help"
    )
    assert "--judge: no grader or judge is called 'exat'; did you mean 'exact'?" in refused(
        capsys, *TINY, "--arm", "b=scripted:x", "--judge", "exat"
    )
    assert "eval compares by one pairwise judge; got pairwise-help, pairwise-short" in refused(
        capsys, *TINY, "--arm", "b=scripted:x", "--judge", "pairwise-help", "--judge", "pairwise-short"
    )
    # Whatever the order in which a grader and a judge are named, what is missing is the judge's model.
    assert "--judge: judge.1.confirm: 'pairwise-help' asks a model" in refused(
        capsys, *TINY, "--arm", "b=scripted:x", "--judge", "pairwise-help", "--judge", "number"
    )
    assert "compared by one pairwise judge, or both; got rubric-help" in refused(
        capsys, recipe(tmp_path, judge=[{"use": "rubric-help", "model": "farm:j"}])
    )
    rows = [{"model": "farm:a", "temperature": [0]}, {"model": "farm:b", "temperature": [1]}]
    assert "answer at other temperatures (0 and 1)" in refused(capsys, recipe(tmp_path, sample=rows))


def test_what_cannot_be_evaluated_is_refused_before_anything_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = recipe(tmp_path, judge=["exact"])
    assert "needs the column 'reference', which no item has; map it" in refused(capsys, path)
    (tmp_path / "tuned").mkdir()
    assert "is a folder, and llama.cpp reads one GGUF file: convert it" in refused(
        capsys, "p.jsonl", "--arm", "embedded:tuned", "--judge", "number"
    )
    assert not logged(tmp_path)


def test_summary_tells_an_evaluation_and_verify_finds_it_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judge = [GOOD, {"confirm": "pairwise-help", "model": "farm:judge"}]
    report = evaluated(tmp_path, recipe(tmp_path, 10, judge=judge))
    capsys.readouterr()
    assert main(["summary", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(report))
    assert main(["summary", str(tmp_path / "out"), "--show", "2"]) == 0
    shown = capsys.readouterr().out
    assert "two − one" in shown and shown.count(" · temperature 0") == 2
    assert main(["verify", str(tmp_path / "out")]) == 0
    capsys.readouterr()
    assert main(["judge", str(tmp_path / "out"), "--judge", "number"]) == 2
    told = capsys.readouterr().err
    assert "is an evaluation's folder; `prefsmith eval" in told and "going on" not in told


def test_a_run_that_is_no_evaluation_is_told_by_summary(tmp_path: Path) -> None:
    grid = {"model": "farm:a", "temperature": [0, 1], "top_p": [0.5, 1]}
    assert main(["run", recipe(tmp_path, 4, sample=grid), "-o", str(tmp_path / "out"), "--quiet"]) == 0
    with pytest.raises(UsageError, match="no evaluation of arms: `prefsmith summary`"):
        report_of(tmp_path / "out")
