"""A benchmark file as a source of the ledger: one row a pair, whose item names its answers and no gold label.

The label stays in the file: no judge could see it, and a corrected one asks nothing again.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Final

from prefsmith.benchmark.contest import Contest
from prefsmith.benchmark.formats import contests_of
from prefsmith.errors import UsageError
from prefsmith.ledger.ids import item_hash, prompt_hash, text_hash
from prefsmith.records import Item, Prompt, Row
from prefsmith.stages.contest import ANSWERS, answer_body

_READING: Final = 1
"""Version of how a file becomes items; raise it when the same file gives others than before."""
_BLOCK_BYTES: Final = 1 << 20


class Pairs:
    """`format` and `seed`: as `contests_of` takes them."""

    def __init__(self, path: Path, format: str, seed: int) -> None:
        self.uri = str(path)
        self._path, self._format, self._seed = path, format, seed

    def stamp(self) -> str:
        try:
            found = self._path.stat()
        except OSError as error:
            raise UsageError(f"{self.uri} cannot be read: {error.strerror}") from None
        return f"{found.st_size}:{found.st_mtime_ns}:{self._format}:{self._seed}:{_READING}"

    def hash(self) -> bytes:
        settings = f"{self._format}:{self._seed}:{_READING}".encode()
        h = blake2b(settings, digest_size=16, person=b"pairs")
        with self._path.open("rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                h.update(block)
        return h.digest()

    def contests(self) -> Iterator[Contest]:
        return contests_of(self._path, self._format, self._seed)

    def rows(self) -> Iterator[Row]:
        """Numbered by pair: a line of a file may hold several."""
        for place, one in enumerate(self.contests(), 1):
            yield Row(place, item_of(one), one.id)

    def answers(self) -> Iterator[tuple[Prompt, tuple[bytes, ...]]]:
        for one in self.contests():
            yield Prompt(one.prompt), (answer_body(one.a), answer_body(one.b))


def item_of(one: Contest) -> Item:
    answers = [text_hash(answer_body(text)).hex() for text in (one.a, one.b)]
    return Item(Prompt(one.prompt), one.reference, one.category, {ANSWERS: answers})


def hash_of(one: Contest) -> bytes:
    """Of the item that the pair is in a ledger; equal pairs are one item."""
    item = item_of(one)
    return item_hash(item, prompt_hash(item.prompt))
