"""Judges as a package would bring them by the entry point `prefsmith.judges`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prefsmith.judging.load import AskedModel, load_judge
from prefsmith.judging.verdicts import Step
from prefsmith.outcomes import Judged, Score
from prefsmith.records import Generated, Item, Request

BRIEF = load_judge("rubric-help", ("", ""), "", [])


def brief(model: AskedModel) -> Any:
    """The rubric of the shelf, its scores turned round."""
    judge = replace(BRIEF, name="brief", target=model.target, model=model.model, wire_model=model.wire_model)
    return Upside(judge)


class Upside:
    def __init__(self, judge: Any) -> None:
        self._judge = judge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._judge, name)

    def described(self) -> Any:
        return self._judge.described() | {"kind": "upside"}

    def ask(
        self, item: Item, candidates: Sequence[str], seed: int, step: Step = Step.ASK, previous: Generated | None = None
    ) -> Request:
        request: Request = self._judge.ask(item, candidates, seed, step, previous)
        return request

    def read(self, reply: Generated, n_shown: int = 1) -> Judged:
        found: Score = self._judge.read(reply, n_shown)
        return found if found.value is None else Score(1 - found.value)


def broken(model: AskedModel) -> Any:
    raise RuntimeError("no such thing")


def unfit(model: AskedModel) -> Any:
    return model
