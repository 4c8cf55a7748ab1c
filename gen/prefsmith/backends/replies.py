"""The chat-completions format, the answering half: the bytes of a reply become a Reply.

What was paid for is kept where it can be read at all; what is no usable choice is a CallFailed. Nothing here opens a
connection.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from prefsmith.backends.constraint import MISMATCH, holds
from prefsmith.backends.wire import changed_calls
from prefsmith.errors import CallFailed
from prefsmith.reasons import Reason
from prefsmith.records import Generated, Json, Message, Quota, Reply, Usage, canonical
from prefsmith.text import without_surrogates

_CUT_OFF = ("abort", "error")
_OPEN, _SHUT = "<think>", "</think>"
_ALONE = re.compile(r"^[ \t]*</think>[ \t]*$", re.M)
_NATURAL = ("stop", "unknown")


def _loaded(arguments: Json) -> Json:
    """The object that a model wrote; what cannot be read as one, or not be written again, stays the text that it is."""
    try:
        value = orjson.loads(arguments) if isinstance(arguments, str) else arguments
        canonical(value)
    except (orjson.JSONDecodeError, TypeError):
        return arguments if isinstance(arguments, str) else json.dumps(arguments)
    return value if isinstance(value, dict) else arguments


class _Slim(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Turn(_Slim):
    content: str | list[Any] | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class _Token(_Slim):
    logprob: float | None = None


class _Logprobs(_Slim):
    content: list[_Token] | None = None
    refusal: list[_Token] | None = None


class _Choice(_Slim):
    message: _Turn | None = None
    finish_reason: str | None = None
    index: int | None = None
    logprobs: _Logprobs | None = None


class _PromptDetails(_Slim):
    cached_tokens: int | None = None


class _CompletionDetails(_Slim):
    reasoning_tokens: int | None = None


class _Usage(_Slim):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Completion(_Slim):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    error: Any = None


def reply_of(
    raw: bytes, n: int, *, content_type: str = "", request_id: str | None = None, quota: Quota | None = None,
    thinks: bool = False, schema: Json = None,
) -> Reply:  # fmt: skip
    """Read the body of an HTTP 200, of which `n` choices were asked for; fewer may come, and are counted.

    `thinks`: the model's thoughts end with `</think>` even where no `<think>` opens them. A choice that breaks `schema`
    has the finish_reason `mismatch`. Raises CallFailed (owed) when there is no usable choice in it.
    """
    damaged: frozenset[int] = frozenset()
    try:
        read = _Completion.model_validate_json(raw)
    except ValidationError:
        read, damaged = _read_loosely(raw, content_type, request_id)
    if read.error is not None:
        raise _unusable(f"HTTP 200 with an error: {_brief(read.error)}", request_id, billed=False)
    if not read.choices:
        raise _unusable("HTTP 200 without a choice", request_id)
    kept = _usable(read.choices, n)
    if not kept:
        words = sorted({str(c.finish_reason) for c in read.choices})
        reason = Reason.INTERRUPTED if words == ["abort"] else Reason.SERVER_ERROR
        detail = f"no choice was finished (finish_reason {', '.join(words)})"
        raise CallFailed(reason, detail, http_status=200, request_id=request_id, maybe_billed=True)
    usage = _usage(read.usage)
    alone = _answer_tokens(usage) if len(read.choices) == 1 else None
    return Reply(
        tuple(
            held(_generated(index, c, alone, usage.n_reasoning_tokens, at in damaged, thinks), schema)
            for index, at, c in kept
        ),
        usage,
        read.model,
        read.system_fingerprint,
        request_id,
        200,
        quota,
    )


def _usable(choices: list[_Choice], n: int) -> list[tuple[int, int, _Choice]]:
    """(index, place in the reply, choice) of what was finished, by index. An aborted text is no completion."""
    indices = [c.index for c in choices]
    told = len(set(indices)) == len(indices) and all(i is not None and 0 <= i < n for i in indices)
    out = []
    for place, choice in enumerate(choices):
        index = choice.index if told and choice.index is not None else place
        message = choice.message
        if index >= n or message is None or choice.finish_reason in _CUT_OFF:
            continue
        if choice.finish_reason is None and not message.content:
            continue
        out.append((index, place, choice))
    return sorted(out, key=lambda entry: entry[0])


def _generated(
    index: int, choice: _Choice, n_tokens: int | None, n_thought: int | None, damaged: bool, thinks: bool
) -> Generated:
    turn = choice.message
    assert turn is not None
    told = turn.reasoning_content or turn.reasoning
    thought, text = apart(_content(turn.content), thinks, parsed=bool(told))
    message: Message = {"role": "assistant", "content": text}
    if turn.tool_calls:
        message["tool_calls"] = read_calls(turn.tool_calls)
    elif text is None:
        message["content"] = ""
    if turn.refusal:
        message["refusal"] = turn.refusal
    reasoning = told or thought or None
    # Servers count thoughts that stand in the text as answer, some do so wherever they stand, and list the tokens of
    # both together.
    counted = None if thought or (told and not n_thought) else n_tokens
    logprob_sum = None if reasoning else _sum(choice.logprobs)
    return Generated(index, message, choice.finish_reason or "unknown", counted, reasoning, logprob_sum, damaged)


def held(generated: Generated, schema: Json) -> Generated:
    """With the finish_reason `mismatch` where the answer breaks its request's schema; what was cut off says so already,
    and calls of tools have schemas of their own."""
    if schema is None or generated.finish_reason not in _NATURAL or "tool_calls" in generated.message:
        return generated
    kept = holds(generated.message["content"] or "", schema)
    return generated if kept or generated.message.get("refusal") else generated._replace(finish_reason=MISMATCH)


def apart(text: str | None, thinks: bool, parsed: bool = False) -> tuple[str | None, str | None]:
    """(thought, answer) of a text that starts with `<think>`. Thoughts that never end leave no answer: what stopped
    there was cut off, or said nothing else. `parsed`: the server took the thoughts out itself."""
    if text is None:
        return None, None
    if not text.lstrip().startswith(_OPEN) and not (thinks and _SHUT in text):
        # Chat templates that open the thought themselves leave a `</think>` that nothing opens, on a line of its own.
        shut = None if parsed or _SHUT not in text else _ALONE.search(text)
        if shut is None or _OPEN in text[: shut.start()]:
            return None, text
        return text[: shut.start()].strip(), text[shut.end() :].lstrip()
    thought, _, answer = text.partition(_SHUT)
    return thought.strip().removeprefix(_OPEN).strip(), answer.lstrip()


def _sum(logprobs: _Logprobs | None) -> float | None:
    """Over the answer's tokens; None where the server did not say, or said it of some only."""
    tokens = None if logprobs is None else logprobs.content or logprobs.refusal
    if not tokens:
        return None
    total = sum(math.nan if token.logprob is None else token.logprob for token in tokens)
    return total if math.isfinite(total) else None


