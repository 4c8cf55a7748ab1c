"""Reading a judge's reply: one label from its last line, or the reason why there is none.

Invariant: pure, total, and never a guess. A text without a readable verdict line has no value, and a line that
could mean two things has none either: a repair turn costs one call, a wrong verdict a wrong pair. It does not know
what was asked, nor in which order the answers were shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from prefsmith.outcomes import Choice, Score
from prefsmith.reasons import Reason
from prefsmith.records import Generated

READ_VERSION = 1
"""Raise it with any change that reads a stored reply otherwise: verdicts say which version read them."""

# Every pattern here is linear in the text: a reply may be long, and an attacker's.
_TAG = re.compile(r"<(/?)(think|thinking|reasoning)\s*>", re.I)
_VERDICT = re.compile(r"[\s#\"'“‘(\[【「]*verdict[\s\"'”’]*[:：](.*)", re.I | re.S)
_RULE = re.compile(r"~{3,}|[-=](?:\s*[-=]){2,}")
_OUT_OF_NINE = re.compile(r"(?<=\d)[\s)\]}(\[（]*(?:/|\bout\s+of\b)\s*9(?!\w|/|[.,]\d)", re.I)
_OUT_OF = re.compile(r"(?:/|\bout\s+of\b)\s*\d|\d[\s)\]}(\[（]*(?:/|\bout\s+of\b)", re.I)
_WORD = re.compile(r"[\w.,]+")
# Emphasis, code marks and characters without width. A space takes their place: what they part is never joined.
_EMPHASIS = re.compile(r"[*_`\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_SPACE = " \t\u00a0\u3000"
_OPENERS = _SPACE + "\"'“‘«([{（【「『"
_CLOSERS = _SPACE + "\"'”’»)]}）】」』"
_GLOSS = ".!,;:…—–([{。！，；：、（【"
"""What sets a gloss off from the label. `A is worse` and `A?` are no gloss: what follows could take the label back."""


class _Reading(NamedTuple):
    """A label, or the reason why there is none."""

    label: str | None = None
    reason: Reason | None = None


def read_score(reply: Generated, labels: Sequence[str]) -> Score:
    """The rubric's value in [0, 1], with the digit itself in `parts`."""
    reading = _read(reply, labels)
    if reading.label is None:
        return Score(reason=reading.reason)
    return _score_of(reading.label)


@lru_cache(maxsize=9)
def _score_of(label: str) -> Score:
    raw = int(label)
    return Score((raw - 1) / 8, parts={"raw": raw})


def read_choice(reply: Generated, labels: Sequence[str]) -> Choice:
    """The position shown that won: the first label is 0, the second 1, the third (where there is one) a tie."""
    reading = _read(reply, labels)
    if reading.label is None:
        return Choice(reason=reading.reason)
    position = labels.index(reading.label)
    return Choice(position if position < 2 else -1)


def without_reasoning(text: str) -> str:
    """What is left: closed blocks go, an unclosed one takes the rest, a lone closing tag takes what precedes it."""
    kept: list[str] = []
    inside: str | None = None
    start = 0
    for tag in _TAG.finditer(text):
        closes, name = bool(tag[1]), tag[2].lower()
        if inside is None:
            kept = [] if closes else [*kept, text[start : tag.start()]]
            inside = None if closes else name
            start = tag.end()
        elif closes and name == inside:
            inside, start = None, tag.end()
    if inside is None:
        kept.append(text[start:])
    # Not "" nor a line break: a block inside a line must not make "10" of "1" and "0", nor begin a verdict line.
    return " ".join(kept)


def _read(reply: Generated, labels: Sequence[str]) -> _Reading:
    if reply.finish_reason == "length":
        return _Reading(reason=Reason.REPLY_TRUNCATED)
    if reply.message.get("refusal"):
        return _Reading(reason=Reason.REFUSED)
    if reply.finish_reason == "content_filter":
        return _Reading(reason=Reason.CONTENT_FILTER)
    if reply.finish_reason in ("abort", "error", "mismatch"):
        return _Reading(reason=Reason.UNPARSEABLE)
    content = reply.message.get("content") or ""
    plain = _plain_label(content, labels)
    return _Reading(plain) if plain is not None else _read_text(without_reasoning(content), labels)


def _plain_label(text: str, labels: Sequence[str]) -> str | None:
    """The label of a reply that does exactly as it was told; None sends all others to the long way, which agrees."""
    last = text[text.rfind("\n") + 1 :]
    label = last[9:]
    plain = last.startswith("VERDICT: ") and label in labels and "<" not in text and text.upper().count("VERDICT") == 1
    return label if plain and len(text.splitlines()) == text.count("\n") + 1 else None


def _read_text(text: str, labels: Sequence[str]) -> _Reading:
    digits = labels[0].isdigit()
    lines = [line for line in (_EMPHASIS.sub(" ", raw).strip() for raw in text.splitlines()) if line]
    while lines and _RULE.fullmatch(lines[-1]):
        lines.pop()
    said = [_after_colon(line, digits) for line in lines]
    if not said or said[-1] is None:
        return _Reading(reason=Reason.UNPARSEABLE)
    if digits and _OUT_OF.search(said[-1]):
        return _Reading(reason=Reason.UNPARSEABLE)
    named = [_named(verdict, labels) for verdict in said if verdict is not None]
    if len(named[-1]) > 1 or len({label for one in named if len(one) == 1 for label in one}) > 1:
        return _Reading(reason=Reason.AMBIGUOUS)
    label = _standing_alone(said[-1], labels)
    return _Reading(label) if label is not None else _Reading(reason=Reason.UNPARSEABLE)


def _after_colon(line: str, digits: bool) -> str | None:
    """What a line says after `VERDICT:`, a denominator of nine left out; None for any other line."""
    found = _VERDICT.fullmatch(line)
    if found is None:
        return None
    return _OUT_OF_NINE.sub(" ", found[1]) if digits else found[1]


def _named(said: str, labels: Sequence[str]) -> frozenset[str]:
    """The labels on a line: stand-alone capitals, whole numbers."""
    if labels[0].isdigit():
        return frozenset(_numbers(said)) & frozenset(labels)
    return frozenset(re.findall(rf"(?<!\w)(?:{'|'.join(map(re.escape, labels))})(?!\w)", said))


def _numbers(said: str) -> list[str]:
    """Whole words that hold a digit: `7.5`, `07` and `7th` are each one, and `7,` is `7`."""
    words = (word.strip(".,") for word in _WORD.findall(said))
    return [word for word in words if any(c.isdigit() for c in word)]


def _standing_alone(said: str, labels: Sequence[str]) -> str | None:
    """The label that a line opens with, when nothing but closers or a gloss follows."""
    if labels[0].isdigit() and not set(_numbers(said)) <= set(labels):
        return None
    opened = said.lstrip(_OPENERS)
    label = next((label for label in sorted(labels, key=len, reverse=True) if opened.startswith(label)), None)
    if label is None:
        return None
    tail = opened[len(label) :]
    rest = tail.lstrip(_CLOSERS)
    dashed = tail[:1] in (" ", "\t") and rest.startswith(("- ", "-- "))
    return label if rest == "" or rest[0] in _GLOSS or dashed else None
