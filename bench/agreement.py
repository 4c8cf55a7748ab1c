"""`prefsmith bench judge` on many recorded verdicts: `python bench/agreement.py [--verdicts N] [--judges N]`.

Pairs with texts of some hundred bytes, one in ten sharing its prompt with the one before, two models, seven categories;
every judge gives both orders, with a probability and its usage, and one verdict in fifty is none. A child of its own
reads, measures (intervals, bootstrap and each judge against each included) and writes all three files.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path

from measure import Row, Yardstick, hwm_mb, median, parser, report, scratch, step

WHOLE_S, MOST_MB = 30.0, 1024.0
_WORDS = [f"word{i}" for i in range(400)]


def wrote_benchmark(folder: Path, n_pairs: int, n_judges: int) -> tuple[Path, Path]:
    rng = random.Random(0)
    pairs, verdicts = folder / "pairs.jsonl", folder / "verdicts.jsonl"
    with pairs.open("w") as out, verdicts.open("w") as said:
        for i in range(n_pairs):
            label = rng.choice("AABB") if i % 20 else "tie"
            texts = [" ".join(rng.choices(_WORDS, k=rng.randint(20, 80))) for _ in "ab"]
            models = rng.sample(["m1", "m2", "m3", "m4"], 2)
            row = {"id": f"v{i}", "prompt": f"Question {i - (i % 10 == 9)}?", "a": texts[0], "b": texts[1]}
            named = {"label": label, "category": f"c{i % 7}", "model_a": models[0], "model_b": models[1]}
            out.write(json.dumps(row | named) + "\n")
            for judge in range(n_judges):
                for order in ("AB", "BA"):
                    said.write(json.dumps(_verdict(rng, f"v{i}", label, judge, order)) + "\n")
    return pairs, verdicts


def _verdict(rng: random.Random, of: str, label: str, judge: int, order: str) -> dict[str, object]:
    named = {"id": of, "judge": f"judge {judge}", "order": order}
    if rng.random() < 0.02:
        return named | {"verdict": None, "reason": "unparseable"}
    right = label if label == "tie" else "A" if (label == "A") == (order == "AB") else "B"
    said = right if rng.random() < 0.6 + 0.07 * judge else rng.choice(["A", "B", "tie"])
    usage = {"prompt_tokens": 900, "completion_tokens": 40, "seconds": 1.5, "usd": 0.0004}
    return named | {"verdict": said, "p": round({"A": 0.8, "B": 0.2, "tie": 0.5}[said], 3), "usage": usage}


def measure(pairs: Path, verdicts: Path, out: Path) -> None:
    """One step of the child: the command's own work, and what it took."""
    from prefsmith.benchmark.recorded import told, write
    from prefsmith.report.table import table

    started = time.process_time()
    found = told(pairs, "auto", [verdicts])
    told_s = time.process_time() - started
    write(out, found, [verdicts])
    table(found)
    cpu_s = time.process_time() - started
    print(json.dumps({"cpu_s": cpu_s, "told_s": told_s, "hwm_mb": hwm_mb(), "judges": len(found["judges"])}))


def main() -> int:
    arguments = parser(__doc__)
    arguments.add_argument("--verdicts", type=int, default=1_000_000)
    arguments.add_argument("--judges", type=int, default=5)
    arguments.add_argument(
        "--measure", nargs=3, type=Path, metavar=("PAIRS", "VERDICTS", "OUT"), help="the child's step"
    )
    args = arguments.parse_args()
    if args.measure:
        measure(*args.measure)
        return 0
    started = time.monotonic()
    n_pairs = max(1, args.verdicts // (2 * args.judges))
    with scratch() as folder:
        yardstick = Yardstick(folder, args.script)
        pairs, verdicts = wrote_benchmark(folder, n_pairs, args.judges)
        size_mb = (pairs.stat().st_size + verdicts.stat().st_size) / 1e6
        runs = [yardstick.spend(__file__, "--measure", pairs, verdicts, folder / "out") for _ in range(args.repeat)]
    n = f"{2 * args.judges * n_pairs:,} verdicts of {args.judges} judges on {n_pairs:,} pairs"
    rows = [
        Row(f"{n}: files read", size_mb, "MB"),
        Row(f"{n}: all figures, bootstrap included", median(runs, lambda run: float(run.said["told_s"])), "CPU-s"),
        Row(f"{n}: and the three files written", median(runs, step), "CPU-s", WHOLE_S),
        Row(f"{n}: the whole process", median(runs), "CPU-s"),
        Row(f"{n}: most memory", max(float(run.said["hwm_mb"]) for run in runs), "MB", MOST_MB),
    ]
    report("bench/agreement.py", rows, time.monotonic() - started, yardstick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
