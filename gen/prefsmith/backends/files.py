"""Model files: what identifies them, and where fetched ones are kept.

A file is its content: a copy under another name is the same model, a changed file under the same name is not. A
large file is hashed once and remembered by its size and time of change. Nothing here knows a format.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import orjson

REMEMBER_BYTES = 32_000_000
"""Smaller files are hashed anew each time: that costs less than 0.1 s."""


def cache_dir() -> Path:
    """Where fetched models and remembered hashes lie: $XDG_CACHE_HOME/prefsmith or ~/.cache/prefsmith."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "prefsmith"


def content_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file's content, from the cache where size and time of change are those remembered."""
    path = path.resolve()
    stat = path.stat()
    stamp = [stat.st_size, stat.st_mtime_ns]
    memory = cache_dir() / "sha256" / hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    if stat.st_size >= REMEMBER_BYTES:
        try:
            size, mtime_ns, known = orjson.loads(memory.read_bytes())
            if [size, mtime_ns] == stamp:
                return str(known)
        except (OSError, ValueError):
            pass  # nothing remembered, or not readable: hash it
    found = content_sha256(path)
    if stat.st_size >= REMEMBER_BYTES:
        _remember(memory, orjson.dumps([*stamp, found]))
    return found


def _remember(memory: Path, content: bytes) -> None:
    """Written whole or not at all; a cache that cannot be written costs time, never a run."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=memory.parent, delete=False) as file:
            file.write(content)
        os.replace(file.name, memory)
    except OSError:
        return
