"""What the model behind a server can do, as a value: declared, found out by asking, or taken to be everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prefsmith.records import Json

MaxTokensField = Literal["max_tokens", "max_completion_tokens"]


@dataclass(frozen=True, slots=True)
class Can:
    """`n`: several choices in one request; `seed`: a repeated request gets the same answer; `reasoning`: where thoughts
    stand (reasoning_content, reasoning, think, hidden), None for nowhere; `refused`: fields of a body that the server
    does not take, whatever their value, and which are left out; `ignores_unknown`: HTTP 200 for a field nobody
    knows; `decisions`: it has the route of that name, which is declared and never tried out.
    """

    n: bool = True
    temperature: bool = True
    logprobs: bool = True
    seed: bool = True
    max_tokens_field: MaxTokensField = "max_tokens"
    reasoning: str | None = None
    refused: tuple[str, ...] = ()
    ignores_unknown: bool | None = None
    decisions: bool = False

    def to_json(self) -> dict[str, Json]:
        return {name: getattr(self, name) for name in self.__slots__} | {"refused": list(self.refused)}

    @classmethod
    def from_json(cls, value: Json) -> Can:
        """What `to_json` wrote, by this version or an earlier one."""
        known = {name: value[name] for name in cls.__slots__ if name in value}
        return cls(**known | {"refused": tuple(value.get("refused", ()))})

    def told(self) -> str:
        """All of it, for people."""
        temperature = "temperature" in self.refused or not self.temperature
        parts = [
            f"n: {'yes' if self.n else 'one choice a request'}",
            f"temperature: {'only 1' if temperature else 'yes'}",
            f"logprobs: {'yes' if self.logprobs else 'no'}",
            f"seed: {'yes' if self.seed else 'refused' if 'seed' in self.refused else 'ignored'}",
            f"cap: {self.max_tokens_field}",
            f"thoughts: {self.reasoning or 'none seen'}",
        ]
        if others := [name for name in self.refused if name not in ("n", "temperature", "logprobs", "seed")]:
            parts.append(f"refused: {', '.join(others)}")
        return ", ".join(parts)

    def lacks(self) -> list[str]:
        """What is missing, in words for people."""
        out = []
        if not self.n:
            out.append("one choice a request")
        if not self.temperature:
            out.append("no temperature but 1")
        if not self.logprobs:
            out.append("no log-probabilities")
        if not self.seed:
            out.append("seeds are refused" if "seed" in self.refused else "seeds are ignored")
        return out
