"""Which completions are judged and paired at all: pure, derived from the ledger, free to change.

Only a natural stop passes. Of equal texts of a prompt one stays, drawn by seed, so that no temperature is favoured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from prefsmith.ledger.ids import draw
from prefsmith.ledger.known import Completion, Known
from prefsmith.outcomes import Key
from prefsmith.reasons import Reason
from prefsmith.text import TRIVIAL_CHARS, trivial

NATURAL_STOPS: Final = frozenset({"stop", "tool_calls", "function_call"})


@dataclass(frozen=True, slots=True)
class Gates:
    """`min_tokens`: fewer is empty; `max_chars`: longer is too long, None is off."""

    min_tokens: int = 1
    max_chars: int | None = None


def gated(
    gates: Gates, known: Known, samplers: Mapping[int, bytes], seed: int, of_prompt: bytes
) -> dict[Key, Reason | None]:
    """The gate that holds each completion back, None for those that pass. `samplers`: id -> hash."""
    held, bodies = known.completions, known.bodies
    out = {key: _gate(gates, c, bodies.get(c.text)) for key, c in held.items()}
    passed = [key for key, reason in out.items() if reason is None]
    if len({held[key].text for key in passed}) == len(passed):
        return out
    by_text: dict[int, list[Key]] = {}
    for key in passed:
        by_text.setdefault(held[key].text, []).append(key)
    for keys in by_text.values():
        if len(keys) > 1:
            stays = min(keys, key=lambda k: draw(seed, b"identical", of_prompt, samplers[k[0]], k[1]))
            out.update({k: Reason.IDENTICAL for k in keys if k != stays})
    return out


def _gate(gates: Gates, completion: Completion, body: bytes | None) -> Reason | None:
    if completion.finish_reason not in NATURAL_STOPS:
        return Reason.TRUNCATED if completion.finish_reason == "length" else Reason.ABORTED
    if completion.n_tokens is not None and completion.n_tokens < gates.min_tokens:
        return Reason.EMPTY
    if completion.n_chars <= TRIVIAL_CHARS and body is not None and _says_nothing(body):
        return Reason.EMPTY
    if gates.max_chars is not None and completion.n_chars > gates.max_chars:
        return Reason.TOO_LONG
    return None


def _says_nothing(body: bytes) -> bool:
    message = orjson.loads(body)
    return not message.get("tool_calls") and trivial(message.get("content") or "")
