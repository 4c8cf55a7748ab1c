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
    "partial",
    "plot",
    "smollm2",
    "strategies",
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


def row(prompt: str, chosen: str, rejected: str, answer: int = 4) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "metadata": json.dumps({"columns": {"check": {"kind": "number", "answer": answer}}}),
    }


def test_sets_drawn_alike_are_equal_in_number_and_share_what_prompts_they_can(bench: Any) -> None:
    pairs = bench("pairs")
    few = [row(f"p{i}", "#### 4", "4") for i in range(0, 90, 2)]
    sets = {"few": few, "other": [row(pairs.asked(r), "#### 4", "5") for r in reversed(few)]}
    sets["all"] = [row(f"p{i}", "#### 4", "4") for i in range(90)]
    drawn = pairs.drawn_alike(sets, 20, 7)
    prompts = {name: [pairs.asked(r) for r in rows] for name, rows in drawn.items()}
    assert prompts["few"] == prompts["other"] and len(prompts["few"]) == 20
    of_few = {pairs.asked(r) for r in few}
    shared = [prompt for prompt in prompts["all"] if prompt in of_few]
    assert len(prompts["all"]) == 20 and shared == prompts["few"][: len(shared)]
    assert all(len(rows) == 45 for rows in pairs.drawn_alike(sets, 60, 7).values())


def test_pairs_of_a_strategy_are_described_by_the_demos_own_grader(bench: Any) -> None:
    described = bench("strategies").described
    first = [row("a", "#### 4", "4"), row("b", "#### 4", "#### 5")]
    assert described(first, first) == {
        "n": 2,
        "same_prompts": 1,
        "same_pairs": 1,
        "chosen_wrong": 0,
        "rejected_form": 0.5,
        "longer_chars": 2.5,
    }
    told = described([row("a", "#### 5", "4"), row("c", "#### 4", "4")], first)
    assert (told["same_prompts"], told["same_pairs"], told["chosen_wrong"]) == (0.5, 0, 0.5)


def test_graders_with_partial_credit_agree_on_right_answers_alone(bench: Any) -> None:
    partial, item = bench("partial"), {"check": {"kind": "number", "answer": 4}}
    texts = ("#### 4", "#### 5", "4")
    assert [partial.form_counts(text, item) for text in texts] == [1.0, 0.3, 0.0]
    assert [partial.form_misleads(text, item) for text in texts] == [1.0, 0.0, 0.3]


def test_every_strategy_is_a_recipe_and_an_arm_with_a_name(bench: Any) -> None:
    subject, page = bench("subjects").PAIRED, bench("page")
    assert subject.arms == tuple(subject.strategies) and set(subject.arms) <= set(page.ARMS)
    assert {arm for arm, over, _ in page.CLAIMS if over == page.FIRST} == set(subject.arms) - {page.FIRST}
    assert len({(of.judge, of.pairing) for of in subject.strategies.values()}) == len(subject.arms)


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
