"""The data trains a better model: the bench at a size for every day, and its own rules."""

from __future__ import annotations

import importlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
MODULES = (
    "data_trains",
    "gguf_like",
    "page",
    "pairs",
    "plot",
    "smollm2",
    "subjects",
    "tasks",
    "toy",
    "wishes",
    "words",
)


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """Imports a module of the bench, a folder of programs and not a package; its plain names are forgotten after."""
    before = list(sys.path)
    sys.path[:0] = [str(BENCH), str(BENCH / "trains")]
    try:
        yield importlib.import_module
    finally:
        sys.path[:] = before
        for name in MODULES:
            sys.modules.pop(name, None)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_held_out_prompts_share_no_text_and_no_template_with_the_training(bench: Any, tmp_path: Path) -> None:
    toy, tasks = bench("toy"), bench("tasks")
    for seed in (0, 1):
        toy.write_prompts(tmp_path, seed, 150, 100)
        rows = {name: read(tmp_path / f"{name}.jsonl") for name in ("train", "new", "known")}
        assert {name: len(of) for name, of in rows.items()} == {"train": 150, "new": 100, "known": 100}
        assert len({row["prompt"] for of in rows.values() for row in of}) == 350
        assert {tasks.split(row["prompt"]) for row in rows["train"]} == {"demo"}
        assert {tasks.split(row["prompt"]) for row in rows["new"] + rows["known"]} == {"eval"}
        # A template is told by its first words, or by those that stand beside a name: no text of one fits the other.
        money = {
            name: {row["prompt"].startswith("A meal") for row in of if row["category"] == "money"}
            for name, of in rows.items()
        }
        assert money["train"] == money["known"] == {seed == 0} and money["new"] == {seed == 1}


def test_the_control_turns_half_of_the_labels_of_each_kind(bench: Any) -> None:
    flipped = bench("pairs").flipped
    rows = [{"category": f"c{i % 5}", "chosen": f"right {i}", "rejected": f"wrong {i}"} for i in range(203)]
    out = flipped(rows, [row["category"] for row in rows], 3)
    turned = Counter(a["category"] for a, b in zip(rows, out, strict=True) if a != b)
    kept = Counter(a["category"] for a, b in zip(rows, out, strict=True) if a == b)
    assert all(abs(turned[c] - kept[c]) <= 1 for c in kept) and len(kept) == 5
    assert all({a["chosen"], a["rejected"]} == {b["chosen"], b["rejected"]} for a, b in zip(rows, out, strict=True))


def test_wishes_hold_out_topics_and_conditions(bench: Any, tmp_path: Path) -> None:
    wishes = bench("wishes")
    wishes.write_prompts(tmp_path, 0, 240, 104)
    topics = {
        name: {row["id"].partition("-")[2] for row in read(tmp_path / f"{name}.jsonl")}
        for name in ("train", "new", "known")
    }
    kinds = {name: {row["category"] for row in read(tmp_path / f"{name}.jsonl")} for name in topics}
    assert not topics["train"] & (topics["new"] | topics["known"])
    assert kinds["train"] == kinds["known"] and not kinds["train"] & kinds["new"]
    from prefsmith.judging.graders.constraints import prepare_constraints

    for _, check in (*wishes.TRAINED.values(), *wishes.HELD_OUT.values()):
        assert prepare_constraints({"check": check})("Some words, said twice.").value is not None


@pytest.mark.trainers
def test_the_base_written_as_a_tuned_model_is_the_shipped_file(bench: Any, tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    root = BENCH.parent
    weights = load_file(root / "tests/data/tiny/model.safetensors")
    config = json.loads((root / "tests/data/tiny/config.json").read_text())
    shipped = root / "gen/prefsmith/data/tiny.gguf"
    bench("gguf_like").write_like(
        shipped, lambda name: weights[name].astype("float32"), config, tmp_path / "again.gguf", q8=False
    )
    assert (tmp_path / "again.gguf").read_bytes() == shipped.read_bytes()


@pytest.mark.trainers
def test_pairs_train_a_better_model_and_turned_labels_do_not(bench: Any, tmp_path: Path) -> None:
    tiny = replace(bench("subjects").TINY, arms=("flipped", "dpo"), held_out={"new": 2})
    results = bench("data_trains").carried_out(tiny, "small", [0], tmp_path)
    table = bench("page").page(results)
    for at in (0, 1):
        (gain,) = bench("page").differences(results, "new", at, "dpo", "base")
        (control,) = bench("page").differences(results, "new", at, "flipped", "base")
        assert gain["interval"][0] > 0.05, table
        assert control["value"] < 0.05, table
    assert "<svg" in bench("plot").plot(results)
