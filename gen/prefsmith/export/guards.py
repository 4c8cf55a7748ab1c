"""Which pairs a file may hold: the canonical guards, and what each target can carry without loss.

Invariant: no trainer refuses an identical, blank or damaged pair by itself, so such a pair never gets past here, and
what a target cannot carry is skipped with a counted reason, never altered. It knows neither files nor row layouts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from itertools import groupby
from unicodedata import normalize

import orjson

from prefsmith.outcomes import Pair, Record, Sample
from prefsmith.reasons import Reason
from prefsmith.records import ROLES, Json, Message, canonical


class Refusal(StrEnum):
    """Why a pair is in no file of a target, where no `Reason` of a run says it already."""

    DAMAGED = "damaged"
    NOT_ENCODABLE = "not_encodable"
    NUL = "nul"
    NOT_TEXT = "not_text"
    NULL_CONTENT = "null_content"
    BAD_ROLE = "bad_role"
    LATE_SYSTEM = "late_system"
    USER_RUN = "user_run"
    MESSAGE_KEY = "message_key"
    BLANK_COMPLETION = "blank_completion"
    NOT_FINITE = "not_finite"
    EMPTY_TOOLS = "empty_tools"
    BAD_TOOL_CALL = "bad_tool_call"
    CALL_ID_REPEATED = "call_id_repeated"
    CALL_NOT_OFFERED = "call_not_offered"
    RESULT_WITHOUT_CALL = "result_without_call"


@dataclass(frozen=True, slots=True)
class Carries:
    """What a target holds without loss.

    `keys`: what a message of each role may hold beside role and content. `user_runs`: two user turns in a row.
    `control_tokens`: texts that the target's chat template would read as its own.
    """

    keys: Mapping[str, frozenset[str]]
    user_runs: bool = False
    control_tokens: tuple[str, ...] = ()


_CALLS = {"assistant": frozenset({"tool_calls"}), "tool": frozenset({"tool_call_id", "name"})}
HUGGING_FACE = Carries(_CALLS)
"""Chat templates know no participant names, and some raise on two user turns in a row (Gemma, Cohere)."""
OPENAI = Carries(
    {**_CALLS, "system": frozenset({"name"}), "user": frozenset({"name"})},
    user_runs=True,
)
"""A tool turn's name is left out there: the call that its id names has it."""
ANYTHING = Carries({role: frozenset({"name", "tool_calls", "tool_call_id", "refusal"}) for role in ROLES}, True)


def refusal(record: Record, pair: Pair, target: Carries) -> str | None:
    """The first reason why this pair must not be in a file of this target, or None."""
    chosen, rejected = record.sample(pair.chosen), record.sample(pair.rejected)
    prompt = record.item.prompt
    conversations = [(*prompt.messages, sample.message) for sample in (chosen, rejected)]
    return (
        _unfit(pair, chosen, rejected)
        or _unreadable([*conversations, prompt.tools, record.item.reference, record.item.category])
        or _bad_turns(prompt.messages)
        or _bad_completions(chosen.message, rejected.message)
        or next(filter(None, (_bad_calls(turns, prompt.tools) for turns in conversations)), None)
        or uncarried(record, pair, target)
    )


def uncarried(record: Record, pair: Pair, target: Carries) -> str | None:
    """Of a pair that nothing else speaks against: what this target cannot hold, or None."""
    turns = record.item.prompt.messages
    last = turns[-1]["role"]
    return (
        _not_carried(turns, target)
        or _not_carried((record.sample(pair.chosen).message,), target, last)
        or _not_carried((record.sample(pair.rejected).message,), target, last)
    )


def core(message: Message) -> Json:
    """A message without what differs between targets: null keys, the shape of calls, a tool turn's derivable name."""
    out: dict[str, Json] = {"role": message["role"], "content": message.get("content") or ""}
    if calls := message.get("tool_calls"):
        out["tool_calls"] = [[c.get("id"), c["function"]["name"], c["function"]["arguments"]] for c in calls]
    if (call_id := message.get("tool_call_id")) is not None:
        out["tool_call_id"] = call_id
    if (name := message.get("name")) is not None and message["role"] != "tool":
        out["name"] = name
    return out


def fingerprint(prompt: Sequence[Message], tools: Json, chosen: Message, rejected: Message) -> bytes:
    """16 bytes that two pairs share when a trainer would see the same twice."""
    parts = [[core(m) for m in prompt], list(tools) if tools else None, core(chosen), core(rejected)]
    return blake2b(canonical(parts), digest_size=16, person=b"pair").digest()


def pair_fingerprint(record: Record, pair: Pair) -> bytes:
    prompt = record.item.prompt
    chosen, rejected = record.sample(pair.chosen).message, record.sample(pair.rejected).message
    return fingerprint(prompt.messages, prompt.tools, chosen, rejected)


