"""The targets, as data: where each one's file lies, what it carries, how its rows look and where they go.

Another target is another entry of FORMATS. It knows no files' contents and decides nothing about a pair.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefsmith.errors import UsageError, did_you_mean
from prefsmith.export.guards import ANYTHING, HUGGING_FACE, OPENAI, Carries
from prefsmith.export.naming import Naming
from prefsmith.export.rows import Row, completion_rows, openai_rows, trl_rows
from prefsmith.export.sinks import Columns, Kind, Lines, Sink, Table, TrainerLines
from prefsmith.outcomes import Pair, Record


@dataclass(frozen=True, slots=True)
class Format:
    """One target. `file` and `sidecar` are paths below the export folder; `rows` takes the pairs that passed."""

    name: str
    file: str
    carries: Carries
    rows: Callable[[Record, Sequence[Pair], Naming], Iterator[Row]]
    open: Callable[[Path, Naming], Sink]
    sidecar: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        return (self.file,) if self.sidecar is None else (self.file, self.sidecar)


_MESSAGES = ("prompt", "chosen", "rejected")


def trl_columns(has_tools: bool) -> Columns:
    """Messages with calls have no common shape, so they are JSON texts, which `datasets` turns back (its `Json`)."""
    messages: Kind = "json_messages" if has_tools else "messages"
    columns: dict[str, Kind] = {"id": "string", **dict.fromkeys(_MESSAGES, messages)}
    if has_tools:
        columns["tools"] = "string"
    for name in ("margin", "score_chosen", "score_rejected"):
        columns[name] = "float64"
    for name in ("reference", "category", "metadata"):
        columns[name] = "string"
    return columns


_COMPLETIONS: Columns = {
    "item_id": "string",
    "prompt_id": "string",
    "source_id": "string",
    "prompt": "string",
    "target": "string",
    "model": "string",
    "temperature": "float64",
    "sampler": "string",
    "idx": "int64",
    "text": "string",
    "message": "string",
    "reasoning": "string",
    "finish_reason": "string",
    "gate": "string",
    "damaged": "bool",
    "n_chars": "int64",
    "n_tokens": "int64",
    "seed": "int64",
    "scores": "string",
    "in_pair": "string",
    "no_pair": "string",
    "reference": "string",
    "category": "string",
    "columns": "string",
}


def _trl_lines(place: Path, names: Naming) -> Sink:
    return TrainerLines(place, names.has_tools)


def _trl_table(place: Path, names: Naming) -> Sink:
    return Table(place, trl_columns(names.has_tools))


def _lines(place: Path, names: Naming) -> Sink:
    return Lines(place)


def _completions(place: Path, names: Naming) -> Sink:
    return Table(place, _COMPLETIONS)


FORMATS: Mapping[str, Format] = {
    f.name: f
    for f in (
        Format("trl", "trl/train.jsonl", HUGGING_FACE, trl_rows, _trl_lines),
        Format("trl-parquet", "trl-parquet/train-00000-of-00001.parquet", HUGGING_FACE, trl_rows, _trl_table),
        Format("openai", "openai/preferences.jsonl", OPENAI, openai_rows, _lines, "openai-index.jsonl"),
        Format("parquet", "parquet/completions.parquet", ANYTHING, completion_rows, _completions),
    )
}


def format_named(name: str) -> Format:
    """Raises UsageError for a name that is no format."""
    if name not in FORMATS:
        raise UsageError(f"no export format {name!r}; {did_you_mean(name, FORMATS)}")
    return FORMATS[name]
