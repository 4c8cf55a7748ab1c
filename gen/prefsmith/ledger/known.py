"""What the ledger holds of one prompt, as plain values that the pure stages read.

Keys inside are ledger integers for samplers, judges and texts, and the hash for `reads` (its integer exists only in
rows). The order in which anything arrived is not kept: nothing may depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import orjson

from prefsmith.outcomes import Judged, Key
from prefsmith.reasons import Reason
from prefsmith.records import Generated, Item, Prompt, said


class OpenItem(NamedTuple):
    """An item of the view; `line` is its row in the source."""

    id: int
    hash: bytes
    line: int
    source_id: str | None
    item: Item


@dataclass(frozen=True, slots=True)
class Work:
    """A prompt with all of its items in the view, in the order of their lines."""

    id: int
    hash: bytes
    prompt: Prompt
    items: tuple[OpenItem, ...]


class Completion(NamedTuple):
    text: int
    n_chars: int
    finish_reason: str
    n_tokens: int | None
    seed: int | None
    reasoning: str | None


VerdictKey: TypeAlias = tuple[int, bytes, tuple[int, ...], int]
"""(judge id, reads hash, text ids in the order shown, repeat)."""


class Tried(NamedTuple):
    """A judge call that could not be read: which step it was, why, and what came back (None: final failure)."""

    step: str
    reason: Reason
    reply: Generated | None


@dataclass(slots=True)
class Known:
    """Everything the ledger holds of one prompt; grows only by what has been committed.

    `bodies`: text id -> the assistant message as canonical JSON; a reader may leave long ones out.
    `damaged`: texts that held a lone surrogate.
    """

    completions: dict[Key, Completion] = field(default_factory=dict)
    closed: dict[Key, Reason] = field(default_factory=dict)
    verdicts: dict[VerdictKey, Judged] = field(default_factory=dict)
    tried: dict[VerdictKey, list[Tried]] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    reads: dict[bytes, int] = field(default_factory=dict)
    damaged: set[int] = field(default_factory=set)
    gated: tuple[int, dict[Key, Reason | None]] | None = None
    """The gates of so many completions, as `stages.plan` last worked them out: a prompt is looked at several times."""
    _text_ids: dict[bytes, int] | None = None

    @property
    def text_ids(self) -> dict[bytes, int]:
        """`bodies` the other way round. Made when it is first wanted, for only writers want it."""
        if self._text_ids is None:
            self._text_ids = {body: text for text, body in self.bodies.items()}
        return self._text_ids

    def add_text(self, text: int, body: bytes) -> None:
        self.text_ids[body] = text
        self.bodies[text] = body

    def text(self, text_id: int) -> str:
        """What a judge or grader reads of a completion."""
        return said(orjson.loads(self.bodies[text_id]))
