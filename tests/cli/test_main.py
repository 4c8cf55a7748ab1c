import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from prefsmith.cli import ended, main
from prefsmith.errors import MachineError, PrefsmithError, ProviderError, ThresholdFailed, UsageError
from prefsmith.text import fill


def ending_with(error: BaseException) -> Callable[[], int]:
    def command() -> int:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("no such column"), 2),
        (ThresholdFailed("too few"), 4),
        (ProviderError("down"), 5),
        (MachineError("disk full"), 6),
        (PrefsmithError("odd"), 1),
    ],
)
def test_an_error_of_ours_is_one_line_and_its_code(
    error: PrefsmithError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ended(ending_with(error)) == code
    assert capsys.readouterr().err == f"prefsmith: {error}\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_a_full_or_read_only_machine_is_6_and_says_run_again(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(ending_with(OSError(number, os.strerror(number), "ledger.db"))) == 6
    err = capsys.readouterr().err
    assert "'ledger.db'" in err
    assert "run the same command again" in err


def test_an_interrupt_is_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(ending_with(KeyboardInterrupt())) == 130
    assert "run the same command again to go on" in capsys.readouterr().err


def test_anything_else_is_a_bug_with_the_line_of_ours_to_report(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        fill("{missing}", {})
        return 0

    assert ended(command) == 1
    err = capsys.readouterr().err
    assert "this is a bug in prefsmith, please report: KeyError: 'missing' at prefsmith/text.py:" in err
    assert len(err.splitlines()) == 1
    assert ended(command, show_traceback=True) == 1
    assert "Traceback" in capsys.readouterr().err


def test_another_error_of_the_system_is_a_bug_not_a_full_disk(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(ending_with(OSError(errno.EBADF, "bad"))) == 1
    assert "bug" in capsys.readouterr().err


def test_a_folder_without_a_run_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "ledger.db").touch()
    done = subprocess.run(
        [sys.executable, "-m", "prefsmith", "summary", "runs/dmo"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "no run in 'runs/dmo': it holds no ledger.db; did you mean 'runs/demo'?" in done.stderr


def test_a_reader_that_has_gone_is_no_error() -> None:
    writer = (
        "import sys; from prefsmith.cli.terminal import emit; sys.stdin.readline(); emit('x' * 100_000); emit('y'); "
        "print('done', file=sys.stderr)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", writer], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdout.close()
    child.stdout = None
    _, err = child.communicate(b"go\n")
    assert (child.returncode, err) == (0, b"done\n")


def test_main_returns_and_does_not_exit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--help"]) == 0
    assert "--gen" in capsys.readouterr().out
