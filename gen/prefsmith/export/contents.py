"""What a row says, whatever its layout: the prompt, the two completions, and how that differs from a record.

Invariant: read from the row alone by a way of its own, so that a mistake of a layout is found and not repeated. It
knows no files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import cast

import orjson

from prefsmith.export.guards import core, fingerprint, pair_fingerprint
from prefsmith.export.rows import Row, pair_id
from prefsmith.outcomes import Pair, Record
from prefsmith.reasons import Reason
from prefsmith.records import Json, Message, canonical

_SIDES = ("prompt", "chosen", "rejected")


@dataclass(frozen=True, slots=True)
class Content:
    """`key` is equal for rows that say the same; the parts are empty for a completion's row."""

    key: bytes
    id: str | None = None
    prompt: Json = None
    tools: Json = None
    chosen: Json = None
    rejected: Json = None

    def likeness(self, other: Content) -> int:
        """How much of the other is in this one; 0 when nothing is."""
        same = 4 * (self.id is not None and self.id == other.id) + (
            self.prompt is not None and self.prompt == other.prompt
        )
        sides = {canonical(self.chosen), canonical(self.rejected)} & {
            canonical(other.chosen),
            canonical(other.rejected),
        }
        return same + 2 * len(sides - {b"null"})

    def differences(self, origin: Content, record: Record) -> Iterator[str]:
        """Sentences on how this row departs from the pair that it was made from."""
        label = f"pair {origin.id}"
        if self.prompt != origin.prompt:
            yield f"its prompt is not the one that its completions belong to ({label})"
        if self.tools != origin.tools:
            yield f"its tools are not those of its prompt ({label})"
        if (self.chosen, self.rejected) == (origin.rejected, origin.chosen):
            yield f"chosen and rejected are swapped: the chosen score is not above the rejected one ({label})"
            return
        completions = [core(sample.message) for sample in record.samples]
        for side, mine, theirs in (
            ("chosen", self.chosen, origin.chosen),
            ("rejected", self.rejected, origin.rejected),
        ):
            if mine == theirs:
                continue
            if mine in completions:
                yield f"{side} text is another completion of its prompt than the pair names ({label})"
            else:
                yield f"{side} text is not a completion of its prompt ({label})"


def of_row(row: Row) -> Content:
    """Raises KeyError, TypeError, ValueError, AttributeError or IndexError for what is no row of a layout."""
    if "item_id" in row:
        return of_completion(row)
    if "input" in row:
        prompt, tools = row["input"]["messages"], row["input"]["tools"] or None
        chosen, rejected = row["preferred_output"], row["non_preferred_output"]
    else:
        prompt, chosen, rejected = (row[side] for side in _SIDES)
        tools = orjson.loads(row["tools"]) if row.get("tools") is not None else None
    if len(chosen) != 1 or len(rejected) != 1:
        raise ValueError("chosen and rejected must be one message each")
    messages = [_inside(m) for m in prompt]
    sides = _inside(chosen[0]), _inside(rejected[0])
    key = fingerprint(messages, tools, *sides)
    return Content(key, row.get("id"), [core(m) for m in messages], tools, core(sides[0]), core(sides[1]))


def of_pair(record: Record, pair: Pair) -> Content:
    prompt = record.item.prompt
    return Content(
        pair_fingerprint(record, pair),
        pair_id(record, pair),
        [core(m) for m in prompt.messages],
        list(prompt.tools) if prompt.tools else None,
        core(record.sample(pair.chosen).message),
        core(record.sample(pair.rejected).message),
    )


def of_completion(row: Row) -> Content:
    name = canonical([row["item_id"], row["sampler"], row["idx"]])
    return Content(blake2b(name, digest_size=16, person=b"completion").digest())


def _inside(message: Json) -> Message:
    """A message of either style as the run holds it: arguments are an object."""
    if not isinstance(message["role"], str) or not isinstance(message.get("content"), str | None):
        raise TypeError("a message needs a role and a content of text")
    calls = [
        call | {"function": call["function"] | {"arguments": _object(call["function"]["arguments"])}}
        for call in message.get("tool_calls") or ()
    ]
    return cast(Message, message | {"tool_calls": calls})


def _object(arguments: Json) -> Json:
    return orjson.loads(arguments) if isinstance(arguments, str) else arguments


def misfit(row: Row, expected: Row) -> Iterator[str]:
    """Sentences on a row that says the right texts, or names the right completion, and yet is not as written."""
    for name in sorted(row.keys() - expected.keys()):
        yield f"column {name!r} does not belong there"
    for name, value in expected.items():
        if name not in row:
            yield f"column {name!r} is missing"
        elif _plain(row[name]) != _plain(value) or type(row[name]) is not type(value):
            yield f"{name} is {_short(row[name])}, not {_short(value)}"


def unscored(record: Record, pair: Pair) -> Iterator[str]:
    """Sentences on a pair whose judge's own scores, as the run holds them, do not put chosen above rejected."""
    scores = [record.sample(key).scores.get(pair.judge) for key in (pair.chosen, pair.rejected)]
    for side, score, told in zip(("chosen", "rejected"), scores, (pair.chosen_score, pair.rejected_score), strict=True):
        if score is None or isinstance(score, Reason):
            yield f"the judge of this pair has no score for {side}"
        elif score != told:
            yield f"score of {side} is {told}, but its judge gave {score}"
    better, worse = scores
    if isinstance(better, float | int) and isinstance(worse, float | int) and not better > worse:
        yield f"chosen score {better} is not above rejected score {worse}"


def _plain(value: Json) -> Json:
    """Without the null keys that the first row of a file spells out; content stays, null or not."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if v is not None or k == "content"}
    return [_plain(v) for v in value] if isinstance(value, list) else value


def _short(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
