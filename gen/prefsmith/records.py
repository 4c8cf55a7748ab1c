"""The frozen values that every floor shares, and their algebra.

A prompt is what a model is shown; an item is a prompt plus the columns that graders and judges may read; a
sampler is everything that can change a sampled answer; a request is what one backend call asks; a reply is what
came back. Nothing here knows a database, a server or a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, Required, TypeAlias, TypedDict

import orjson

from prefsmith.reasons import Reason

Json: TypeAlias = Any
"""A JSON value: None, bool, int, float, str, list, dict with string keys."""

Role = Literal["system", "user", "assistant", "tool"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant", "tool")


class Message(TypedDict, total=False):
    """One turn, in OpenAI's shape; `arguments` of a tool call is an object, `content` is null only beside calls."""

    role: Required[Role]
    content: Required[str | None]
    name: str
    tool_calls: list[Json]
    tool_call_id: str
    refusal: str


def canonical(value: Json) -> bytes:
    """The one JSON text of a value: UTF-8, keys sorted, no spaces. What is hashed and what is stored."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def said(message: Message) -> str:
    """What a judge or grader reads of an answer: its content, then each tool call on a line of its own."""
    text = message.get("content") or ""
    for call in message.get("tool_calls") or ():
        function = call.get("function", {})
        text += f"\n(calls {function.get('name', '?')} with {canonical(function.get('arguments', {})).decode()})"
    return text.strip("\n") if message.get("tool_calls") else text


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model is shown; ends with a user or tool turn."""

    messages: tuple[Message, ...]
    tools: tuple[Json, ...] | None = None
    parallel_tool_calls: bool | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt and every other mapped column of its row, the source's own id apart."""

    prompt: Prompt
    reference: str | None = None
    category: str | None = None
    columns: Mapping[str, Json] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """The column is there and not blank."""
        if name == "reference":
            value: Json = self.reference
        else:
            value = self.category if name == "category" else self.columns.get(name)
        return bool(value.strip()) if isinstance(value, str) else value is not None

    def read(self, names: Sequence[str] | None) -> dict[str, Json]:
        """The columns that a judge names (all of them for None); a column that the row lacks is left out."""
        have: dict[str, Json] = dict(self.columns)
        if self.reference is not None:
            have["reference"] = self.reference
        if self.category is not None:
            have["category"] = self.category
        return have if names is None else {n: have[n] for n in names if n in have}


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a source: an item, or the reason why it is set aside with an excerpt of at most 200 characters."""

    line: int
    item: Item | None
    source_id: str | None = None
    reason: Reason | None = None
    excerpt: str | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is drawn. The defaults are neutral: they change nothing, and so stand in no key."""

    temperature: float = 1.0
    max_tokens: int = 1024
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    stop: tuple[str, ...] = ()

    def described(self) -> dict[str, Json]:
        """Temperature and max_tokens always, the rest where it is not neutral: a later knob changes no old key."""
        out: dict[str, Json] = {"temperature": float(self.temperature), "max_tokens": self.max_tokens}
        for name, neutral in NEUTRAL.items():
            value = getattr(self, name)
            if value != neutral:
                out[name] = list(value) if name == "stop" else value
        return out


NEUTRAL: Mapping[str, Json] = {
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "stop": (),
}


@dataclass(frozen=True, slots=True)
class Sampler:
    """Everything that can change a sampled answer; `target` is the endpoint's identity, never its address."""

    target: str
    model: str
    sampling: Sampling
    revision: str | None = None
    system: str | None = None
    run_seed: int = 0

    def described(self) -> dict[str, Json]:
        """What is hashed and stored. Absent parts are left out, so that a part added later changes no old key."""
        out = {"target": self.target, "model": self.model, "run_seed": self.run_seed, **self.sampling.described()}
        if self.revision is not None:
            out["revision"] = self.revision
        if self.system is not None:
            out["system"] = self.system
        return out


class Request(NamedTuple):
    """What one backend call asks. `labels`: the words that a judge's verdict line may hold, for backends that
    can make use of them; a server never needs to know them. `logprobs`: ask for the sum over each answer's tokens."""

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    n: int = 1
    seed: int = 0
    tools: tuple[Json, ...] | None = None
    parallel_tool_calls: bool | None = None
    kind: Literal["chat", "classify"] = "chat"
    schema: Json = None
    labels: tuple[str, ...] = ()
    logprobs: bool = False


class Generated(NamedTuple):
    """One choice of a reply, the `place`-th of those asked for. `finish_reason` is the server's word: stop, length,
    tool_calls, content_filter, …; `mismatch` is the backend's, for a text that breaks the request's schema."""

    place: int
    message: Message
    finish_reason: str
    n_tokens: int | None = None
    reasoning: str | None = None
    logprob_sum: float | None = None
    damaged: bool = False
    """The text held a lone surrogate; it was replaced by U+FFFD and is never exported."""


class Usage(NamedTuple):
    """Tokens of one reply, all of its choices together; None where the server did not say."""

    n_prompt_tokens: int | None = None
    n_cached_tokens: int | None = None
    n_completion_tokens: int | None = None
    n_reasoning_tokens: int | None = None


class Quota(NamedTuple):
    """What a server's headers say of its limits: allowed a minute, left of that now, seconds until it is whole again;
    None where it did not say."""

    rpm: float | None = None
    n_requests_left: float | None = None
    requests_reset_s: float | None = None
    tpm: float | None = None
    n_tokens_left: float | None = None
    tokens_reset_s: float | None = None


class Reply(NamedTuple):
    """What came back. `quota` is None when the server said nothing of limits."""

    choices: tuple[Generated, ...]
    usage: Usage = Usage()
    model_reported: str | None = None
    fingerprint: str | None = None
    request_id: str | None = None
    http_status: int | None = None
    quota: Quota | None = None


CONCURRENCY = 64
"""Requests in flight where nobody said how many."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do, declared or read from it at start; never guessed from a model's name.

    `knows`: the fields of Sampling that the server understands, each of which is sent in every request.
    `n_per_request`: most choices that one request may ask for. `n_ctx_tokens`: prompt and answer together. `rpm` and
    `tpm`: requests and tokens a minute, None when not known. `remote`: others use it too, so it is begun with gently.
    """

    knows: frozenset[str]
    n_per_request: int = 1
    concurrency: int = CONCURRENCY
    n_ctx_tokens: int | None = None
    control_tokens: tuple[str, ...] = ()
    rpm: float | None = None
    tpm: float | None = None
    remote: bool = False


class Backend(Protocol):
    """One verb. `open` is called once inside the event loop before the first `send`; `close` after the last."""

    target: str
    endpoint: str

    async def open(self, longest: Sequence[tuple[Message, ...]], extra_tokens: int) -> None:
        """Get ready for conversations as long as these plus `extra_tokens` of answer. Raises UsageError when the
        model cannot hold that, ProviderError when it cannot be reached."""
        ...

    def capabilities(self) -> Capabilities: ...

    def facts(self) -> Mapping[str, Json]: ...

    async def send(self, request: Request) -> Reply:
        """Raises CallFailed, and nothing else, for whatever goes wrong."""
        ...

    async def close(self) -> None: ...
