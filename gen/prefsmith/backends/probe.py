"""Finding out what a model can do: a tiny request that asks for everything, and one that repeats it.

A refusal names what is to be left out and costs nothing; the next request goes on without it. Nothing is concluded
from a model's name. It does not know how a request is sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from prefsmith.backends.can import Can, MaxTokensField
from prefsmith.backends.failures import refused_field
from prefsmith.backends.wire import Server, sampling_fields
from prefsmith.records import Json, Request, Sampling, Usage

if TYPE_CHECKING:
    import openai

    from prefsmith.backends.transport import Answer

Post = Callable[[dict[str, Json]], Awaitable["Answer"]]
"""Sends a body; raises openai.APIStatusError for what is no 2xx."""

N_TOKENS = 16
MORE_TOKENS = 512
"""For a model whose thoughts alone pass the small cap, and whose server calls that an error."""
SEED = 20_240_229
_CELL = Sampling(temperature=0.7, max_tokens=N_TOKENS)
_UNKNOWN = "prefsmith_unknown_field"
_ASKED = "Write a line about a town, an animal and a colour of your choice."
N_ANSWERED = 2
"""Most requests of one probe that are answered, and so paid for."""
LARGEST = Request("", ({"role": "user", "content": _ASKED},), Sampling(max_tokens=MORE_TOKENS), n=2)
"""The largest of them."""
_OTHER: Mapping[MaxTokensField, MaxTokensField] = {
    "max_tokens": "max_completion_tokens",
    "max_completion_tokens": "max_tokens",
}
_BEFORE_THE_REST = (_UNKNOWN, "logprobs", "n", "seed", "temperature")
"""What is given up one after another when a refusal names nothing."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What the recipe says; None is not said. `max_tokens_field` is tried first when it is not `sure`."""

    n: bool | None = None
    temperature: bool | None = None
    logprobs: bool | None = None
    seed: bool | None = None
    reasoning: str | None = None
    max_tokens_field: MaxTokensField = "max_tokens"
    sure: bool = False
    decisions: bool = False

    def can(self) -> Can:
        """Everything that is not declared otherwise."""
        return Can(
            n=self.n is not False,
            temperature=self.temperature is not False,
            logprobs=self.logprobs is not False,
            seed=self.seed is not False,
            max_tokens_field=self.max_tokens_field,
            reasoning=None if self.reasoning == "none" else self.reasoning,
            refused=tuple(name for name in ("seed", "temperature") if getattr(self, name) is False),
            decisions=self.decisions,
        )

    @property
    def whole(self) -> bool:
        """Nothing is left to ask."""
        said = (self.n, self.temperature, self.logprobs, self.seed, self.reasoning)
        return self.sure and all(value is not None for value in said)


NOTHING = Declared()


async def probed(post: Post, model: str, server: Server, declared: Declared) -> Can:
    """Raises what `post` raises when the model cannot be asked at all."""
    if declared.whole:
        return declared.can()
    body = _body(model, server, declared)
    first = await _accepted(post, body, declared)
    n_asked, field = body.get("n", 1), declared.max_tokens_field if declared.max_tokens_field in body else None
    field = field or _OTHER[declared.max_tokens_field]
    cap_ignored = not declared.sure and (first.n_tokens or 0) > body[field] * n_asked
    if cap_ignored:
        body[_OTHER[field]], field = body.pop(field), _OTHER[field]
    second = None
    if cap_ignored or (declared.seed is None and "seed" in body):
        second = await _accepted(post, body, declared)
        field = field if field in body else _OTHER[field]
    refused = [name for name in _body(model, server, declared) if name not in body]
    return Can(
        n=_either(declared.n, n_asked > 1 and first.n_choices > 1),
        temperature=_either(declared.temperature, "temperature" in body),
        logprobs=_either(declared.logprobs, first.logprobs),
        seed=_either(declared.seed, "seed" in body and (second is None or first.same_as(second))),
        max_tokens_field=field,
        reasoning=first.reasoning if declared.reasoning is None else declared.can().reasoning,
        refused=tuple(sorted({*declared.can().refused, *refused} - {_UNKNOWN, *_OTHER})),
        ignores_unknown=_UNKNOWN in body,
        decisions=declared.decisions,
    )


