"""How far a run is, as one line: `render` is pure, `ProgressLine` decides when and where it is written.

On a terminal one line is rewritten in place; in a pipe there are whole lines, one at the start and at most one every
ten seconds, and no control code.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from typing import TextIO

from prefsmith.cli.terminal import plain
from prefsmith.prices import dollars
from prefsmith.progress import Progress
from prefsmith.text import counted

_PIPE_EVERY_S = 10.0
_TERMINAL_EVERY_S = 0.1


def render(seen: Progress) -> str:
    """Items done, time passed and left, the yield of pairs, money, failures by reason, rate and counts.

    What matters most stands first: a narrow terminal cuts the end.
    """
    parts = [_items(seen)]
    parts.append(_clock(seen.elapsed_s) + ("" if seen.eta_s is None else f", {_clock(seen.eta_s)} left"))
    if seen.makes_pairs:
        parts.append(_pairs(seen))
    parts += _money(seen)
    parts += _by_reason(counted(seen.n_calls_failed.total(), "call") + " failed", seen.n_calls_failed)
    parts += _by_reason(f"{seen.n_no_verdict.total():,} without a verdict", seen.n_no_verdict)
    if seen.elapsed_s > 0 and seen.n_calls_ok:
        parts.append(f"{_short(seen.n_calls_ok / seen.elapsed_s)} calls/s, {_short(seen.n_tokens)} tokens")
    parts.append(f"{counted(seen.n_completions, 'completion')}, {counted(seen.n_verdicts, 'verdict')}")
    return " · ".join(parts)


def _items(seen: Progress) -> str:
    """Of this session, as is all that follows: what earlier ones finished is told beside."""
    n, of = seen.n_items_done - seen.n_items_before, seen.n_items - seen.n_items_before
    told = f"items {n:,}/{of:,}" + (f" ({100 * n // of}%)" if of else "")
    told += f", {seen.n_items_before:,} done before" if seen.n_items_before else ""
    return told + (f", {seen.n_items_left:,} left open" if seen.n_items_left else "")


def _pairs(seen: Progress) -> str:
    """Counted as items settle in this session, so their yield is of those items alone."""
    each = seen.n_pairs / seen.n_items_looked if seen.n_items_looked else 0.0
    share = f" ({each:.2f} an item)" if seen.n_items_looked else ""
    about = "about " if seen.n_items_looked < seen.n_items_settled else ""
    return f"{about}{counted(round(each * seen.n_items_settled), 'pair')}{share}"


def _money(seen: Progress) -> list[str]:
    """What the folder's budget has left of it, else what this session has spent; a price that is not known is told."""
    parts = []
    if (budget := seen.budget) is not None and budget.unit == "tokens":
        parts.append(f"{_short(budget.counted)} of {_short(budget.cap)} tokens")
    elif budget is not None:
        parts.append(f"{dollars(budget.counted)} of {dollars(budget.cap)}")
    elif seen.spent_nanousd:
        parts.append(dollars(seen.spent_nanousd))
    if seen.n_unpriced:
        parts.append(f"{counted(seen.n_unpriced, 'reply', 'replies')} without a price")
    return parts


def _by_reason(what: str, reasons: Mapping[str, int]) -> list[str]:
    most_first = sorted(((n, reason) for reason, n in reasons.items() if n), key=lambda pair: (-pair[0], pair[1]))
    if not most_first:
        return []
    named = ", ".join(f"{reason} {n:,}" for n, reason in most_first)
    return [f"{what} ({named})"]


class ProgressLine:
    """Writes progress and remarks to one stream without the one tearing the other.

    `now` is in seconds. A stream that fails is left alone from then on: progress never ends a run.
    """

    def __init__(self, stream: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._stream: TextIO | None = stream
        self._now = now
        self._in_place = stream.isatty()
        self._every_s = _TERMINAL_EVERY_S if self._in_place else _PIPE_EVERY_S
        self._due = now()
        self._line = ""

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(self, *_: object) -> None:
        if self._line:
            self._write("\n")

    def update(self, seen: Progress) -> None:
        if self._now() < self._due:
            return
        self._due = self._now() + self._every_s
        text = render(seen)
        if self._in_place:
            columns = shutil.get_terminal_size((100, 24)).columns - 1
            self._line = text if len(text) <= columns else text[: columns - 1] + "…"
            self._write(f"\r{self._line}\x1b[K")
        else:
            self._write(text + "\n")

    def say(self, remark: str) -> None:
        """A line of its own, above the one that is rewritten."""
        text = plain(remark)
        self._write(f"\r{text}\x1b[K\n{self._line}" if self._line else f"{text}\n")

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self._stream = None


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f}{unit}"
    return f"{value:.1f}" if value < 10 and value != int(value) else f"{value:.0f}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
