"""Ways of the product to pair the answers of one run, and what tells their pairs apart.

Each is a grader and the pairing part of a recipe; the run is paired by it again, and nothing is asked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pairs import Row, asked

from prefsmith.judging.graders.demo import grade_demo, in_form

PARTIAL = Path(__file__).resolve().with_name("partial.py")


@dataclass(frozen=True)
class Strategy:
    """`told`: what the tables call it; `judge` and `pairing`: words of `prefsmith run`."""

    told: str
    judge: str
    pairing: tuple[str, ...]

    def words(self) -> str:
        """Its settings, for a table."""
        return " ".join(("--judge", self.judge.rpartition("/")[2], *self.pairing))


RANDOM = ("--strategy", "correct_incorrect")
WIDEST = ("--strategy", "best_worst")
RIGHT = ("--min-chosen", "1")
STRATEGIES = {
    "random": Strategy("correct_incorrect", "demo", RANDOM),
    "redrawn": Strategy("the same, drawn anew", "demo", (*RANDOM, "--set", "pair.seed=1000")),
    "widest": Strategy("best_worst", f"{PARTIAL}:form_counts", WIDEST),
    "widest_right": Strategy("best_worst, chosen right", f"{PARTIAL}:form_counts", (*WIDEST, *RIGHT)),
    "hardest": Strategy("hard negatives", f"{PARTIAL}:form_misleads", (*WIDEST, *RIGHT)),
    "lenient": Strategy("form is right enough", f"{PARTIAL}:form_counts", (*RANDOM, "--set", "pair.correct=0.3")),
}
"""The first is the one to beat. `redrawn` has the same rule and the same prompts: how far luck alone moves a model."""


def described(rows: list[Row], first: list[Row]) -> dict[str, Any]:
    """Shares of the pairs, by the grader `demo` whatever scored them, and what they have in common with `first`."""
    check = [json.loads(row["metadata"])["columns"]["check"] for row in rows]
    chosen, rejected = ([row[side][0]["content"] for row in rows] for side in ("chosen", "rejected"))
    sides = {asked(row): (row["chosen"], row["rejected"]) for row in first}
    n = len(rows)
    return {
        "n": n,
        "same_prompts": sum(asked(row) in sides for row in rows) / n,
        "same_pairs": sum(sides.get(asked(row)) == (row["chosen"], row["rejected"]) for row in rows) / n,
        "chosen_wrong": sum(not grade_demo(text, of) for text, of in zip(chosen, check, strict=True)) / n,
        "rejected_form": sum(in_form(text, of) for text, of in zip(rejected, check, strict=True)) / n,
        "longer_chars": (sum(map(len, chosen)) - sum(map(len, rejected))) / n,
    }
