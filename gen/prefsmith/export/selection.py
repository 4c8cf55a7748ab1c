"""Which pairs of a stream each target gets: the guards, and each (prompt, chosen, rejected) once.

Invariant: for every format, pairs in = pairs kept + pairs skipped by reason; writing and verifying ask here alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from prefsmith.export.formats import Format
from prefsmith.export.guards import ANYTHING, Carries, pair_fingerprint, refusal, uncarried
from prefsmith.export.naming import Naming
from prefsmith.outcomes import Pair, Record
from prefsmith.reasons import Reason


class Selection:
    """One pass over a stream of records. Keeps 16 bytes a pair: of one prompt, or of a joined stream whole."""

    def __init__(self, formats: Sequence[Format], names: Naming) -> None:
        self._carries = [_told(f.carries, names) for f in formats]
        self._seen: set[bytes] = set()
        self._joined, self._prompt = names.joined, ""

    def judged(self, record: Record) -> list[tuple[Pair, list[str | None]]]:
        """Each pair of the record with its reason not to be written, per format, None where it is."""
        if not self._joined and record.prompt_id != self._prompt:
            self._seen.clear()
            self._prompt = record.prompt_id
        return [(pair, self._reasons(record, pair)) for pair in record.pairs]

    def _reasons(self, record: Record, pair: Pair) -> list[str | None]:
        if (why := refusal(record, pair, ANYTHING)) is not None:
            return [why] * len(self._carries)
        key = pair_fingerprint(record, pair)
        if key in self._seen:
            return [Reason.SAME_PAIR] * len(self._carries)
        self._seen.add(key)
        return [None if c is ANYTHING else uncarried(record, pair, c) for c in self._carries]


def _told(carries: Carries, names: Naming) -> Carries:
    if carries is ANYTHING or not names.control_tokens:
        return carries
    return replace(carries, control_tokens=names.control_tokens)
