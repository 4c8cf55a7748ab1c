"""Sources: rows in, from JSONL, CSV, TSV, Parquet, text, stdin and data sets."""

from __future__ import annotations

from prefsmith.sources.control import CONTROL_TOKENS
from prefsmith.sources.source import STREAM_STAMP, Source, open_source

__all__ = ["CONTROL_TOKENS", "STREAM_STAMP", "Source", "open_source"]