def read_calls(calls: list[Json]) -> list[Json]:
    """A model's tool calls as messages hold them: arguments are objects, ids go by place."""
    return _numbered(changed_calls(calls, _loaded))


def _numbered(calls: list[Json]) -> list[Json]:
    """Ids by place: servers draw them at random, and two equal answers would not be seen as equal."""
    return [{**c, "id": f"call_{i}"} if isinstance(c, dict) and "id" in c else c for i, c in enumerate(calls)]


def _content(content: str | list[Any] | None) -> str | None:
    """Some servers answer in parts; the text parts are the answer."""
    if not isinstance(content, list):
        return content
    return "".join(p["text"] for p in content if isinstance(p, dict) and isinstance(p.get("text"), str))


def _usage(usage: _Usage | None) -> Usage:
    if usage is None:
        return Usage()
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        usage.prompt_tokens,
        None if prompt is None else prompt.cached_tokens,
        usage.completion_tokens,
        None if completion is None else completion.reasoning_tokens,
    )


def _answer_tokens(usage: Usage) -> int | None:
    """Tokens of the one choice that came, its reasoning apart."""
    if usage.n_completion_tokens is None:
        return None
    return max(0, usage.n_completion_tokens - (usage.n_reasoning_tokens or 0))


def _read_loosely(raw: bytes, content_type: str, request_id: str | None) -> tuple[_Completion, frozenset[int]]:
    """Read what the strict parser refused: half an emoji is no UTF-8, and the answer was paid for.

    Returns the completion and the places of the choices that held a lone surrogate.
    """
    try:
        value = json.loads(raw.decode("utf-8", "surrogateescape"))
    except ValueError:
        kind = content_type or "no content type"
        what = "broken JSON" if "json" in content_type else f"{kind} instead of JSON (is the URL right?)"
        raise _unusable(f"HTTP 200 with {what}: {_brief(raw)}", request_id, billed="json" in content_type) from None
    if not isinstance(value, dict):
        raise _unusable(f"HTTP 200 with {_brief(value)} instead of a completion", request_id)
    choices = value.get("choices")
    damaged: set[int] = set()
    if isinstance(choices, list):
        scrubbed = [_scrubbed(c) for c in choices]
        damaged = {i for i, (_, hurt) in enumerate(scrubbed) if hurt}
        value["choices"] = [c for c, _ in scrubbed]
    value, _ = _scrubbed(value)
    try:
        return _Completion.model_validate(value), frozenset(damaged)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise _unusable(f"HTTP 200 with an unreadable completion: {where}: {first['msg']}", request_id) from None


def _scrubbed(value: Json) -> tuple[Json, bool]:
    """Every lone surrogate in it replaced, and whether there was any."""
    if isinstance(value, str):
        return without_surrogates(value)
    if isinstance(value, list):
        parts = [_scrubbed(v) for v in value]
        return [v for v, _ in parts], any(hurt for _, hurt in parts)
    if isinstance(value, dict):
        pairs = [(_scrubbed(k), _scrubbed(v)) for k, v in value.items()]
        return {k: v for (k, _), (v, _) in pairs}, any(a or b for (_, a), (_, b) in pairs)
    return value, False


def _unusable(detail: str, request_id: str | None, *, billed: bool = True) -> CallFailed:
    return CallFailed(Reason.SERVER_ERROR, detail, http_status=200, request_id=request_id, maybe_billed=billed)


def _brief(value: Json) -> str:
    """Enough of it to say what came; the backend takes keys out of it and cuts it to the length of a detail."""
    if isinstance(value, bytes):
        return value[:4000].decode("utf-8", "replace")
    return value if isinstance(value, str) else json.dumps(value)
