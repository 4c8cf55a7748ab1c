"""What the ledger weighs and what reading it costs: `python bench/ledger.py [--prompts N] [--folder DIR]`.

A run with 8 completions and 8 verdicts of a grader a prompt is made with texts of 200 bytes, and a smaller one with
texts of 2.4 KB; then each reader of the ledger goes over it in a process of its own. `--folder` takes the run that
`bench/memory.py --keep DIR` left instead, and makes none.
"""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

from engine import recipe_of
from measure import (
    JOB,
    Row,
    Spent,
    Yardstick,
    median,
    parser,
    report,
    scratch,
    spent,
    step,
    wrote_prompts,
    wrote_recipe,
)

SIZE_GOAL = {2400: 1.4, 200: 3.5}
VERIFY_US = 5.0
EXPLAIN_S = 1.0
PAIRS_US = 100.0
"""100,000 prompts in 10 CPU-seconds."""


def made(folder: Path, n: int, chars: int) -> tuple[Path, Path]:
    """A run of `n` prompts: (recipe, folder)."""
    recipe = recipe_of("a", wrote_prompts(folder / f"{chars}.jsonl", n))
    recipe["endpoints"]["farm"] = {"script": {"chars": chars}}
    place = wrote_recipe(folder / f"{chars}.json", recipe), folder / f"run-{chars}"
    spent(JOB, "run", *place)
    return place


def size_row(place: tuple[Path, Path], chars: int) -> tuple[Row, int]:
    """The row, and the number of prompts."""
    file = place[1] / "ledger.db"
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as db:
        n = db.execute("SELECT count(*) FROM prompt").fetchone()[0]
        n_bytes = db.execute("SELECT sum(n_chars) FROM completion").fetchone()[0]  # the fake writes ASCII
    what = f"ledger / its texts, {chars:,} bytes a text, {n:,} prompts"
    return Row(what, file.stat().st_size / n_bytes, "x", SIZE_GOAL.get(chars)), n


def reader_rows(place: tuple[Path, Path], n: int, repeat: int, yardstick: Yardstick) -> list[Row]:
    def times(name: str, argument: str = "") -> list[Spent]:
        return [yardstick.spend(JOB, name, *place, argument) for _ in range(repeat)]

    checked = times("check")
    n_rows = checked[0].said["n"]
    each = median(checked, step).times(1e6 / n_rows)
    rows = [Row(f"verify: the ledger alone, {n_rows:,} rows", each, "µs a row", VERIFY_US)]
    n_graded = checked[0].said["verdict"]
    plain, graded = median(times("recheck", "1"), step), median(times("recheck", str(n_graded)), step)
    rows += [
        Row("verify: with the view and the exported file", plain.times(1e6 / n_rows), "µs a row"),
        Row(f"verify: grading again, {n_graded:,} verdicts", graded.less(plain).times(1e6 / n_graded), "µs a verdict"),
        Row(f"explain line:{n // 2}", median(times("life", f"line:{n // 2}"), step), "CPU-s", EXPLAIN_S),
        Row(f"explain v{n // 2} (a source's id)", median(times("life", f"v{n // 2}"), step), "CPU-s"),
    ]
    for name, what, goal in (("pairs", "records and pairs", PAIRS_US), ("summary", "summary", None)):
        rows.append(Row(f"{what}, {n:,} prompts", median(times(name), step).times(1e6 / n), "µs a prompt", goal))
    return rows


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--prompts", type=int, default=10_000, help="prompts of the run with short texts")
    arguments.add_argument("--folder", metavar="DIR", help="what `bench/memory.py --keep DIR` left")
    args = arguments.parse_args()
    started = time.monotonic()
    with scratch() as folder:
        yardstick = Yardstick(folder, args.script)
        if args.folder:
            kept = Path(args.folder)
            place = kept / "many.json", kept / "out"
            row, n = size_row(place, 200)
            rows = [row._replace(goal=None)]  # the goal is for 8 completions
        else:
            rows = [size_row(made(folder, max(1, args.prompts // 10), 2400), 2400)[0]]
            place = made(folder, args.prompts, 200)
            row, n = size_row(place, 200)
            rows.append(row)
        rows += reader_rows(place, n, args.repeat, yardstick)
    title = f"bench/ledger.py, {n:,} prompts, median of {args.repeat}"
    report(title, rows, time.monotonic() - started, yardstick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
