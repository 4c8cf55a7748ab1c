"""The commands as a user types them, over the scripted backend; each runs in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import pytest

RUN = (
    *("run", "p.txt", "--gen", "scripted:fake", "--temps", "0.5,1", "--n", "2", "--judge", "contains"),
    *("--set", "judge.0.text=quality=9", "-o", "out"),
)


def prefsmith(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "prefsmith", *words], cwd=folder, capture_output=True, text=True)


def answered(folder: Path, *words: str) -> str:
    done = prefsmith(folder, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run in out/."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "p.txt").write_text("".join(f"Say something about {n}.\n" for n in range(60)))
    assert "chosen" in answered(folder, *RUN)
    return folder


def test_a_run_ends_with_a_summary_and_repeats_to_the_same_one(place: Path) -> None:
    first = json.loads(answered(place, *RUN, "--json"))
    assert json.loads(answered(place, "summary", "out", "--json")) == first


def test_quiet_prints_no_result(place: Path) -> None:
    assert answered(place, *RUN, "--quiet") == ""


def test_show_says_how_many_pairs_are_printed(place: Path) -> None:
    assert "| rejected" not in answered(place, "summary", "out")
    assert answered(place, "summary", "out", "--show", "2").count("| rejected") == 2


def test_plan_of_a_finished_run_asks_nothing_and_changes_nothing(place: Path) -> None:
    before = (place / "out" / "ledger.db").read_bytes()
    assert answered(place, *("plan", *RUN[1:]), "--json")
    assert (place / "out" / "ledger.db").read_bytes() == before


def test_plan_offers_a_trial_and_the_run_goes_on_from_it(place: Path, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text((place / "p.txt").read_text())
    words = ("plan", *RUN[1:])
    assert "next: --try 16 asks the models about 16 prompts (free)" in answered(tmp_path, *words)
    assert not (tmp_path / "out").exists()
    told = answered(tmp_path, *words, "--try", "5")
    assert "told by what is finished here, 5 prompts, spread over the source" in told
    planned = json.loads(answered(tmp_path, *words, "--json"))
    assert (planned["prompts_finished"], planned["total"]["requests"]) == (5, 55 * 2)
    assert json.loads(answered(tmp_path, *RUN, "--json"))["cost"]["n_calls"] == 60 * 2


def test_a_whole_run_verifies_and_a_damaged_export_is_4(place: Path, tmp_path: Path) -> None:
    copytree(place, tmp_path, dirs_exist_ok=True)
    report = json.loads(answered(tmp_path, "verify", "out", "--json"))
    assert report["damages"] == []
    (exported,) = (tmp_path / "out").rglob("*.jsonl")
    exported.write_bytes(exported.read_bytes().replace(b"about", b"abuot", 1))
    damaged = prefsmith(tmp_path, "verify", "out")
    assert damaged.returncode == 4
    assert "damaged: " in damaged.stdout


def test_export_writes_where_it_is_told_and_says_so(place: Path, tmp_path: Path) -> None:
    written = json.loads(answered(place, "export", "out", "--to", "openai", "-o", str(tmp_path / "data"), "--json"))
    (one,) = written
    assert one["format"] == "openai"
    assert len((place / one["path"]).read_text().splitlines()) == one["n_rows"] > 0


def test_rejudging_samples_nothing_and_reaches_the_summary(place: Path, tmp_path: Path) -> None:
    copytree(place, tmp_path, dirs_exist_ok=True)
    before = json.loads(answered(place, "summary", "out", "--json"))
    words = ("judge", "out", "--judge", "contains", "--set", "judge.0.text=quality=1", "--json")
    again = json.loads(answered(tmp_path, *words))
    assert again["asked"] == before["asked"]
    assert again["cost"]["n_calls"] == before["cost"]["n_calls"]
    assert again["by_temperature"] != before["by_temperature"]


def test_explain_of_an_unknown_id_is_2(place: Path) -> None:
    done = prefsmith(place, "explain", "out", "ffffffffffff")
    assert done.returncode == 2
    assert "ffffffffffff" in done.stderr
