"""The texts that a stage decides among, and draws over them that come out alike in every ledger."""

from __future__ import annotations

from collections.abc import Mapping
from math import factorial

from prefsmith.ledger.ids import draw
from prefsmith.outcomes import Key

_MOST_DRAWS = 1000
"""Until so many shuffles in a row were seen before, there may be another one."""


class Entrants:
    """The distinct texts of a prompt that passed the gates, by cell and index. `alive`: completions that passed, with
    their texts."""

    __slots__ = ("_names", "_samplers", "alive", "of_prompt", "texts")

    def __init__(self, of_prompt: bytes, alive: Mapping[Key, int], samplers: Mapping[int, bytes]) -> None:
        self.of_prompt = of_prompt
        self._samplers = samplers
        self._names: dict[int, bytes] = {}
        self.alive = alive
        self.texts = tuple(dict.fromkeys(alive.values()))

    @classmethod
    def named(cls, of_prompt: bytes, names: Mapping[int, bytes]) -> Entrants:
        """Texts that nobody sampled, under names that say the same in every folder."""
        out = cls(of_prompt, {}, {})
        out.texts, out._names = tuple(names), dict(names)
        return out

    @property
    def names(self) -> Mapping[int, bytes]:
        """A sampler's hash and an index, by which a text is known in every folder; its integer is this ledger's own.
        Worked out when it is first wanted, for most stages do not."""
        if not self._names:
            for key, text in self.alive.items():
                self._names.setdefault(text, self._samplers[key[0]] + b"%d" % key[1])
        return self._names

    def drawn(self, judge: bytes, *what: bytes | int) -> tuple[int, ...]:
        """All texts in an order that says nothing of where they come from. `judge`: a hash, as is what it is drawn for:
        not of the run's seed, for what is shown belongs to a verdict's key."""
        return tuple(sorted(self.texts, key=lambda t: draw(0, judge, self.of_prompt, self.names[t], *what)))

    def shuffles(self, judge: bytes, n: int) -> list[tuple[int, ...]]:
        """`n` different orders of all texts, or as many as there are."""
        out: dict[tuple[int, ...], None] = {}
        most = min(n, factorial(min(len(self.texts), 6)))
        for i in range(_MOST_DRAWS):
            if len(out) == most:
                break
            out[self.drawn(judge, b"shuffle", i)] = None
        return list(out)

    def ordered(self, judge: bytes, a: int, b: int) -> tuple[int, int]:
        """The pair in the one order in which it is shown when it is not shown in both."""
        first, second = sorted((a, b), key=lambda t: self.names[t])
        if draw(0, judge, self.of_prompt, b"order", self.names[first], self.names[second]) % 2:
            return second, first
        return first, second
