"""Reading a judge's reply: one label, or one ranking, from its last line, or the reason why there is none.

Invariant: pure, total, and never a guess. A text without a readable verdict line has no value, and a line that
could mean two things has none either: a repair turn costs one call, a wrong verdict a wrong pair. It does not know
what was asked, nor in which order the answers were shown.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import orjson

from prefsmith.judging.expect import LEAST_MASS, masses
from prefsmith.outcomes import Artifact, Choice, Ranking, Score
from prefsmith.reasons import Reason
from prefsmith.records import Generated, Json

READ_VERSION = 2
"""Raise it with any change that reads a stored reply otherwise: verdicts say which version read them."""

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What the answers of a listwise judge are called, in the order shown."""
# Every pattern here is linear in the text: a reply may be long, and an attacker's.
_TAG = re.compile(r"<(/?)(think|thinking|reasoning)\s*>", re.I)
_VERDICT = re.compile(r"[\s#\"'“‘(\[【「]*verdict[\s\"'”’]*[:：](.*)", re.I | re.S)
_RULE = re.compile(r"~{3,}|[-=](?:\s*[-=]){2,}")
_OUT_OF_NINE = re.compile(r"(?<=\d)[\s)\]}(\[（]*(?:/|\bout\s+of\b)\s*9(?!\w|/|[.,]\d)", re.I)
_OUT_OF = re.compile(r"(?:/|\bout\s+of\b)\s*\d|\d[\s)\]}(\[（]*(?:/|\bout\s+of\b)", re.I)
_WORD = re.compile(r"[\w.,]+")
# Emphasis, code marks and characters without width. A space takes their place: what they part is never joined.
_EMPHASIS = re.compile(r"[*_`\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_RANKED = re.compile(r"[A-Z](?![\w])(?:\s*[>=＞＝]\s*[A-Z](?!\w))*")
_LISTED = re.compile(r"\s*(?:[-*•]|\d{1,3}[.)])\s+(.*)")
_SPACE = " \t\u00a0\u3000"
_OPENERS = _SPACE + "\"'“‘«([{（【「『"
_CLOSERS = _SPACE + "\"'”’»)]}）】」』"
_GLOSS = ".!,;:…—–([{。！，；：、（【"
"""What sets a gloss off from the label. `A is worse` and `A?` are no gloss: what follows could take the label back."""


class _Reading(NamedTuple):
    """A label, or the reason why there is none."""

    label: str | None = None
    reason: Reason | None = None


class _Weighed(NamedTuple):
    """`likely`: the labels' probabilities where they decide, None where the text does; `mass`: their sum, if known."""

    reading: _Reading
    likely: Mapping[str, float] | None = None
    mass: float | None = None


def _weighed(reply: Generated, labels: Sequence[str]) -> _Weighed:
    reading = _read(reply, labels)
    likely = None if reading.label is None else _likely(reply, reading.label, labels)
    if likely is None:
        return _Weighed(reading)
    mass = sum(likely.values())
    return _Weighed(reading, likely if mass >= LEAST_MASS else None, mass)


def read_score(reply: Generated, labels: Sequence[str], needs_mass: bool = False) -> Score:
    """The rubric's value in [0, 1], with what it was made of in `parts`: the label itself, or the mean over all labels
    where the reply holds their probabilities. `needs_mass`: without those there is no value."""
    reading, likely, mass = _weighed(reply, labels)
    if reading.label is None:
        return Score(reason=reading.reason)
    if likely is None or mass is None:
        if needs_mass:
            return Score(reason=Reason.LOW_MASS, parts={"mass": mass})
        plain = _score_of(reading.label)
        return plain if mass is None else Score(plain.value, parts={"raw": int(reading.label), "mass": mass})
    raw = sum(int(label) * p for label, p in likely.items()) / mass
    parts = {"raw": raw, "mass": mass, "label": int(reading.label)}
    return Score((raw - 1) / 8, parts=parts, p=max(likely.values()) / mass)


@lru_cache(maxsize=9)
def _score_of(label: str) -> Score:
    raw = int(label)
    return Score((raw - 1) / 8, parts={"raw": raw})


def read_yes(reply: Generated, labels: Sequence[str], needs_mass: bool = False) -> Score:
    """1 for the first of two labels and 0 for the second, or the probability of the first."""
    reading, likely, mass = _weighed(reply, labels)
    if reading.label is None:
        return Score(reason=reading.reason)
    if likely is None or mass is None:
        if needs_mass:
            return Score(reason=Reason.LOW_MASS, parts={"mass": mass})
        return Score(float(reading.label == labels[0]), parts=None if mass is None else {"mass": mass})
    value = likely[labels[0]] / mass
    return Score(value, parts={"mass": mass}, p=max(value, 1 - value))


def read_choice(reply: Generated, labels: Sequence[str], needs_mass: bool = False) -> Choice:
    """The position shown that won: the first label is 0, the second 1, the third (where there is one) a tie. A tie's
    probability counts half for each side."""
    reading, likely, mass = _weighed(reply, labels)
    if reading.label is None:
        return Choice(reason=reading.reason)
    position = labels.index(reading.label)
    if likely is None or mass is None:
        return Choice(reason=Reason.LOW_MASS) if needs_mass else Choice(position if position < 2 else -1)
    p = (likely[labels[0]] + sum(likely[tie] for tie in labels[2:]) / 2) / mass
    return Choice(position if position < 2 else -1, p=p)


def read_ranking(reply: Generated, n: int) -> Ranking:
    """The positions of `n` answers, best first: the letters of the last line, each exactly once."""
    if (reason := _unread(reply)) is not None:
        return Ranking(reason=reason)
    said = _verdicts(without_reasoning(reply.message.get("content") or ""))
    if not said or said[-1] is None:
        return Ranking(reason=Reason.UNPARSEABLE)
    orders = [_order(line, n) for line in said if line is not None]
    if orders[-1] is None:
        return Ranking(reason=Reason.UNPARSEABLE)
    if any(order not in (None, orders[-1]) for order in orders):
        return Ranking(reason=Reason.AMBIGUOUS)
    return Ranking(orders[-1])


def read_list(reply: Generated, most: int) -> Artifact:
    """The lines that begin with a dash, a dot or a number, at most `most`; what stands around them is left out."""
    if (reason := _unread(reply)) is not None:
        return Artifact(reason=reason)
    text = without_reasoning(reply.message.get("content") or "")
    found = [line[1].strip() for raw in text.splitlines() if (line := _LISTED.fullmatch(raw))]
    lines = tuple(dict.fromkeys(line for line in found if any(c.isalnum() for c in line)))
    return Artifact(lines) if 0 < len(lines) <= most else Artifact(reason=Reason.UNPARSEABLE)


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


def _unread(reply: Generated) -> Reason | None:
    """Why a reply is not even looked at. One that broke its schema is: its text may hold a verdict all the same."""
    if reply.finish_reason == "length":
        return Reason.REPLY_TRUNCATED
    if reply.message.get("refusal"):
        return Reason.REFUSED
    if reply.finish_reason == "content_filter":
        return Reason.CONTENT_FILTER
    return Reason.UNPARSEABLE if reply.finish_reason in ("abort", "error") else None


def _read(reply: Generated, labels: Sequence[str]) -> _Reading:
    if (reason := _unread(reply)) is not None:
        return _Reading(reason=reason)
    content = reply.message.get("content") or ""
    plain = _plain_label(content, labels)
    if plain is None and content.lstrip().startswith("{"):
        plain = _bound_label(content, labels)
    return _Reading(plain) if plain is not None else _read_text(without_reasoning(content), labels)


def _likely(reply: Generated, label: str, labels: Sequence[str]) -> Mapping[str, float] | None:
    return None if reply.tokens is None else masses(reply.tokens, label, labels)


def _bound_label(text: str, labels: Sequence[str]) -> str | None:
    """The label of a reply that holds to the schema of `verdict_schema`; None for any other text."""
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    label = said.get("verdict") if isinstance(said, dict) else None
    return label if isinstance(label, str) and label in labels else None


def verdict_schema(labels: Sequence[str]) -> Json:
    """What a schema-bound reply looks like: its reasons first, for they are to lead to the verdict."""
    return {
        "type": "object",
        "properties": {"reasons": {"type": "string"}, "verdict": {"type": "string", "enum": list(labels)}},
        "required": ["reasons", "verdict"],
        "additionalProperties": False,
    }


def _plain_label(text: str, labels: Sequence[str]) -> str | None:
    """The label of a reply that does exactly as it was told; None sends all others to the long way, which agrees."""
    last = text[text.rfind("\n") + 1 :]
    label = last[9:]
    plain = last.startswith("VERDICT: ") and label in labels and "<" not in text and text.upper().count("VERDICT") == 1
    return label if plain and len(text.splitlines()) == text.count("\n") + 1 else None


def _verdicts(text: str, digits: bool = False) -> list[str | None]:
    """What each line says after `VERDICT:`, None for one that does not; blank ones and closing rules left out."""
    lines = [line for line in (_EMPHASIS.sub(" ", raw).strip() for raw in text.splitlines()) if line]
    while lines and _RULE.fullmatch(lines[-1]):
        lines.pop()
    return [_after_colon(line, digits) for line in lines]


def _order(said: str, n: int) -> tuple[tuple[int, ...], ...] | None:
    """`B > A = C` as positions; None unless each of the first `n` letters stands there exactly once, and nothing but a
    gloss without any of them follows."""
    found = _RANKED.match(said.lstrip(_OPENERS))
    if found is None:
        return None
    rest = said.lstrip(_OPENERS)[found.end() :].lstrip(_CLOSERS)
    groups = [re.split(r"\s*[=＝]\s*", group.strip()) for group in re.split("[>＞]", found[0])]
    letters = [letter for group in groups for letter in group]
    if sorted(letters) != list(LETTERS[:n]) or (rest and rest[0] not in _GLOSS):
        return None
    if _named(rest, letters):
        return None
    return tuple(tuple(sorted(LETTERS.index(letter) for letter in group)) for group in groups)


def _read_text(text: str, labels: Sequence[str]) -> _Reading:
    digits = labels[0].isdigit()
    said = _verdicts(text, digits)
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
