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
WHOLE_BYTES = 1_000_000_000
"""Larger files of a folder count by their size and by pieces of them, spread evenly."""
_N_PIECES, _PIECE_BYTES = 256, 4096
_MODEL_FILES = frozenset({".json", ".jinja", ".safetensors", ".bin", ".pt", ".model", ".tiktoken", ".txt", ".py"})
_OF_TRAINING = frozenset(
    {"trainer_state.json", "training_args.bin", "optimizer.pt", "scheduler.pt", "requirements.txt"}
)


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


def folder_sha256(folder: Path) -> str:
    """The hex SHA-256 of a checkpoint's folder: names and content of the files that a model is made of.

    What training leaves beside them does not count. Two checkpoints of one training have the same configuration, names
    and sizes, so their weights must count by content; of files above `WHOLE_BYTES` only pieces are read.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir(), key=lambda p: p.name):
        if path.suffix in _MODEL_FILES and path.name not in _OF_TRAINING and path.is_file():
            large = path.stat().st_size > WHOLE_BYTES
            digest.update(f"{path.name}\0{_pieces_sha256(path) if large else sha256_of(path)}\0".encode())
    return digest.hexdigest()


def _pieces_sha256(path: Path) -> str:
    """By size and `_N_PIECES` pieces, the first and the last among them."""
    n_bytes = path.stat().st_size
    digest = hashlib.sha256(str(n_bytes).encode())
    with path.open("rb") as file:
        for i in range(_N_PIECES):
            file.seek((n_bytes - _PIECE_BYTES) * i // (_N_PIECES - 1))
            digest.update(file.read(_PIECE_BYTES))
    return digest.hexdigest()


def _remember(memory: Path, content: bytes) -> None:
    """Written whole or not at all; a cache that cannot be written costs time, never a run."""
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=memory.parent, delete=False) as file:
            file.write(content)
        os.replace(file.name, memory)
    except OSError:
        return
