"""The decisions route (openai 3.52, `client.decisions`): a judge's request as one question, its answer as a verdict's
tokens. Nothing is sampled and nothing has to be parsed; the shapes are `openai.types.decision`'s.

What comes back reads like a chat reply whose last token has its alternatives, so that judges know one way to read. A
server that has the route is declared (`can: {decisions: true}`). Nothing here opens a connection.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefsmith.errors import CallFailed
from prefsmith.reasons import Reason
from prefsmith.records import Generated, Json, Message, Reply, Request, Token, Usage

PATH = "/decisions"
_SCORE = "The grade, by the scale and the rules that are given."
_CHOICE = "The verdict, by the rules that are given."
_PREDICATE = "The verdict, by the rules that are given, is {yes}."


class _Slim(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Predicate(_Slim):
    type: Literal["predicate"]
    probability: float


class _Chance(_Slim):
    probability: float
    value: str | bool | int
    label: str | None = None


class _Choice(_Slim):
    type: Literal["choice", "score"]
    probabilities: list[_Chance]


class _Refusal(_Slim):
    type: Literal["refusal"]


class _Details(_Slim):
    cached_tokens: int | None = None


class _Usage(_Slim):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None


class _Decision(_Slim):
    answers: list[Annotated[_Predicate | _Choice | _Refusal, Field(discriminator="type")]]
    model: str | None = None
    usage: _Usage | None = None


def body_of(request: Request) -> dict[str, Json]:
    return {
        "model": request.model,
        "input": [{"role": m["role"], "content": m["content"] or ""} for m in request.messages],
        "questions": [_question(request.labels)],
    }


def _question(labels: tuple[str, ...]) -> dict[str, Json]:
    if all(label.isdigit() for label in labels):
        return {"type": "score", "instructions": _SCORE, "levels": [{"label": label} for label in labels]}
    if labels == ("YES", "NO"):
        return {"type": "predicate", "instructions": _PREDICATE.format(yes=labels[0])}
    return {"type": "choice", "instructions": _CHOICE, "choices": [{"value": label} for label in labels]}


def reply_of(raw: bytes, request: Request, request_id: str | None = None) -> Reply:
    """Raises CallFailed for what is no answer to the one question, or names what was not asked about."""
    try:
        read = _Decision.model_validate_json(raw)
    except ValidationError:
        raise _unusable("HTTP 200 without a decision: does this server have /v1/decisions?", request_id) from None
    if len(read.answers) != 1:
        raise _unusable(f"{len(read.answers)} answers to one question", request_id)
    usage, told = Usage(), read.usage
    if told is not None:
        cached = told.input_tokens_details.cached_tokens if told.input_tokens_details else None
        usage = Usage(told.input_tokens, cached, told.output_tokens)
    generated = _generated(read.answers[0], request.labels, request_id)
    return Reply((generated,), usage, read.model, None, request_id, 200)


def _generated(answer: _Predicate | _Choice | _Refusal, labels: tuple[str, ...], request_id: str | None) -> Generated:
    if isinstance(answer, _Refusal):
        message: Message = {"role": "assistant", "content": "", "refusal": "the model declined to decide"}
        return Generated(0, message, "stop", 0)
    if isinstance(answer, _Predicate):
        chances = {labels[0]: answer.probability, labels[-1]: 1 - answer.probability}
    else:
        chances = {one.label or str(one.value): one.probability for one in answer.probabilities}
    if not chances or not chances.keys() <= set(labels) or not all(0 <= p <= 1 for p in chances.values()):
        raise _unusable(f"the decision is over {sorted(chances)}, not over {list(labels)}", request_id)
    logprobs = {f" {label}": math.log(p) if p > 0 else -math.inf for label, p in chances.items()}
    # JSON, in which replies are kept, has no infinity.
    top = tuple((text, max(p, -9999.0)) for text, p in logprobs.items())
    said, logprob = max(top, key=lambda one: one[1])
    text = f"VERDICT:{said}"
    return Generated(
        0,
        {"role": "assistant", "content": text},
        "stop",
        0,
        tokens=(Token("VERDICT:", 0.0), Token(said, logprob, top)),
    )


def _unusable(detail: str, request_id: str | None) -> CallFailed:
    return CallFailed(Reason.BAD_REQUEST, detail, http_status=200, request_id=request_id, stops_endpoint=True)
