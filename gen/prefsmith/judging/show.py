"""What a judge is shown: the conversation as plain text, candidates between fences, control tokens broken up.

Invariant: pure, so that a resumed run sends the same bytes. Text of users and models is data here: it is never a
template, it cannot close a fence, and no chat template finds a turn in it. It does not know what is asked about it.
"""

from __future__ import annotations

import re
from itertools import groupby

from prefsmith.records import Json, Message, Prompt, canonical
from prefsmith.sources.control import CONTROL_TOKENS

# Grouped by their first two characters: at each `<` of a text, a dozen branches are tried and not 150.
_CONTROL = re.compile(
    "|".join(
        re.escape(head) + "(?:" + "|".join(re.escape(token[2:]) for token in group) + ")"
        for head, group in groupby(sorted(CONTROL_TOKENS), key=lambda token: token[:2])
    )
)
_FIRST = sorted({token[0] for token in CONTROL_TOKENS})
_OPENING = re.compile(r"\W*", re.UNICODE)


def defused(text: str) -> tuple[str, int]:
    """The text with a space inside each control token of a known chat template, and how many there were.

    `<|im_end|>` becomes `<| im_end|>`: a judge still sees what the answer holds, a tokenizer finds no turn in it.
    """
    n_broken = 0
    for first in _FIRST:
        if first in text:
            break
    else:
        return text, 0
    while True:  # tokens may overlap; each pass puts a space inside at least one and joins nothing
        text, n = _CONTROL.subn(_broken, text)
        if n == 0:
            return text, n_broken
        n_broken += n


def _broken(found: re.Match[str]) -> str:
    token = found[0]
    opening = _OPENING.match(token)
    cut = opening.end() if opening and 0 < opening.end() < len(token) else 1
    return f"{token[:cut]} {token[cut:]}"


def fenced(title: str, text: str, mark: str) -> str:
    """The text between two lines that carry the mark; the mark itself, should the text hold it, is taken out."""
    while mark in text:  # taking one out may join another
        text = text.replace(mark, "")
    return f"BEGIN {title} {mark}\n{text}\nEND {title} {mark}"


def conversation(prompt: Prompt) -> str:
    """The text of a lone user turn; otherwise each turn under its role, tools by their names."""
    lone = len(prompt.messages) == 1 and prompt.messages[0]["role"] == "user" and not prompt.tools
    if lone:
        return prompt.messages[0]["content"] or ""
    parts = [_turn(message) for message in prompt.messages]
    if prompt.tools:
        parts.insert(0, f"[tools the assistant may call: {', '.join(map(_tool_name, prompt.tools))}]")
    return "\n\n".join(parts)


def column(value: Json) -> str:
    """A column as text: strings as they are, anything else as JSON."""
    return value if isinstance(value, str) else canonical(value).decode()


def _turn(message: Message) -> str:
    name = message.get("name")
    lines = [f"[{message['role']}{f' {name}' if name else ''}]"]
    if message["content"]:
        lines.append(message["content"])
    for call in message.get("tool_calls") or ():
        function = call.get("function", {})
        lines.append(f"(calls {function.get('name', '?')} with {column(function.get('arguments', {}))})")
    return "\n".join(lines)


def _tool_name(tool: Json) -> str:
    """OpenAI nests the name under `function`; some data sets do not."""
    nested = tool.get("function", tool) if isinstance(tool, dict) else {}
    return str(nested.get("name", "?")) if isinstance(nested, dict) else "?"
