"""The command line: reads flags, calls a run's verbs, and turns every way to end into an exit code.

It decides nothing about data. Whatever is slow to import is imported inside the command that needs it, so that
`--help` is instant.
"""

from __future__ import annotations

import errno
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from prefsmith.cli.parser import parse
from prefsmith.errors import INTERRUPTED, MachineError, PrefsmithError, UsageError

_MACHINE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM})
_DAMAGED = (11, 26)
"""SQLITE_CORRUPT and SQLITE_NOTADB, as numbers: `--help` imports no sqlite3."""
_AGAIN = "run the same command again to go on"
_PACKAGE = Path(__file__).resolve().parent.parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; never raises."""
    words = list(sys.argv[1:] if argv is None else argv)

    def command() -> int:
        args = parse(words)
        return int(args.command(args))

    return ended(command, show_traceback="--traceback" in words)


def ended(command: Callable[[], int], *, show_traceback: bool = False) -> int:
    """The exit code of a command, however it ends; what went wrong is one line on standard error."""
    try:
        return command()
    except SystemExit as stop:  # argparse: 0 after --help and --version, 2 after a wrong flag
        return stop.code if isinstance(stop.code, int) else UsageError.exit_code
    except (Exception, KeyboardInterrupt) as error:
        message, code = _told(error)
        if show_traceback:
            traceback.print_exc()
        print(f"prefsmith: {message}", file=sys.stderr)
        return code


def _told(error: BaseException) -> tuple[str, int]:
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted; {_AGAIN}", INTERRUPTED
    if isinstance(error, PrefsmithError):
        return str(error), error.exit_code
    if isinstance(error, OSError) and error.errno in _MACHINE:
        return f"this machine: {error}; {_AGAIN}", MachineError.exit_code
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
        told = "the run's ledger.db is damaged; do not go on with it: `prefsmith verify RUN` says what to do"
        return f"{told} ({error})", UsageError.exit_code
    return _as_bug(error), PrefsmithError.exit_code


def _as_bug(error: BaseException) -> str:
    """The report line; the innermost frame of ours says where."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if _PACKAGE in Path(frame.filename).parents]
    place = "unknown place"
    if ours:
        place = f"prefsmith/{Path(ours[-1].filename).relative_to(_PACKAGE).as_posix()}:{ours[-1].lineno}"
    return (
        f"this is a bug in prefsmith, please report: {type(error).__name__}: {error} at {place} "
        "(--traceback shows the whole way to it)"
    )
