"""A file that is whole or not there: written under a dot name beside its place, hashed on the way, then renamed.

Invariant: until every file of an export is complete and on the disk, the old ones stay as they are; a dot name is
never read as a result. The one place of this floor where an OSError becomes a MachineError.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prefsmith.errors import MachineError

_BLOCK = 1 << 20
_ADVICE = {
    errno.ENOSPC: "the disk is full; free some space (an export needs its own size once more while it is written)",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EROFS: "the medium is read-only; copy the run's folder to one that can be written",
    errno.ENOTDIR: "a file stands where a folder is wanted; choose another place with -o",
    errno.EEXIST: "a file stands where a folder is wanted; choose another place with -o",
    errno.EACCES: "this user may not write there; change the folder's owner or permissions",
    errno.EPERM: "this user may not write there; change the folder's owner or permissions",
    errno.EFBIG: "the file is larger than this process may write; raise the limit (ulimit -f)",
}


@contextmanager
def on_this_machine(path: Path) -> Iterator[None]:
    """Translate what the operating system refuses. Raises MachineError."""
    try:
        yield
    except OSError as err:
        why = _ADVICE.get(err.errno or 0, err.strerror or str(err))
        message = f"cannot write {str(path)!r}: {why}. Files written before are untouched; then run this command again."
        raise MachineError(message) from err


def partial_name(place: Path, tag: str = "") -> Path:
    return place.with_name(f".{place.name}{tag}.partial")


class Partial:
    """A writable stream for one file to be. pyarrow may write to it like to any file object."""

    def __init__(self, place: Path, tag: str = "") -> None:
        self.place = place
        self.closed = False
        self._partial = partial_name(place, tag)
        self._hash = hashlib.sha256()
        self._dead = False
        with on_this_machine(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("wb", buffering=_BLOCK)

    def write(self, data: bytes) -> int:
        if self._dead:
            return len(data)
        self._hash.update(data)
        with on_this_machine(self.place):
            return self._file.write(data)

    def flush(self) -> None:
        """Nothing: what matters is settled in `settle`."""

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def settle(self) -> None:
        """On the disk, under the dot name still."""
        with on_this_machine(self.place):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        self.closed = True

    def publish(self) -> None:
        with on_this_machine(self.place):
            os.replace(self._partial, self.place)
            _sync_folder(self.place.parent)

    def successor(self) -> Partial:
        """Another stream for the same place, which may copy from this one."""
        return Partial(self.place, ".next")

    def copy_from(self, other: Partial, start: int, stop: int) -> None:
        """Append the bytes [start, stop) of `other`, which must be settled."""
        with on_this_machine(self.place), other._partial.open("rb") as source:
            source.seek(start)
            while block := source.read(min(_BLOCK, stop - start)):
                self.write(block)
                start += len(block)

    def discard(self) -> None:
        """Leave nothing behind; later writes go nowhere, so that a writer above can still be closed."""
        self._dead = True
        # Closing flushes, which fails again on a full disk; the bytes are not wanted any more.
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._partial.unlink(missing_ok=True)
        self.closed = True


def replace_file(place: Path, parts: Iterable[bytes]) -> Path:
    """The parts as one file, whole or not there; what stood there is kept until then. Raises MachineError."""
    file = Partial(place)
    try:
        for part in parts:
            file.write(part)
        file.settle()
        file.publish()
    except BaseException:
        file.discard()
        raise
    return place


@contextmanager
def settled_apart(partial: Partial) -> Iterator[None]:
    """Settle it to be read inside, and discard it afterwards."""
    try:
        partial.settle()
        yield
    finally:
        partial.discard()


def remove_stale(places: Iterable[Path]) -> None:
    """Remove what a killed writer left under the dot names of these files."""
    for place in places:
        for left in place.parent.glob(f".{glob.escape(place.name)}*.partial"):
            with on_this_machine(place):
                left.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
