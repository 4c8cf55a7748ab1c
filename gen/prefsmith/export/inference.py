"""How `datasets` guesses the types of a JSONL file, and the first row that keeps it from guessing wrong.

It takes a file's types from its first 10 MiB, and each later 10 MiB are parsed by themselves and cast: messages that
gain a key there are an error, and texts that all look like dates become timestamps (traps 5 and 6, datasets 5.2). It
knows neither files nor records.
"""

from __future__ import annotations

import re

from prefsmith.export.rows import Row

CHUNK_BYTES = 10 << 20
"""`chunksize` of datasets/packaged_modules/json/json.py, 5.2.0."""
SIDES = ("prompt", "chosen", "rejected")
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d(?::?\d\d(?::?\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d(?::?\d\d)?)?)?")


def leading(row: Row) -> Row:
    """The same row with every message key spelt out, null where it has none.

    As a file's first row it shows messages with different keys at once; `datasets` then reads the messages of the
    whole file as JSON (its `Json`), which holds any call and leaves every text alone.
    """
    return row | {
        side: [message | {key: message.get(key) for key in ("tool_calls", "tool_call_id")} for message in row[side]]
        for side in SIDES
    }


class DateRuns:
    """Whether some 10 MiB of a file, or all of it, have nothing but dates as the texts of one message column."""

    def __init__(self) -> None:
        self._run_bytes = dict.fromkeys(SIDES, 0)
        self._longest_bytes = 0
        self._n_bytes = 0

    def see(self, row: Row, n_bytes: int) -> None:
        self._n_bytes += n_bytes
        for side in SIDES:
            dates = all(_DATE.fullmatch(message["content"]) for message in row[side])
            self._run_bytes[side] = self._run_bytes[side] + n_bytes if dates else 0
            self._longest_bytes = max(self._longest_bytes, self._run_bytes[side])

    @property
    def misread(self) -> bool:
        return self._longest_bytes > 0 and self._longest_bytes >= min(self._n_bytes, CHUNK_BYTES)
