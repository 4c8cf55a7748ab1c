"""Prompts of the bundled model: for preferences, and held out from them by text and by template.

A template is one of the two phrasings of a family. Preferences see one of them in each family; the other is held out
whole. Texts are parted by their CRC-32, as the model's own training was (`tasks.split`), so that no text of any part
has trained anything.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tiny"))
from tasks import FAMILIES, Split, Task, brief_answer, draw_distinct


def trained_template(task: Task, seed: int) -> bool:
    """Every template is held out by one seed and trained on by the next."""
    return task.phrasing == (FAMILIES.index(task.family) + seed) % 2


def write_prompts(folder: Path, seed: int, n_train: int, n_eval: int) -> None:
    """train.jsonl; new.jsonl, of other templates; known.jsonl, other texts of the same templates."""
    train = _first(n_train, (t for t in _drawn("demo", n_train, seed) if trained_template(t, seed)))
    held_out = list(_drawn("eval", n_eval, seed))
    new = _first(n_eval, (t for t in held_out if not trained_template(t, seed)))
    known = _first(n_eval, (t for t in held_out if trained_template(t, seed)))
    seen = {(t.family, t.phrasing) for t in train}
    if {t.prompt for t in train} & {t.prompt for t in held_out} or seen & {(t.family, t.phrasing) for t in new}:
        raise AssertionError("a held-out prompt is no prompt of the training, nor of its templates")
    for name, tasks in (("train", train), ("new", new), ("known", known)):
        rows = [
            {
                "id": f"{t.family}-{zlib.crc32(t.prompt.encode()):08x}",
                "prompt": t.prompt,
                "category": t.family,
                "reference": brief_answer(t),
                "check": t.check,
            }
            for t in tasks
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _drawn(part: Split, n: int, seed: int) -> Iterator[Task]:
    # Half of the draws are of the other template, and the small families run out early.
    return draw_distinct(part, 4 * n // len(FAMILIES), 1_000 + seed)


def _first(n: int, tasks: Iterable[Task]) -> list[Task]:
    return [task for task, _ in zip(tasks, range(n), strict=False)]
