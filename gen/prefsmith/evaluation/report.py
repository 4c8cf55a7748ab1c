"""The report of an evaluation as JSON: each arm's rates and the differences between arms, with 95 % intervals.

All intervals of one temperature come from the same resampled prompts, so a difference between two arms is paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Final

import numpy as np

from prefsmith.agreement.intervals import REPLICATES, Resamples, clustered, percentiles, resampled, wilson
from prefsmith.agreement.votes import Ids, Reals
from prefsmith.evaluation.arms import Arm, arms_of
from prefsmith.evaluation.columns import Columns, Marking, columns_of
from prefsmith.evaluation.duels import duels_of
from prefsmith.folder import Folder
from prefsmith.judging.graders import FORM
from prefsmith.records import Json

SEED: Final = 0
"""Of the bootstrap: the same report every time."""
_RATES = ("passed", "formed", "cut")


def report_of(path: Path) -> Json:
    """Everything that the page tells, from what the folder holds now; works on a run that is still being written."""
    with Folder(path) as folder:
        arms, marking = arms_of(folder.recipe, folder.view.plan), marking_of(folder)
        tables, n_incomplete = columns_of(folder.records(), arms, marking)
        samplers, met = folder.samplers(), duels_of(folder, arms)
        return {
            "folder": str(path),
            "prompts": folder.recipe.prompts.path,
            "grader": None if marking.judge is None else folder.judges()[marking.judge],
            "judge": None if (judge := folder.view.plan.confirm) is None else judge.name,
            "correct": marking.correct,
            "seed": folder.recipe.seed,
            "items": {"n": folder.view.selection.n_items, "incomplete": n_incomplete},
            "arms": [
                {"arm": arm.name, "model": arm.model, "sampled": samplers[next(iter(arm.samplers.values()))]}
                for arm in arms
            ],
            "bootstrap": {"replicates": REPLICATES, "seed": SEED, "of": "prompts"},
            "temperatures": [{**_at(table, marking), "duels": duels} for table, duels in zip(tables, met, strict=True)],
        }


def marking_of(folder: Folder) -> Marking:
    """By the grader, if there is one."""
    stage, correct = next(iter(folder.view.plan.stages), None), folder.view.plan.rule.correct
    return Marking(None, correct, None) if stage is None else Marking(stage.judge, correct, FORM.get(stage.name))


def _at(table: Columns, marking: Marking) -> Json:
    arms, n = table.arms, len(table.means)
    ones = np.ones(n)
    columns = {(name, i): table.column(name, i) for name in _RATES for i in range(len(arms))}
    place = {key: 1 + at for at, key in enumerate(columns)}
    draws = resampled(table.clusters(), [ones, *columns.values()], SEED)
    rates = _Rates(columns, place, draws, table.clusters(), alone=n == draws.n_clusters)
    marked, formed = marking.judge is not None, marking.form is not None
    return {
        "temperature": table.temperature,
        "n_items": n,
        "n_prompts": draws.n_clusters,
        "left_out": table.n_left_out,
        "arms": [_arm(table, i, rates, marked, formed) for i in range(len(arms))],
        "differences": [
            _difference(arms, rates, later, earlier, formed)
            for earlier, later in combinations(range(len(arms)), 2)
            if marked
        ],
        "categories": _categories(table) if marked else {},
    }


class _Rates:
    """Means over items and their bootstrap draws. `alone`: every item has a prompt of its own."""

    def __init__(
        self, columns: dict[tuple[str, int], Reals], place: dict[tuple[str, int], int], draws: Resamples, cluster: Ids,
        *, alone: bool,
    ) -> None:  # fmt: skip
        self._columns, self._place, self._draws, self._cluster, self._alone = columns, place, draws, cluster, alone

    def rate(self, name: str, arm: int) -> Json:
        column = self._columns[name, arm]
        if not len(column):
            return {"value": None, "interval": None}
        value, n = float(column.mean()), self._draws.n_clusters
        # Prompts are independent; those whose answers are all right or all wrong are draws of one share.
        whole = self._alone and bool(np.all((column == 0) | (column == 1)))
        interval = wilson(float(column.sum()), n) if whole else clustered(value, self._drawn(name, arm), n)
        return {"value": value, "interval": interval}

    def given(self, name: str, condition: str, arm: int) -> Json:
        top, bottom = self._columns[name, arm].sum(), self._columns[condition, arm].sum()
        value = float(top / bottom) if bottom else None
        if value is None:
            return {"value": None, "interval": None}
        drawn = self._draws.shares(self._place[name, arm], self._place[condition, arm])
        n = len(np.unique(self._cluster[self._columns[condition, arm] > 0]))
        return {"value": value, "interval": clustered(value, drawn, n)}

    def difference(self, name: str, arm: int, over: int) -> Json:
        one, other = self._columns[name, arm], self._columns[name, over]
        if not len(one):
            return {"value": None, "interval": None}
        drawn = self._drawn(name, arm) - self._drawn(name, over)
        return {"value": float(one.mean() - other.mean()), "interval": percentiles(drawn)}

    def better(self, name: str, arm: int, over: int) -> int:
        return int((self._columns[name, arm] > self._columns[name, over]).sum())

    def _drawn(self, name: str, arm: int) -> Reals:
        return self._draws.shares(self._place[name, arm], 0)


def _arm(table: Columns, i: int, rates: _Rates, marked: bool, formed: bool) -> Json:
    tokens, chars = table.column("tokens", i), table.column("chars", i)
    return {
        "arm": table.arms[i].name,
        "n_answers": table.n_answers[i],
        "without_verdict": table.n_without[i],
        "pass": rates.rate("passed", i) if marked else None,
        "form": rates.rate("formed", i) if formed else None,
        "pass_given_form": rates.given("passed", "formed", i) if formed else None,
        "cut_off": rates.rate("cut", i),
        "mean_tokens": float(tokens.mean()) if len(tokens) and not np.isnan(tokens).any() else None,
        "mean_chars": float(chars.mean()) if len(chars) else None,
    }


def _difference(arms: Sequence[Arm], rates: _Rates, arm: int, over: int, formed: bool) -> Json:
    return {
        "arm": arms[arm].name,
        "over": arms[over].name,
        "pass": rates.difference("passed", arm, over),
        "form": rates.difference("formed", arm, over) if formed else None,
        "better": rates.better("passed", arm, over),
        "worse": rates.better("passed", over, arm),
    }


def _categories(table: Columns) -> Json:
    """Pass rates by category: what got better on the whole may have got worse somewhere."""
    names = np.array([c or "" for c in table.categories])
    passed = [table.column("passed", i) for i in range(len(table.arms))]
    return {
        str(name): {"n_items": int((names == name).sum()), "pass": [float(p[names == name].mean()) for p in passed]}
        for name in np.unique(names)
        if name
    }
