"""What a trainer gets of a run's exported pairs: some of them, as they are or with half of their labels turned."""

from __future__ import annotations

import json
import random
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def drawn_pairs(exported: Sequence[Row], n: int, seed: int) -> list[Row]:
    """At most `n` rows of a TRL file, in a drawn order."""
    rows = list(exported)
    random.Random(seed).shuffle(rows)
    return rows[:n]


def drawn_alike(sets: Mapping[str, list[Row]], n: int, seed: int) -> dict[str, list[Row]]:
    """The first pairs of each set by one drawn order of all prompts: `n` of each, or as many as the smallest has.

    Sets that pair the same prompts so keep the same ones, and others share as many as they can.
    """
    prompts = sorted({asked(row) for rows in sets.values() for row in rows})
    random.Random(seed).shuffle(prompts)
    place = {prompt: i for i, prompt in enumerate(prompts)}
    n = min(n, *map(len, sets.values()))
    return {name: sorted(rows, key=lambda row: place[asked(row)])[:n] for name, rows in sets.items()}


def asked(row: Row) -> str:
    """The prompt's last message, which no other prompt has."""
    return str(row["prompt"][-1]["content"])


def flipped(rows: list[Row], kinds: Sequence[Hashable], seed: int) -> list[Row]:
    """The control: chosen and rejected change places in every other pair of each kind (`kinds`: of each row).

    A kind is the category and whether the rejected answer has the right form. By category alone, the luck of which
    labels were turned moved the control by up to nine points: the form is the one thing that these pairs teach, and so
    many more of its labels on one side teach it still.
    """
    rng = random.Random(seed)
    turn = {kind: rng.random() < 0.5 for kind in dict.fromkeys(kinds)}
    turned: set[int] = set()
    for i, kind in enumerate(kinds):
        if turn[kind]:
            turned.add(i)
        turn[kind] = not turn[kind]
    return [
        {**row, "chosen": row["rejected"], "rejected": row["chosen"]} if i in turned else row
        for i, row in enumerate(rows)
    ]


def read_rows(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def write_rows(rows: list[Row], path: Path) -> None:
    keep = ("prompt", "chosen", "rejected")
    lines = (json.dumps({k: row[k] for k in keep}, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")
