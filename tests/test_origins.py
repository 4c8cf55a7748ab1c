"""Mistakes that show only after the recipe is whole are told with their line or flag, as those in its shape are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from prefsmith.cli import main

GOOD = """\
prompts: {path: p.jsonl}
endpoints:
  farm:
    urls:
      - http://127.0.0.1:9/v1
      - http://127.0.0.1:8/v1
    limits: {concurrency: 2}
sample:
  - {model: "farm:a", n: 2}
  - model: "farm:b"
judge:
  - contains
  - use: rubric-help
    model: "farm:c"
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p.jsonl").write_text('{"prompt": "Say it.", "reference": "it"}\n')


@pytest.mark.parametrize(
    ("was", "wrong", "told"),
    [
        ("farm:b", "frm:b", "r.yaml:10: sample.1.model: 'frm:b': there is no target 'frm'; did you mean 'farm'"),
        ("farm:c", "frm:c", "r.yaml:14: judge.1.model: 'frm:c': there is no target 'frm'"),
        ("- contains", "- contans", "r.yaml:12: judge.0.use: there is no grader or judge 'contans'; did you mean"),
        ("rubric-help", "rubric-hlp", "r.yaml:13: judge.1.use: there is no grader or judge 'rubric-hlp'"),
        ("rubric-help", "mine.toml", "r.yaml:13: judge.1.use: no judge file 'mine.toml'"),
        ('a", n: 2', 'a", n: 2, top_k: 5', "r.yaml:9: sample.0: farm:a does not know top_k"),
        ("8/v1", "9/v1/", "r.yaml:6: endpoints.farm.urls.1: 'http://127.0.0.1:9/v1/' stands here twice"),
        ("http://127.0.0.1:8", "gpu2:8", "r.yaml:6: endpoints.farm.urls.1: 'gpu2:8/v1' is no URL"),
        ("limits:", "ca_file: no.pem\n    limits:", "r.yaml:3: endpoints.farm: endpoint 'farm': there is no file"),
        ("p.jsonl", "q.jsonl", "r.yaml:1: prompts: 'q.jsonl' does not exist"),
        ("judge:", "prices: no.toml\njudge:", "r.yaml:11: prices: no price table 'no.toml'"),
        ("judge:", "budget: {usd: 1}\njudge:", "r.yaml:11: budget: the price of farm:a is unknown"),
    ],
)
def test_a_mistake_is_told_with_its_line(was: str, wrong: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert was in GOOD
    Path("r.yaml").write_text(GOOD.replace(was, wrong))
    for word in ("run", "plan"):
        assert main([word, "r.yaml", "-o", "out"]) == 2
        assert capsys.readouterr().err.startswith(f"prefsmith: {told}")
    assert not Path("out").exists()


def test_a_mistake_in_a_short_form_has_the_line_of_its_key(capsys: pytest.CaptureFixture[str]) -> None:
    Path("r.yaml").write_text("prompts: {path: p.jsonl}\nsample:\n  model: frm:a\njudge: contans\n")
    assert main(["run", "r.yaml"]) == 2
    assert "r.yaml:3: sample.0.model: 'frm:a'" in capsys.readouterr().err
    Path("r.yaml").write_text("prompts: {path: p.jsonl}\nsample:\n  model: scripted:a\njudge: contans\n")
    assert main(["run", "r.yaml"]) == 2
    assert "r.yaml:4: judge.0.use: there is no grader or judge 'contans'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["p.jsonl", "--gen", "frm:a", "--judge", "contains"], "--gen: sample.0.model: 'frm:a': there is no target"),
        (["p.jsonl", "--gen", "scripted:a", "--judge", "contans"], "--judge: judge.0.use: there is no grader"),
        (["r.yaml", "--set", "judge.1.model=frm:c"], "--set judge.1.model=frm:c: judge.1.model: 'frm:c': there is no"),
        (["r.yaml", "--endpoint", "farm=http://a:b@h/v1"], "--endpoint farm: endpoints.farm.urls.0: a URL must hold"),
        (["q.jsonl", "--n", "2", "--gen", "scripted:a", "--judge", "contains"], "'q.jsonl' does not exist"),
    ],
)
def test_a_mistake_in_a_flag_is_told_with_the_flag(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("r.yaml").write_text(GOOD)
    assert main(["run", *words]) == 2
    assert capsys.readouterr().err.startswith(f"prefsmith: {told}")


def test_two_keys_may_share_an_address(capsys: pytest.CaptureFixture[str]) -> None:
    recipe: Any = yaml.safe_load(GOOD)
    url = "http://127.0.0.1:9/v1"
    recipe["endpoints"]["farm"] |= {"urls": [url, url], "key_env": ["A_KEY", "B_KEY"]}
    Path("r.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["plan", "r.yaml"]) == 0, capsys.readouterr().err
    recipe["endpoints"]["farm"]["key_env"] = ["A_KEY", "A_KEY"]
    Path("r.yaml").write_text(yaml.safe_dump(recipe))
    assert main(["plan", "r.yaml"]) == 2


def test_a_plan_needs_no_key_and_says_what_the_run_needs(capsys: pytest.CaptureFixture[str]) -> None:
    text = GOOD.replace("limits:", "key_env: NO_SUCH_KEY\n    headers: {X-Gate: 'env:NO_GATE'}\n    limits:")
    Path("r.yaml").write_text(text)
    assert main(["plan", "r.yaml", "-o", "out"]) == 0
    out = capsys.readouterr().out
    assert out.count("takes its key from the variable NO_SUCH_KEY, which is not set; a run needs it") == 1
    assert "takes its header X-Gate from the variable NO_GATE, which is not set; a run needs it" in out
    assert main(["run", "r.yaml", "-o", "out"]) == 2
    assert "r.yaml:3: endpoints.farm: endpoint 'farm' takes its key from" in capsys.readouterr().err
