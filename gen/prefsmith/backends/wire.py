"""The chat-completions format, the asking half: a Request becomes a body.

Every sampling value that the server understands stands in every body, so that a server's own defaults never decide
(llama.cpp filters by top_k 40 and min_p 0.05 unless told otherwise). Nothing here opens a connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import orjson

from prefsmith.backends.can import Can
from prefsmith.backends.constraint import check
from prefsmith.errors import CallFailed
from prefsmith.reasons import Reason
from prefsmith.records import NEUTRAL, Json, Message, Request, Sampling

Server = Literal["openai", "vllm", "llama.cpp"]

_OPENAI = frozenset({"temperature", "max_tokens", "top_p", "presence_penalty", "frequency_penalty", "stop"})
_OPEN = _OPENAI | {"top_k", "min_p", "repetition_penalty"}
KNOWS: Mapping[Server, frozenset[str]] = {"openai": _OPENAI, "vllm": _OPEN, "llama.cpp": _OPEN}
"""The fields of Sampling that each server understands. `stop` is sent only when there is one: none is the default."""

# llama.cpp's further samplers, switched off: a server started with its own defaults for them must not decide either.
# Names from tools/server/README.md of ggml-org/llama.cpp.
_LLAMA_OFF: Mapping[str, Json] = {
    "typical_p": 1.0,
    "top_n_sigma": -1.0,
    "xtc_probability": 0.0,
    "dry_multiplier": 0.0,
    "dynatemp_range": 0.0,
    "mirostat": 0,
}


def sampling_fields(sampling: Sampling, server: Server, can: Can) -> dict[str, Json]:
    """The part of a body that one cell of the grid shares: each parameter that the server takes, neutral or not.

    Raises CallFailed for a value that is not neutral and that the server would ignore or refuse.
    """
    lacking = {name for name in NEUTRAL if name not in KNOWS[server] or name in can.refused}
    values = dict(NEUTRAL)
    if not can.temperature or "temperature" in can.refused:
        lacking.add("temperature")
        values["temperature"] = 1.0
    for name in sorted(lacking):
        if getattr(sampling, name) != values[name]:
            known = name in KNOWS[server]
            who = "the model there" if known else f"a server of kind {server!r}"
            detail = f"{who} does not know {name}; leave it at {values[name]!r}"
            raise CallFailed(Reason.BAD_REQUEST, detail, stops_endpoint=True)
    out: dict[str, Json] = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        can.max_tokens_field: sampling.max_tokens,
    }
    if server == "vllm":
        # vLLM's word for "all tokens" is -1; 0 means the same since 0.9, and nothing before.
        out |= {"top_k": sampling.top_k or -1, "min_p": sampling.min_p}
        out["repetition_penalty"] = sampling.repetition_penalty
    elif server == "llama.cpp":
        out |= {"top_k": sampling.top_k, "min_p": sampling.min_p, "repeat_penalty": sampling.repetition_penalty}
        out |= _LLAMA_OFF
    if sampling.stop:
        out["stop"] = list(sampling.stop)
    return {name: value for name, value in out.items() if name not in lacking and name not in can.refused}


def body_of(request: Request, fields: Mapping[str, Json], can: Can) -> dict[str, Json]:
    """The whole body; `fields` come from `sampling_fields`."""
    if request.kind != "chat":
        raise CallFailed(
            Reason.BAD_REQUEST, f"this backend cannot answer a {request.kind!r} request", stops_endpoint=True
        )
    body: dict[str, Json] = {
        "model": request.model,
        "messages": [_sent(m) if "tool_calls" in m else m for m in request.messages],
        "n": request.n if can.n else 1,
        "seed": request.seed,
        **fields,
    }
    if (request.logprobs or request.top_logprobs) and can.logprobs:
        body["logprobs"] = True
        if request.top_logprobs:
            body["top_logprobs"] = request.top_logprobs
    if request.tools:
        body["tools"] = list(request.tools)
        if request.parallel_tool_calls is not None:
            body["parallel_tool_calls"] = request.parallel_tool_calls
    # A schema's braces and quotes would take the places at which a verdict's probabilities are looked for.
    told_otherwise = request.decides and can.logprobs
    if request.schema is not None and not told_otherwise:
        check(request.schema)
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "strict": True, "schema": request.schema},
        }
    for name in can.refused:
        body.pop(name, None)
    return body


def _sent(message: Message) -> Json:
    """A turn with tool calls as servers want it: their arguments are a JSON text."""
    return {**message, "tool_calls": changed_calls(message["tool_calls"], _dumped)}


def changed_calls(calls: list[Json], change: Callable[[Json], Json]) -> list[Json]:
    """Tool calls with the arguments of each function changed."""
    out = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict) and "arguments" in function:
            call = {**call, "function": {**function, "arguments": change(function["arguments"])}}
        out.append(call)
    return out


def _dumped(arguments: Json) -> Json:
    return arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
