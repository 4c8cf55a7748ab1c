"""What the arms answered, as columns of numbers: one row an item, one column an arm, at one temperature.

An item's figure is the mean of its answers, so that arms with other n are held against each other fairly. A cut-off or
empty answer is wrong; an answer without a verdict is no answer, and an item that some arm lacks is left out for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from prefsmith.agreement.votes import Ids, Reals
from prefsmith.evaluation.arms import Arm
from prefsmith.outcomes import Record, Sample
from prefsmith.reasons import Reason
from prefsmith.records import Json

Form = Callable[[str, Mapping[str, Json]], bool]


class Answer(NamedTuple):
    """One completion, or the mean over those of an item. What nobody marks is 0; `tokens` is NaN where the server did
    not say."""

    passed: float
    formed: float
    cut: float
    tokens: float
    chars: float


class Marking(NamedTuple):
    """How an answer is marked. `judge`: the grader's id, None where none marks; `form`: None where it knows of no
    form."""

    judge: int | None
    correct: float
    form: Form | None


@dataclass(slots=True)
class Columns:
    """All items at one temperature. `n_without`: answers of each arm that have no verdict."""

    arms: Sequence[Arm]
    temperature: float
    prompts: list[str] = field(default_factory=list)
    categories: list[str | None] = field(default_factory=list)
    means: list[list[Answer]] = field(default_factory=list)  # [item][arm]
    n_answers: list[int] = field(default_factory=list)
    n_without: list[int] = field(default_factory=list)
    n_left_out: int = 0

    def __post_init__(self) -> None:
        self.n_answers, self.n_without = [0] * len(self.arms), [0] * len(self.arms)

    def add(self, record: Record, marking: Marking) -> None:
        by_arm = []
        for i, arm in enumerate(self.arms):
            samples = [s for s in record.samples if s.key[0] == arm.samplers[self.temperature]]
            answers = [a for s in samples if (a := answer_of(s, record, marking)) is not None]
            self.n_without[i] += len(samples) - len(answers)
            by_arm.append(answers)
        if not all(by_arm):
            self.n_left_out += 1
            return
        for i, answers in enumerate(by_arm):
            self.n_answers[i] += len(answers)
        self.prompts.append(record.prompt_id)
        self.categories.append(record.item.category)
        self.means.append([_mean(answers) for answers in by_arm])

    def column(self, name: str, arm: int) -> Reals:
        at = Answer._fields.index(name)
        return np.array([row[arm][at] for row in self.means], dtype=np.float64)

    def clusters(self) -> Ids:
        """The prompt of each item as a number: items of one prompt share its answers."""
        return np.unique(np.array(self.prompts, dtype=np.str_), return_inverse=True)[1].astype(np.int64)


def columns_of(records: Iterable[Record], arms: Sequence[Arm], marking: Marking) -> tuple[list[Columns], int]:
    """The columns by temperature, and how many items are left out because something is still owed of them."""
    tables = [Columns(arms, t) for t in arms[0].samplers]
    n_incomplete = 0
    for record in records:
        if record.reason is Reason.INCOMPLETE:
            n_incomplete += 1
            continue
        for table in tables:
            table.add(record, marking)
    return tables, n_incomplete


def answer_of(sample: Sample, record: Record, marking: Marking) -> Answer | None:
    """None without a verdict: what could not be marked is neither right nor wrong."""
    passes = mark(sample, marking)
    if passes is None and marking.judge is not None:
        return None
    formed = marking.form is not None and _whole(sample) and marking.form(sample.text, record.item.read(None))
    tokens = float("nan") if sample.n_tokens is None else float(sample.n_tokens)
    return Answer(
        float(passes or 0), float(formed), float(sample.gate is Reason.TRUNCATED), tokens, float(sample.n_chars)
    )


def mark(sample: Sample, marking: Marking) -> bool | None:
    """Right, wrong, or None without a verdict."""
    if marking.judge is None:
        return None
    if not _whole(sample):
        return False
    value = sample.scores.get(marking.judge)
    return None if value is None or isinstance(value, Reason) else value >= marking.correct


def _whole(sample: Sample) -> bool:
    """No gate holds it back, but that it says what another answer says."""
    return sample.gate in (None, Reason.IDENTICAL)


def _mean(answers: Sequence[Answer]) -> Answer:
    return Answer(*(sum(column) / len(answers) for column in zip(*answers, strict=True)))
