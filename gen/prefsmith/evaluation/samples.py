"""The answers of the arms beside each other, item by item: what the figures are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import nsmallest

from prefsmith.evaluation.arms import Arm, arms_of
from prefsmith.evaluation.columns import Marking, mark
from prefsmith.evaluation.report import marking_of
from prefsmith.folder import Folder
from prefsmith.outcomes import Record
from prefsmith.records import Json


def samples_of(folder: Folder) -> Iterator[Json]:
    """One row an item and temperature."""
    arms, marking = arms_of(folder.recipe, folder.view.plan), marking_of(folder)
    for record in folder.records():
        for temperature in arms[0].samplers:
            yield {
                "id": record.id,
                "source_id": record.source_id,
                "prompt": list(record.item.prompt.messages),
                "category": record.item.category,
                "reference": record.item.reference,
                "temperature": temperature,
                "answers": {arm.name: _answers(record, arm, temperature, marking) for arm in arms},
            }


def _answers(record: Record, arm: Arm, temperature: float, marking: Marking) -> list[Json]:
    return [
        {"text": s.text, "right": mark(s, marking), "finish_reason": s.finish_reason, "n_tokens": s.n_tokens}
        for s in record.samples
        if s.key[0] == arm.samplers[temperature]
    ]


def shown(rows: Iterable[Json], n: int) -> list[Json]:
    """At most `n` rows to look at: first those on which the arms differ, better or worse as it comes.

    Ids are hashes, so their order is a draw that knows nothing of the answers.
    """
    return nsmallest(n, rows, key=lambda row: (not _differ(row), row["temperature"], row["id"])) if n else []


def beside(row: Json) -> tuple[str, str, dict[str, str]]:
    """A row's title, what was asked, and the first answer of each arm under a name that says how it was marked."""
    marks = {True: "right", False: "wrong", None: "no verdict"}
    texts = {f"{arm}: {marks[of[0]['right']]}": of[0]["text"] for arm, of in row["answers"].items() if of}
    return f"{row['id'][:8]} · temperature {row['temperature']:g}", row["prompt"][-1].get("content") or "", texts


def _differ(row: Json) -> bool:
    shares = {sum(a["right"] is True for a in of) / len(of) if of else None for of in row["answers"].values()}
    return len(shares) > 1
