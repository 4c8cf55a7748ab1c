"""How many tokens a request will cost, before it is sent: an estimate for the bucket, corrected by what it did cost."""

from __future__ import annotations

from bisect import insort
from collections.abc import Hashable
from typing import Final

from prefsmith.records import Usage

CHARS_A_TOKEN: Final = 3.5
"""English prose has 4 to 4.5, code and other languages less: rather too many tokens than too few."""
FIRST_ANSWER_TOKENS: Final = 256
N_CAREFUL: Final = 200
"""So many answers of a sampler are estimated by the 90th percentile, for a mean of few is soon too small."""
WEIGHT: Final = 0.02
"""Of the newest answer in the mean, so of about fifty, as curator's (base_online_request_processor)."""


class _Seen:
    def __init__(self) -> None:
        self.first: list[float] = []
        self.mean = 0.0
        self.n = 0


class TokenEstimate:
    def __init__(self) -> None:
        self._seen: dict[Hashable, _Seen] = {}

    def tokens(self, sampler: Hashable, n_chars: int, n: int, max_tokens: int) -> float:
        """Of a request for `n` answers to a prompt of so many characters."""
        return n_chars / CHARS_A_TOKEN + n * min(max_tokens, self._answer_tokens(sampler))

    def observe(self, sampler: Hashable, usage: Usage, n: int = 1) -> None:
        """`n`: how many answers the usage is of."""
        if usage.n_completion_tokens is None or n < 1:
            return
        each = usage.n_completion_tokens / n
        seen = self._seen.setdefault(sampler, _Seen())
        seen.n += 1
        # A plain mean until that forgets more slowly than the weighted one.
        seen.mean += max(WEIGHT, 1 / seen.n) * (each - seen.mean)
        if seen.n < N_CAREFUL:
            insort(seen.first, each)
        else:
            seen.first.clear()

    def _answer_tokens(self, sampler: Hashable) -> float:
        seen = self._seen.get(sampler)
        if seen is None:
            return FIRST_ANSWER_TOKENS
        return seen.first[int(0.9 * len(seen.first))] if seen.first else seen.mean
