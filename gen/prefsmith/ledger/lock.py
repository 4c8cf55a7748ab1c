"""One writer per run folder: `run.lock`, held by flock, naming its owner.

The kernel frees it when its owner dies, so no stale lock is ever broken by hand.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from pathlib import Path
from typing import Final

from prefsmith.errors import MachineError

LOCK: Final = "run.lock"


class RunLock:
    """Raises MachineError when another process holds the folder, naming it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            owner = os.pread(self._fd, 200, 0).decode(errors="replace").strip() or "an unnamed process"
            os.close(self._fd)
            if e.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
                raise
            raise MachineError(
                f"{folder} is in use by {owner}; wait for it, stop it, or choose another folder with -o"
            ) from e
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)

    def close(self) -> None:
        os.ftruncate(self._fd, 0)
        os.close(self._fd)
