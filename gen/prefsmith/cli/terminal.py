"""What the terminal shows: text made harmless, values as an outline, a pair side by side.

A model's answer may hold control codes; on a terminal they are shown, never obeyed. A reader that has gone (`| head`)
ends the printing, not the command.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from textwrap import wrap

from prefsmith.outcomes import Pair, Record, Sample
from prefsmith.records import Json, canonical
from prefsmith.text import counted

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_MOST_LINES = 16


def emit(text: str) -> None:
    """Print a result."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered must not fail again when the interpreter closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def emit_json(value: Json) -> None:
    emit(json.dumps(value, indent=2, ensure_ascii=False))


def plain(text: str) -> str:
    """The text with its control codes spelt out; line ends and tabs stay."""
    return _CONTROL.sub(lambda m: m[0].encode("unicode_escape").decode("ascii"), text)


def width() -> int:
    return max(40, shutil.get_terminal_size((100, 24)).columns)


def outline(value: Json) -> Iterator[str]:
    """Lines of `key: value`; what is nested stands two spaces deeper, an entry of a list behind a dash."""
    if isinstance(value, dict):
        for key, part in value.items():
            lines = list(outline(part))
            if len(lines) == 1 and not _nested(part):
                yield f"{plain(str(key))}: {lines[0]}"
            else:
                yield f"{plain(str(key))}:"
                yield from (f"  {line}" for line in lines)
        if not value:
            yield "none"
    elif _nested(value):
        for part in value:
            first, *rest = outline(part)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    elif isinstance(value, list | tuple):
        yield ", ".join(plain(str(part)) for part in value) or "none"
    elif value is None or isinstance(value, bool):
        yield {None: "none", True: "yes", False: "no"}[value]
    else:
        yield from plain(str(value)).split("\n")


def _nested(value: Json) -> bool:
    """A list with an entry that does not fit into a line is written one entry a line, as is a mapping."""
    if isinstance(value, list | tuple):
        return any(isinstance(part, dict | list | tuple) or "\n" in str(part) for part in value)
    return isinstance(value, dict) and bool(value)


def side_by_side(record: Record, pair: Pair, n_columns: int, judge: str) -> Iterator[str]:
    """A pair as two columns under its prompt's last turn; `judge` scored them."""
    scores = f"{pair.chosen_score:.3g} against {pair.rejected_score:.3g}"
    title = f"{record.id[:8]} · margin {pair.margin:.3g} ({scores}) by {judge}" + (", confirmed" * bool(pair.confirmed))
    texts = {"chosen": _answer(record.sample(pair.chosen)), "rejected": _answer(record.sample(pair.rejected))}
    return columns(title, record.item.prompt.messages[-1].get("content") or "", texts, n_columns)


def columns(title: str, asked: str, texts: Mapping[str, str], n_columns: int) -> Iterator[str]:
    """Texts beside each other under what was asked, each below its name; long ones are cut, and say so."""
    each = max(8, (n_columns - 3 * (len(texts) - 1)) // max(1, len(texts)))
    yield title
    yield from _cut(plain(asked), n_columns)
    yield " | ".join(f"{plain(name)[:each]:<{each}}" for name in texts).rstrip()
    yield "-+-".join("-" * each for _ in texts)
    yield from (
        " | ".join(f"{part:<{each}}" for part in row).rstrip()
        for row in zip_longest(*(_cut(plain(text), each) for text in texts.values()), fillvalue="")
    )


def _answer(sample: Sample) -> str:
    calls = sample.message.get("tool_calls")
    return sample.text or (canonical(calls).decode() if calls else "")


def _cut(text: str, n_columns: int) -> list[str]:
    lines = [part for line in text.expandtabs(4).split("\n") for part in wrap(line, n_columns) or [""]]
    if len(lines) <= _MOST_LINES:
        return lines
    return [*lines[: _MOST_LINES - 1], f"… {counted(len(lines) - _MOST_LINES + 1, 'more line')}"]
