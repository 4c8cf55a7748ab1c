"""A benchmark file as columns: what the metrics need of it, and no text."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from prefsmith.agreement.votes import ABSENT, Gold
from prefsmith.benchmark.contest import Contest
from prefsmith.records import canonical


@dataclass(frozen=True)
class Benchmark:
    """`ids`: the place of each pair's id in the columns of `gold`."""

    gold: Gold
    ids: dict[str, int]


@dataclass(slots=True)
class _Columns:
    """Grows by one entry a pair; words become codes as they are met."""

    label: array[int] = field(default_factory=lambda: array("b"))
    longer: array[int] = field(default_factory=lambda: array("b"))
    cluster: array[int] = field(default_factory=lambda: array("q"))
    category: array[int] = field(default_factory=lambda: array("q"))
    group: array[int] = field(default_factory=lambda: array("q"))
    models: array[int] = field(default_factory=lambda: array("q"))
    ratings: list[tuple[int | None, ...]] = field(default_factory=list)
    codes: dict[str, dict[object, int]] = field(default_factory=dict)

    def code(self, kind: str, word: object) -> int:
        """-1 for no word."""
        if word is None:
            return -1
        known = self.codes.setdefault(kind, {})
        return known.setdefault(word, len(known))

    def words(self, kind: str) -> tuple[str, ...]:
        return tuple(str(word) for word in self.codes.get(kind, {}))


def benchmark(contests: Iterable[Contest]) -> Benchmark:
    """Equal prompts are one cluster."""
    c, ids = _Columns(), dict[str, int]()
    for one in contests:
        ids[one.id] = len(ids)
        label = one.label
        c.label.append(ABSENT if label is None else label)
        c.longer.append((len(one.a) > len(one.b)) - (len(one.a) < len(one.b)))
        c.cluster.append(c.code("prompt", blake2b(canonical(one.prompt), digest_size=16).digest()))
        c.category.append(c.code("category", one.category))
        c.group.append(c.code("group", one.group))
        c.models.extend((c.code("model", one.model_a), c.code("model", one.model_b)))
        c.ratings.append(one.ratings)
    n, most = len(ids), max((len(r) for r in c.ratings), default=0)
    ratings = None
    if most > 1:
        # Raters are told apart by their place only; what one left out, and what none gave, is missing.
        ratings = np.full((n, most), np.nan)
        for i, said in enumerate(c.ratings):
            ratings[i, : len(said)] = [np.nan if r is None else r for r in said]
    gold = Gold(
        label=np.array(c.label, np.int8),
        cluster=np.array(c.cluster, np.int64),
        longer=np.array(c.longer, np.int8),
        category=np.array(c.category, np.int64),
        categories=c.words("category"),
        group=np.array(c.group, np.int64) if c.codes.get("group") else None,
        ratings=ratings,
        models=np.array(c.models, np.int64).reshape(n, 2) if c.codes.get("model") else None,
        model_names=c.words("model"),
    )
    return Benchmark(gold, ids)
