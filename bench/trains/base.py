"""A model to be trained, and who serves it: llama.cpp where there is a GGUF of it, else vLLM."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Base(NamedTuple):
    """`home`: the model in transformers' form, which the trainers read."""

    home: Path
    gguf: Path | None = None

    @property
    def target(self) -> str:
        """As prefsmith samples from it."""
        return f"vllm:{self.home}" if self.gguf is None else f"embedded:{self.gguf}"

    def tuned(self, out: Path) -> str:
        """The same of what was trained into `out`."""
        return f"vllm:{out / 'tuned'}" if self.gguf is None else f"embedded:{out / 'tuned.gguf'}"

    @property
    def words(self) -> tuple[str, ...]:
        """Of the trainer's command line."""
        return ("--model", str(self.home), *(() if self.gguf is None else ("--gguf", str(self.gguf))))
