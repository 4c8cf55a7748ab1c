"""What a GGUF says about itself before any of it is loaded: context, chat template, control tokens, wholeness.

llama.cpp refuses a bad file without a reason ("Failed to init server"), so the reasons are found here. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3. No tensor is read.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from prefsmith.errors import UsageError

_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_CONTROL = 3
"""tokenizer.ggml.token_type of a token that only a template may write."""
_BLOCKS = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34)} | {
    10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 30: (1, 2)
}  # fmt: skip
"""Tensor type -> (values in a block, bytes of a block), the common ones; of others only the start is checked."""


@dataclass(frozen=True, slots=True)
class Gguf:
    path: Path
    n_bytes: int
    n_ctx_train: int
    has_template: bool
    control_tokens: tuple[str, ...]


def read_gguf(path: Path) -> Gguf:
    """Read the header. Raises UsageError for a missing, foreign, truncated or tokenizer-less file."""
    try:
        n_bytes = path.stat().st_size
        if not path.is_file():
            raise UsageError(f"{str(path)!r} is no file; a GGUF is one file")
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise UsageError(f"{str(path)!r} is no GGUF: it does not begin with the four letters GGUF")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
                return _Reader(raw, path).whole(n_bytes)
    except FileNotFoundError:
        raise UsageError(f"there is no file {str(path)!r}") from None
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be read: {error.strerror or error}") from None
    except (struct.error, IndexError, KeyError, UnicodeDecodeError, OverflowError):
        raise UsageError(
            f"{str(path)!r} is cut off or damaged inside its header ({n_bytes:,} bytes); get it again"
        ) from None


class _Reader:
    """A cursor over the header; each method reads one thing and stands behind it afterwards."""

    def __init__(self, raw: mmap.mmap, path: Path) -> None:
        self.raw, self.path, self.at = raw, path, 4

    def whole(self, n_bytes: int) -> Gguf:
        version = self.scalar("<I")
        if version not in (2, 3):
            raise UsageError(f"{str(self.path)!r} is a GGUF of version {version}; versions 2 and 3 can be read")
        n_tensors, n_keys = self.scalar("<Q"), self.scalar("<Q")
        values: dict[str, object] = {}
        for _ in range(n_keys):
            name = self.string()
            values[name] = self.value(self.scalar("<I"), keep=name.startswith(("general.", "tokenizer.")))
        self.check_tensors(n_tensors, values, n_bytes)
        architecture = values.get("general.architecture")
        n_ctx = values.get(f"{architecture}.context_length")
        tokens, types = values.get("tokenizer.ggml.tokens"), values.get("tokenizer.ggml.token_type")
        if not isinstance(n_ctx, int) or not isinstance(tokens, list):
            raise UsageError(
                f"{str(self.path)!r} names no context length or no tokens: not a language model that can be run"
            )
        control = (
            ()
            if not isinstance(types, list)
            else tuple(t for t, k in zip(tokens, types, strict=False) if k == _CONTROL)
        )
        return Gguf(self.path, n_bytes, n_ctx, bool(values.get("tokenizer.chat_template")), control)

    def check_tensors(self, n_tensors: int, values: dict[str, object], n_bytes: int) -> None:
        end = 0
        for _ in range(n_tensors):
            self.string()
            n_values = 1
            for _ in range(self.scalar("<I")):
                n_values *= self.scalar("<Q")
            per_block, block_bytes = _BLOCKS.get(self.scalar("<I"), (1, 0))
            end = max(end, self.scalar("<Q") + n_values // per_block * block_bytes)
        alignment = values.get("general.alignment", 32)
        assert isinstance(alignment, int)
        needed = -(-self.at // alignment) * alignment + end
        if n_bytes < needed:
            raise UsageError(f"{str(self.path)!r} is cut off: {n_bytes:,} bytes of at least {needed:,}; get it again")

    def scalar(self, code: str) -> int:
        value: int = struct.unpack_from(code, self.raw, self.at)[0]
        self.at += struct.calcsize(code)
        return value

    def string(self) -> str:
        size = self.scalar("<Q")
        start, self.at = self.at, self.at + size
        if self.at > len(self.raw):
            raise IndexError(self.at)
        return self.raw[start : self.at].decode()

    def value(self, kind: int, *, keep: bool) -> object:
        """The value of a key; long arrays that nobody asks for (merges, scores) are walked over."""
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.scalar(_SCALARS[kind])
        inner, n = self.scalar("<I"), self.scalar("<Q")
        if inner in (_STRING, _ARRAY):
            return [self.value(inner, keep=keep) for _ in range(n)]
        code = _SCALARS[inner]
        start, self.at = self.at, self.at + n * struct.calcsize(code)
        if self.at > len(self.raw):
            raise IndexError(self.at)
        return list(struct.unpack_from(f"<{n}{code[1]}", self.raw, start)) if keep else None
