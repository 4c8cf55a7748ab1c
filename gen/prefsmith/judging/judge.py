"""What the stages need of a judge that asks a model, whoever made it: a judge file, or a package's entry point.

Invariant: a judge does no input or output. It does not know a plan, a ledger or a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from prefsmith.judging.verdicts import Step
from prefsmith.outcomes import Judged
from prefsmith.records import Generated, Item, Json, Request, Sampling


class LeafJudge(Protocol):
    """What stages need of a judge that asks a model: those of files are `ModelJudge`, others come as entry points.

    `orders`, `samples`, `shuffles` say which calls a stage makes; they change no answer and stand in no key.
    `prompt`: all that it says beside the conversation and the answers; `scale`: of its scores. `lister`: the
    judge that writes the questions which this one answers.
    """

    @property
    def name(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def wire_model(self) -> str: ...
    @property
    def sampling(self) -> Sampling: ...
    @property
    def reads(self) -> tuple[str, ...]: ...
    @property
    def needs(self) -> tuple[str, ...]: ...
    @property
    def needs_logprobs(self) -> bool: ...
    @property
    def logprobs(self) -> bool: ...
    @property
    def orders(self) -> Literal["both", "seeded"]: ...
    @property
    def samples(self) -> int: ...
    @property
    def shuffles(self) -> int: ...
    @property
    def scale(self) -> Literal["unit", "logit"]: ...
    @property
    def lister(self) -> LeafJudge | None: ...
    @property
    def prompt(self) -> str: ...
    @property
    def read_version(self) -> int: ...

    def described(self) -> Json: ...

    def ask(
        self, item: Item, candidates: Sequence[str], seed: int, step: Step = Step.ASK, previous: Generated | None = None
    ) -> Request: ...

    def read(self, reply: Generated, n_shown: int = 1) -> Judged: ...
