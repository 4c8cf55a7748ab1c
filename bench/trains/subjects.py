"""Whom `data_trains.py` trains: where its prompts come from, how it is asked, marked and trained, at which sizes."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import smollm2
import toy
import wishes
from base import Base
from pairs import Row
from strategies import STRATEGIES, Strategy

from prefsmith.judging.graders.demo import in_form

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Sizes:
    """Prompts to sample, pairs to train on (at most), held-out prompts; the trainer's settings."""

    train: int
    pairs: int
    held_out: int
    lr: float
    epochs: int
    batch: int = 32
    beta: float = 0.1


@dataclass(frozen=True)
class Subject:
    """`base`: the model, which is made in a folder where it is not there; `chosen`: by which words of the command;
    `arms`: what is trained; `held_out`: set -> answers at the second temperature; `kinds`: of each row, what half of
    the labels are turned in each of; `strategies`: arms that get pairs of their own."""

    name: str
    suffix: str
    chosen: tuple[str, ...]
    judge: str
    base: Callable[[Path], Base]
    write_prompts: Callable[[Path, int, int, int], None]
    kinds: Callable[[list[Row], Path], list[Hashable]]
    held_out: Mapping[str, int]
    sizes: Mapping[str, Sizes]
    sampling: tuple[str, ...]
    answering: tuple[str, ...]
    pairing: tuple[str, ...]
    training: tuple[str, ...] = ()
    arms: tuple[str, ...] = ("flipped", "sft", "dpo")
    strategies: Mapping[str, Strategy] = field(default_factory=dict)


def _toy_kinds(rows: list[Row], folder: Path) -> list[Hashable]:
    prompts = (json.loads(line) for line in (folder / "train.jsonl").read_text(encoding="utf-8").splitlines())
    check = {row["prompt"]: row["check"] for row in prompts}
    return [
        (row["category"], in_form(row["rejected"][0]["content"], check[row["prompt"][-1]["content"]])) for row in rows
    ]


TINY = Subject(
    name="tiny",
    suffix="",
    chosen=(),
    judge="demo",
    base=lambda _: Base(ROOT / "tests/data/tiny", ROOT / "gen/prefsmith/data/tiny.gguf"),
    write_prompts=toy.write_prompts,
    kinds=_toy_kinds,
    held_out={"new": 4, "known": 1},
    sizes={
        "full": Sizes(train=1500, pairs=800, held_out=1000, lr=5e-4, epochs=1),
        "small": Sizes(train=350, pairs=256, held_out=300, lr=1e-3, epochs=2),
    },
    sampling=("--temps", "0.3,0.7,1.0,1.3", "--n", "2", "--max-tokens", "44"),
    answering=("--temps", "0,1", "--max-tokens", "44"),
    pairing=("--strategy", "correct_incorrect"),
)
BRIEF = replace(
    TINY,
    name="tiny-brief",
    suffix="-brief",
    chosen=("--subject", "tiny-brief"),
    held_out={"new": 4},
    sizes={name: replace(sizes, epochs=3) for name, sizes in TINY.sizes.items()},
    sampling=(*TINY.sampling, "--system", "Answer briefly."),
)
"""Pairs sampled under a system prompt that the trained model never sees: both sides of a pair share a habit, answers
without their work, which imitation copies and a comparison does not."""
PAIRED = replace(
    TINY,
    name="tiny-strategies",
    suffix="-strategies",
    chosen=("--subject", "tiny-strategies"),
    held_out={"new": 4},
    arms=tuple(STRATEGIES),
    strategies=STRATEGIES,
)
SMOLLM2 = Subject(
    name="smollm2",
    suffix="-smollm2",
    chosen=("--subject", "smollm2"),
    judge="constraints",
    base=smollm2.made,
    write_prompts=wishes.write_prompts,
    kinds=lambda rows, _: [row["category"] for row in rows],
    held_out={"new": 2, "known": 2},
    sizes={
        "full": Sizes(train=240, pairs=200, held_out=104, lr=5e-4, epochs=1, batch=8),
        "small": Sizes(train=96, pairs=64, held_out=64, lr=5e-4, epochs=1, batch=8),
    },
    sampling=("--temps", "0.3,0.5,0.7,0.9", "--n", "2", "--max-tokens", "64"),
    answering=("--temps", "0,0.7", "--max-tokens", "64"),
    pairing=("--min-chosen", "1"),
    training=("--lora", "16", "18"),
)
SUBJECTS = {subject.name: subject for subject in (TINY, BRIEF, PAIRED, SMOLLM2)}


def own(model: Path) -> Subject:
    """Any chat model in transformers' form, on the prompts of SmolLM2, for a machine with a GPU. Two of them need not
    fit there together: one is served at a time."""
    one_at_a_time = ("--set", "staged=true")
    return replace(
        SMOLLM2,
        name=model.name,
        suffix=f"-{model.name}",
        chosen=("--model", model.name),
        base=lambda _: Base(model),
        sampling=(*SMOLLM2.sampling, *one_at_a_time),
        answering=(*SMOLLM2.answering, *one_at_a_time),
        training=("--lora", "16", "1000"),  # all blocks
    )
