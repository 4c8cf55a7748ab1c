"""A reward model as a judge: the conversation with an answer at its end goes in, the raw number of its head comes out.

Invariant: no activation is applied, here or there. A sigmoid over rewards saturates, and then all margins are alike.
Its scores are unbounded (`logit`), and only those of one model are held against each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prefsmith.judging.show import defused
from prefsmith.judging.verdicts import Step
from prefsmith.outcomes import Judged, Score
from prefsmith.reasons import Reason
from prefsmith.records import Generated, Item, Json, Message, Request, Sampling

ASK_VERSION = 1
READ_VERSION = 1
NOTHING = Sampling(max_tokens=1)
"""Nothing is sampled; a request has to be worth something to those that count tokens."""


@dataclass(frozen=True, slots=True)
class RewardJudge:
    """`target` and `model` are the identity that is hashed, `wire_model` is what the server calls the model."""

    name: str
    target: str
    model: str
    wire_model: str
    kind: str = "reward"
    prompt: str = ""
    sampling: Sampling = NOTHING
    reads: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    logprobs: bool = False
    needs_logprobs: bool = False
    chats: bool = False
    orders: Literal["both", "seeded"] = "both"
    samples: int = 1
    shuffles: int = 1
    scale: Literal["unit", "logit"] = "logit"
    lister: None = None
    read_version: int = READ_VERSION

    def described(self) -> Json:
        return {"kind": self.kind, "ask_version": ASK_VERSION, "target": self.target, "model": self.model}

    def ask(
        self, item: Item, candidates: Sequence[str], seed: int, step: Step = Step.ASK, previous: Generated | None = None
    ) -> Request:
        """The conversation and one answer; the same at every step, for there is nothing to draw or to repair."""
        del seed, step, previous
        (candidate,) = candidates
        n_broken = 0
        messages: list[Message] = []
        for message in (*item.prompt.messages, Message(role="assistant", content=candidate)):
            text, n = defused(message["content"] or "")
            messages.append({**message, "content": text} if n else message)
            n_broken += n
        return Request(
            model=self.wire_model,
            messages=tuple(messages),
            sampling=self.sampling,
            kind="classify",
            tools=item.prompt.tools,
            n_control_tokens=n_broken,
        )

    def read(self, reply: Generated, n_shown: int = 1) -> Judged:
        """The head's number as it is; none, or none that is finite, is no score."""
        del n_shown
        return read_reward(reply)


def read_reward(reply: Generated) -> Score:
    if reply.value is None or not math.isfinite(reply.value):
        return Score(reason=Reason.GRADER_ERROR, parts={"error": f"the model's number is {reply.value!r}"})
    return Score(reply.value)
