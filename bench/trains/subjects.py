"""Whom `data_trains.py` trains: where its prompts come from, how it is asked, marked and trained, at which sizes."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path

import toy
from pairs import Row

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
    """`base`: the folder for the trainers and the TARGET:MODEL for `eval`; `held_out`: set -> answers at T=1;
    `kinds`: what half of the labels are turned in each of."""

    name: str
    suffix: str
    gen: str
    judge: str
    base: Callable[[Path], tuple[Path, str]]
    write_prompts: Callable[[Path, int, int, int], None]
    kinds: Callable[[list[Row], Path], list[Hashable]]
    held_out: Mapping[str, int]
    sizes: Mapping[str, Sizes]
    sampling: tuple[str, ...]
    answering: tuple[str, ...]
    pairing: tuple[str, ...]
    training: tuple[str, ...] = ()


def _toy_kinds(rows: list[Row], folder: Path) -> list[Hashable]:
    prompts = (json.loads(line) for line in (folder / "train.jsonl").read_text(encoding="utf-8").splitlines())
    check = {row["prompt"]: row["check"] for row in prompts}
    return [
        (row["category"], in_form(row["rejected"][0]["content"], check[row["prompt"][-1]["content"]])) for row in rows
    ]


TINY = Subject(
    name="tiny",
    suffix="",
    gen="embedded:tiny",
    judge="demo",
    base=lambda _: (ROOT / "tests/data/tiny", "embedded:tiny"),
    write_prompts=toy.write_prompts,
    kinds=_toy_kinds,
    held_out={"new": 4, "known": 1},
    sizes={
        "full": Sizes(train=1500, pairs=800, held_out=1000, lr=5e-4, epochs=1),
        "small": Sizes(train=350, pairs=256, held_out=300, lr=1e-3, epochs=2),
    },
    sampling=("--temps", "0.3,0.7,1.0,1.3", "--n", "2", "--max-tokens", "44"),
    answering=("--max-tokens", "44"),
    pairing=("--strategy", "correct_incorrect"),
)
SUBJECTS: dict[str, Subject] = {"tiny": TINY}