def _either(declared: bool | None, found: bool) -> bool:
    return found if declared is None else declared


def _body(model: str, server: Server, declared: Declared) -> dict[str, Json]:
    """Everything at once, less what is declared to be missing."""
    cell = _CELL if declared.temperature is not False else Sampling(max_tokens=N_TOKENS)
    body: dict[str, Json] = {
        "model": model,
        "messages": [{"role": "user", "content": _ASKED}],
        **sampling_fields(cell, server, declared.can()),
        _UNKNOWN: True,
    }
    if declared.n is not False:
        body["n"] = 2
    if declared.seed is not False:
        body["seed"] = SEED
    if declared.logprobs is not False:
        body["logprobs"] = True
    return body


class _Seen:
    """What one reply shows. A reply that cannot be read shows nothing."""

    def __init__(self, content: bytes) -> None:
        try:
            read = orjson.loads(content)
        except orjson.JSONDecodeError:
            read = {}
        choices = _list(_dict(read).get("choices"))
        first = _dict(choices[0]) if choices else {}
        message = _dict(first.get("message"))
        usage = _dict(_dict(read).get("usage"))
        self.n_choices = len(choices)
        self.n_prompt_tokens = _count(usage.get("prompt_tokens"))
        self.n_tokens = _count(usage.get("completion_tokens"))
        self.logprobs = bool(_list(_dict(first.get("logprobs")).get("content")))
        self.text = str(message.get("content") or "")
        self.reasoning = _where(message, self.text, _dict(usage.get("completion_tokens_details")))
        self._thought = str(message.get("reasoning_content") or message.get("reasoning") or "")

    def same_as(self, other: _Seen) -> bool:
        """As far as both go: the caps of the two requests may differ."""
        mine, its = self._thought + self.text, other._thought + other.text
        return mine.startswith(its) or its.startswith(mine)


def usage_of(answers: Sequence[bytes]) -> Usage:
    """The tokens of several replies together; None where one of them does not say."""
    seen = [_Seen(content) for content in answers]
    counts = [(one.n_prompt_tokens, one.n_tokens) for one in seen]
    if any(count is None for both in counts for count in both):
        return Usage()
    return Usage(sum(p or 0 for p, _ in counts), None, sum(c or 0 for _, c in counts))


def _where(message: dict[str, Any], text: str, details: dict[str, Any]) -> str | None:
    for name in ("reasoning_content", "reasoning"):
        if message.get(name):
            return name
    if text.lstrip().startswith("<think>") or "</think>" in text:
        return "think"
    return "hidden" if details.get("reasoning_tokens") else None


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


async def _accepted(post: Post, body: dict[str, Json], declared: Declared) -> _Seen:
    """Ask until it is answered, leaving out of `body` what is refused. Raises the refusal that names nothing left."""
    import openai

    while True:
        try:
            return _Seen((await post(body)).content)
        except (openai.BadRequestError, openai.UnprocessableEntityError) as error:
            if not _mended(body, error, declared):
                raise


def _mended(body: dict[str, Json], error: openai.APIStatusError, declared: Declared) -> bool:
    """Take out of `body` what this refusal is about; False when there is nothing left to take out."""
    told = str(error.body)
    cap = next(name for name in _OTHER if name in body)
    if body[cap] < MORE_TOKENS and ("output limit" in told or "could not finish" in told.lower()):
        body[cap] = MORE_TOKENS
        return True
    may_go = [name for name in body if name not in ("model", "messages")]
    name = refused_field(error.body, may_go)
    if name == cap:
        if declared.sure or _OTHER[name] in body or name != declared.max_tokens_field:
            return False
        body[_OTHER[name]] = body.pop(name)
        return True
    name = name or next((one for one in _BEFORE_THE_REST if one in body), None)
    if name is None:
        return False
    del body[name]
    return True