def _unfit(pair: Pair, chosen: Sample, rejected: Sample) -> str | None:
    for sample in (chosen, rejected):
        if sample.damaged:
            return Refusal.DAMAGED
        if sample.gate is not None:
            return sample.gate
        if sample.finish_reason == "length":
            return Reason.TRUNCATED
    if not (math.isfinite(pair.chosen_score) and math.isfinite(pair.rejected_score)):
        return Refusal.NOT_FINITE
    return None if pair.margin > 0 else Reason.TIE


def _strings(value: Json) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield key
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)


def _unreadable(value: Json) -> str | None:
    try:
        if b"\\u0000" not in orjson.dumps(value):
            return None  # nearly always, and found out at once
    except orjson.JSONEncodeError:
        pass
    for text in _strings(value):
        if "\0" in text:
            return Refusal.NUL
        try:
            text.encode()
        except UnicodeEncodeError:
            return Refusal.NOT_ENCODABLE
    return None


def _bad_turns(messages: Sequence[Message]) -> str | None:
    if not messages:
        return Reason.EMPTY_PROMPT
    for i, message in enumerate(messages):
        if message["role"] not in ROLES:
            return Refusal.BAD_ROLE
        if message["role"] == "system" and i > 0:
            return Refusal.LATE_SYSTEM
        if reason := _bad_content(message):
            return reason
    last = messages[-1]
    if last["role"] == "assistant":
        return Reason.ENDS_WITH_ASSISTANT
    return None if last["role"] in ("user", "tool") and (last["content"] or "").strip() else Reason.EMPTY_PROMPT


def _bad_content(message: Message) -> str | None:
    content = message.get("content")
    if content is None:
        return None if message.get("tool_calls") else Refusal.NULL_CONTENT
    return None if isinstance(content, str) else Refusal.NOT_TEXT


def _bad_completions(chosen: Message, rejected: Message) -> str | None:
    for message in (chosen, rejected):
        if message["role"] != "assistant":
            return Refusal.BAD_ROLE
        if reason := _bad_content(message):
            return reason
        if not message.get("tool_calls") and not (message.get("content") or "").strip():
            return Refusal.BLANK_COMPLETION
        if message.get("refusal") is not None:
            return Refusal.MESSAGE_KEY
    # Tokenizers normalise and templates strip, so what differs only there is trained as one text (traps 1, 21).
    return Reason.IDENTICAL if _trained(chosen) == _trained(rejected) else None


def _trained(message: Message) -> Json:
    calls = [call.get("function") for call in message.get("tool_calls") or () if isinstance(call, Mapping)]
    return [normalize("NFC", (message.get("content") or "").strip()), calls]


def _bad_calls(turns: Sequence[Message], tools: Sequence[Json] | None) -> str | None:
    if tools is not None and len(tools) == 0:
        return Refusal.EMPTY_TOOLS
    offered = {tool.get("function", {}).get("name") for tool in tools or () if isinstance(tool, Mapping)}
    seen: set[str] = set()
    for message in turns:
        for call in message.get("tool_calls") or ():
            function = call.get("function") if isinstance(call, Mapping) else None
            if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), Mapping):
                return Refusal.BAD_TOOL_CALL
            if not isinstance(call.get("id"), str):
                return Refusal.BAD_TOOL_CALL
            if function.get("name") not in offered:
                return Refusal.CALL_NOT_OFFERED
            if call["id"] in seen:
                return Refusal.CALL_ID_REPEATED
            seen.add(call["id"])
        if message["role"] == "tool" and message.get("tool_call_id") not in seen:
            return Refusal.RESULT_WITHOUT_CALL
    return None


@lru_cache(maxsize=8)
def _any_of(tokens: tuple[str, ...]) -> re.Pattern[str]:
    """One pattern for all tokens, grouped by their first two characters: few places of a text begin any."""
    groups = groupby(sorted(tokens), key=lambda token: token[:2])
    return re.compile("|".join(f"{re.escape(h)}(?:{'|'.join(re.escape(t[2:]) for t in ts)})" for h, ts in groups))


def _not_carried(turns: Sequence[Message], target: Carries, before: str = "") -> str | None:
    """`before`: the role of the turn that these follow."""
    for message in turns:
        known = target.keys.get(message["role"], frozenset())
        held = {key for key, value in message.items() if value not in (None, [])} if len(message) > 2 else set()
        if not held - {"role", "content"} <= known:
            return Refusal.MESSAGE_KEY
        if message["role"] == before == "user" and not target.user_runs:
            return Refusal.USER_RUN
        before = message["role"]
        if target.control_tokens and _any_of(target.control_tokens).search(message.get("content") or ""):
            return Reason.CONTROL_TOKEN
    return None
