"""What the caller knows of a run and a record does not say: what its samplers and judges are.

Integer ids are a ledger's own; a file holds descriptions and names, so that two ledgers of one view write one file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prefsmith.errors import PrefsmithError
from prefsmith.records import Json


@dataclass(frozen=True, slots=True)
class Naming:
    """`samplers`: id -> description (`Sampler.described()`); `judges`: id -> name.

    `has_tools`: some prompt of the run offers tools, which every row's layout then allows for.
    `joined`: records of one prompt may stand far apart, as those of several runs do; otherwise they follow each other.
    `control_tokens`: pairs with one of these in a message are left out of trainers' files.
    """

    samplers: Mapping[int, Mapping[str, Json]] = field(default_factory=dict)
    judges: Mapping[int, str] = field(default_factory=dict)
    has_tools: bool = False
    joined: bool = True
    control_tokens: tuple[str, ...] = ()

    def sampler(self, key: int) -> dict[str, Json]:
        if key not in self.samplers:
            raise PrefsmithError(f"export was given no description of sampler {key} (known: {sorted(self.samplers)})")
        return dict(self.samplers[key])

    def judge(self, key: int) -> str:
        if key not in self.judges:
            raise PrefsmithError(f"export was given no name of judge {key} (known: {sorted(self.judges)})")
        return self.judges[key]
