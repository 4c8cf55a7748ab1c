"""Conversations and tool definitions as people store them, brought into the one shape of records.Message.

Canonical: roles system (first only), user, assistant, tool; content a string, or null beside tool calls; arguments of
a call an object. What does not fit is refused with a reason, never bent into shape: a conversation that was changed
on the way in would be sampled and paid for as something that nobody wrote.
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson

from prefsmith.reasons import Reason
from prefsmith.records import ROLES, Json, Message


class SetAside(Exception):
    """This row gives no item. `detail` is for its excerpt: what was wrong, and where."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def conversation(value: list[Json]) -> tuple[Message, ...]:
    """The canonical messages of a list that ends with a user or tool turn. Raises SetAside."""
    messages = tuple(_message(turn, i) for i, turn in enumerate(value, 1))
    _check_order(messages)
    if not messages or messages[-1]["role"] == "system":
        raise SetAside(Reason.EMPTY_PROMPT, "no user message")
    last = messages[-1]
    if last["role"] == "assistant":
        raise SetAside(Reason.ENDS_WITH_ASSISTANT)
    if last["role"] == "user" and not (last["content"] or "").strip():
        raise SetAside(Reason.EMPTY_PROMPT, "the last user message is blank")
    return messages


def tool_definitions(value: Json) -> tuple[Json, ...] | None:
    """A list of objects, or its JSON text; empty is None. Raises SetAside."""
    tools = _parsed(value, "tools")
    if tools is None or tools == []:
        return None
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise _bad("tools must be a list of objects")
    return tuple(tools)


def texts(value: Json) -> Iterator[str]:
    """Every string inside a JSON value, keys of objects included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from texts(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts(inner)


def _bad(detail: str) -> SetAside:
    return SetAside(Reason.BAD_JSON, detail)


def _parsed(value: Json, what: str) -> Json:
    """A string is JSON text, a blank one None; anything else is the value itself."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value) if value.strip() else None
    except orjson.JSONDecodeError as e:
        raise _bad(f"{what}: not JSON") from e


def _message(turn: Json, i: int) -> Message:
    if not isinstance(turn, dict):
        raise _bad(f"message {i} is not an object")
    role = turn.get("role")
    if role not in ROLES:
        raise _bad(f"message {i}: unknown role {role!r}")
    if turn.get("function_call") is not None:
        raise _bad(f"message {i}: function_call is not read, use tool_calls")
    calls = _calls(turn.get("tool_calls"), i)
    if calls and role != "assistant":
        raise _bad(f"message {i}: tool_calls of role {role!r}")
    content = _content(turn.get("content"), i)
    if content is None and not calls:
        # A cell that is missing, in the turn that is to be answered, is a blank prompt and not a broken row.
        if role == "user":
            raise SetAside(Reason.EMPTY_PROMPT, f"message {i} has no content")
        raise _bad(f"message {i} has no content")
    message: Message = {"role": role, "content": content}
    if calls:
        message["tool_calls"] = calls
    for key in ("name", "tool_call_id", "refusal"):
        value = turn.get(key)
        if value is None:
            continue
        if not isinstance(value, str):
            raise _bad(f"message {i}: {key} must be a string")
        message[key] = value
    return message


def _content(value: Json, i: int) -> str | None:
    """Text parts are joined without anything between them, as chat templates join them."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise _bad(f"message {i}: content must be a string")
    parts = []
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get("text") if kind == "text" else None
        if not isinstance(text, str):
            raise _bad(f"message {i}: content part of type {kind!r}, only text is read")
        parts.append(text)
    return "".join(parts)


def _calls(value: Json, i: int) -> list[Json]:
    calls = _parsed(value, f"message {i}: tool_calls")
    if calls is None:
        return []
    if not isinstance(calls, list):
        raise _bad(f"message {i}: tool_calls must be a list")
    return [_call(call, f"message {i}, call {k}") for k, call in enumerate(calls, 1)]


def _call(call: Json, where: str) -> Json:
    """One call; `{"name", "arguments"}` without the function object around it is understood too."""
    if not isinstance(call, dict) or call.get("type") not in (None, "function"):
        raise _bad(f"{where}: only calls of functions are read")
    function = call.get("function") or call
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(name, str) or not name:
        raise _bad(f"{where}: no function name")
    arguments = _parsed(function.get("arguments"), f"{where}: arguments")
    if not isinstance(arguments, dict | None):
        raise _bad(f"{where}: arguments must be an object")
    out: dict[str, Json] = {"type": "function", "function": {"name": name, "arguments": arguments or {}}}
    if isinstance(call.get("id"), str):
        out["id"] = call["id"]
    return out


def _check_order(messages: tuple[Message, ...]) -> None:
    """The system turn comes first, and a tool turn answers a call of the assistant's turn before it."""
    asked: set[str | None] = set()
    for i, message in enumerate(messages, 1):
        role = message["role"]
        if role == "system" and i > 1:
            raise _bad(f"message {i} is a system message, only the first may be")
        if role == "tool":
            answered = message.get("tool_call_id")
            # Calls without ids are answered in order, so there any result fits.
            if not asked or (answered is not None and None not in asked and answered not in asked):
                raise _bad(f"message {i} is a tool result without its call")
        else:
            asked = {call.get("id") for call in message.get("tool_calls", ())}
