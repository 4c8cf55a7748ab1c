"""The answers of the arms beside each other, item by item: what the figures are made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from heapq import nsmallest

from prefsmith.evaluation.arms import Arm, arms_of
from prefsmith.evaluation.columns import Marking, mark
from prefsmith.evaluation.duels import UNASKED, Met, meetings_of
from prefsmith.evaluation.report import marking_of
from prefsmith.folder import Folder
from prefsmith.outcomes import Record
from prefsmith.records import Json


def samples_of(folder: Folder) -> Iterator[Json]:
    """One row an item and temperature. `right` is there where a grader marks, `duels` where a judge compares: of each
    later arm's answers with the first arm's of the same index."""
    arms, marking = arms_of(folder.recipe, folder.view.plan), marking_of(folder)
    for record, meetings in zip(folder.records(), meetings_of(folder), strict=True):
        for place, temperature in enumerate(arms[0].samplers):
            row = {
                "id": record.id,
                "source_id": record.source_id,
                "prompt": list(record.item.prompt.messages),
                "category": record.item.category,
                "reference": record.item.reference,
                "temperature": temperature,
                "answers": {arm.name: _answers(record, arm, temperature, marking) for arm in arms},
            }
            if folder.view.plan.confirm is not None:
                row["duels"] = {
                    arm.name: [_said(met) for met in meetings if (met.arm, met.place) == (i, place)]
                    for i, arm in enumerate(arms[1:], 1)
                }
            yield row


def _answers(record: Record, arm: Arm, temperature: float, marking: Marking) -> list[Json]:
    return [
        {
            "text": s.text,
            **({} if marking.judge is None else {"right": mark(s, marking)}),
            "finish_reason": s.finish_reason,
            "n_tokens": s.n_tokens,
        }
        for s in record.samples
        if s.key[0] == arm.samplers[temperature]
    ]


def _said(met: Met) -> Json:
    return {"index": met.i, "outcome": met.outcome, "shown_first": met.first, "shown_second": met.second}


def shown(rows: Iterable[Json], n: int) -> list[Json]:
    """At most `n` rows to look at: first those on which the arms differ, better or worse as it comes.

    Ids are hashes, so their order is a draw that knows nothing of the answers.
    """
    return nsmallest(n, rows, key=lambda row: (not _differ(row), row["temperature"], row["id"])) if n else []


def beside(row: Json) -> tuple[str, str, dict[str, str]]:
    """A row's title with what the judge said, what was asked, and the first answer of each arm under a name that says
    how it was marked."""
    title = [row["id"][:8], f"temperature {row['temperature']:g}"]
    title += [f"{arm} {_words(of[0])}" for arm, of in row.get("duels", {}).items() if of and of[0]["index"] == 0]
    texts = {f"{arm}{_marked(of[0])}": of[0]["text"] for arm, of in row["answers"].items() if of}
    return " · ".join(title), row["prompt"][-1].get("content") or "", texts


def _marked(answer: Json) -> str:
    marks = {True: ": right", False: ": wrong", None: ": no verdict"}
    return marks[answer["right"]] if "right" in answer else ""


def _words(said: Json) -> str:
    """What became of an arm's answer beside the first arm's."""
    if said["outcome"] in UNASKED:
        return UNASKED[said["outcome"]]
    first, second = (said[place] or "no verdict" for place in ("shown_first", "shown_second"))
    return f"{first} in both orders" if first == second else f"{first} when shown first, {second} when shown second"


def _differ(row: Json) -> bool:
    if not all("right" in a for of in row["answers"].values() for a in of):
        return any(one["outcome"].startswith(("won", "lost")) for of in row["duels"].values() for one in of)
    shares = {sum(a["right"] is True for a in of) / len(of) if of else None for of in row["answers"].values()}
    return len(shares) > 1
