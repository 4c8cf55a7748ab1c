"""Do the pairs train a better model? `python bench/data_trains.py --out FOLDER [--seeds 0 1 2] [--size full|small]`

The whole way with the product's own commands: `prefsmith run` on training prompts, its TRL file, TRL's trainers,
the tuned model as GGUF, `prefsmith eval` on held-out prompts. For each seed three models are trained on the same pairs:

    dpo       DPO on chosen and rejected
    sft       the honest rival: supervised training on the chosen side alone
    flipped   the control: DPO with the labels of half of the pairs of each family turned round

`--subject tiny-strategies` compares ways to pair instead: DPO on each, with equally many pairs of the same answers.
`--model DIR` trains a chat model of yours (transformers' form) on the prompts of smollm2, served by vLLM (extra
`vllm`), on a GPU where there is one.

Everything stands in FOLDER; a command that was cut off goes on there. `--write` puts the table into
bench/data-trains.md and the plot into docs/does-it-train.svg. Extra `trainers`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TRAIN = ROOT / "bench/trains/train.py"
sys.path.insert(0, str(ROOT / "bench/trains"))
from base import Base  # noqa: E402
from page import page  # noqa: E402
from pairs import Row, drawn_alike, drawn_pairs, flipped, read_rows, write_rows  # noqa: E402
from plot import plot  # noqa: E402
from strategies import described  # noqa: E402
from subjects import SUBJECTS, Subject, own  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--subject", choices=SUBJECTS, default="tiny")
    parser.add_argument("--model", type=Path, metavar="DIR", help="instead of a subject: a model of yours")
    parser.add_argument("--size", choices=("full", "small"), default="full")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--write", action="store_true", help="write the committed table and plot")
    args = parser.parse_args()
    subject = own(args.model.resolve()) if args.model else SUBJECTS[args.subject]
    results = carried_out(subject, args.size, args.seeds, args.out)
    text = page(results)
    print(text)
    if args.write:
        (ROOT / f"bench/data-trains{subject.suffix}.md").write_text(text + "\n", encoding="utf-8")
        if not subject.strategies:
            (ROOT / f"docs/does-it-train{subject.suffix}.svg").write_text(plot(results), encoding="utf-8")


def carried_out(subject: Subject, size: str, seeds: list[int], out: Path) -> dict[str, Any]:
    """Everything, seed by seed; also left in `out`/results.json."""
    from prefsmith.version import VERSION

    out.mkdir(parents=True, exist_ok=True)
    sizes = subject.sizes[size]
    base = subject.base(out)
    results = {
        "subject": subject.name,
        "chosen": subject.chosen,
        "size": size,
        "settings": {**asdict(sizes), "run": [*subject.sampling, *subject.pairing], "eval": list(subject.answering)},
        "versions": {
            "prefsmith": VERSION,
            "Python": ".".join(map(str, sys.version_info[:3])),
            "xllamacpp": version("xllamacpp"),
        },
        "seeds": [Lab(subject, size, seed, out / f"seed-{seed}", base).results() for seed in seeds],
    }
    (out / "results.json").write_text(json.dumps(results, indent=1), encoding="utf-8")
    return results


@dataclass
class Lab:
    """One seed's folder: its prompts, its pairs, its models, its evaluations."""

    subject: Subject
    size: str
    seed: int
    folder: Path
    base: Base
    cpu_s: dict[str, float] = field(default_factory=dict)

    def results(self) -> dict[str, Any]:
        self.folder.mkdir(parents=True, exist_ok=True)
        sizes = self.subject.sizes[self.size]
        self.subject.write_prompts(self.folder, self.seed, sizes.train, sizes.held_out)
        summary = self.counted("prompts to pairs", self.pairs)
        trained = {arm: self.counted(f"train {arm}", partial(self.trained, arm)) for arm in self.subject.arms}
        sets = self.subject.held_out
        reports = {name: self.counted(f"eval {name}", partial(self.evaluated, name)) for name in sets}
        return {"seed": self.seed, "run": summary, "trained": trained, "eval": reports, "cpu_s": self.cpu_s}

    def counted(self, name: str, step: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `step` gives; its CPU-seconds are added to those that earlier, cut-off commands spent on it."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        print(f"seed {self.seed}: {name}", file=sys.stderr, flush=True)
        done = step()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        kept = self.folder / "cpu.json"
        spent = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
        spent[name] = spent.get(name, 0.0) + after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        kept.write_text(json.dumps(spent), encoding="utf-8")
        self.cpu_s = spent
        return done

    def pairs(self) -> dict[str, Any]:
        """Run, export, draw; the two files that the trainers get."""
        sizes = self.subject.sizes[self.size]
        summary, exported = self.run(self.subject.judge, self.subject.pairing)
        rows = drawn_pairs(exported, sizes.pairs, self.seed)
        write_rows(rows, self.folder / "pairs.jsonl")
        write_rows(flipped(rows, self.subject.kinds(rows, self.folder), self.seed), self.folder / "flipped.jsonl")
        return {**summary, "n_trained_on": len(rows), **(self.paired_anew() if self.subject.strategies else {})}

    def run(self, judge: str, pairing: tuple[str, ...]) -> tuple[dict[str, Any], list[Row]]:
        """The run's summary and pairs; the same folder each time, so that answers are sampled once."""
        words = (
            *("run", str(self.folder / "train.jsonl"), "--gen", self.base.target, *self.subject.sampling),
            *("--judge", judge, *pairing, "--to", "trl", "--seed", str(self.seed)),
        )
        summary = prefsmith(self.folder, "run", *words)
        (export,) = (Path(one["path"]) for one in summary["files"])
        return summary, read_rows(self.folder / export)

    def paired_anew(self) -> dict[str, Any]:
        """The run's answers paired by each strategy, one file for each; what is the same of them, and what is not."""
        exported = {name: self.run(of.judge, of.pairing)[1] for name, of in self.subject.strategies.items()}
        drawn = drawn_alike(exported, self.subject.sizes[self.size].pairs, self.seed)
        first = next(iter(drawn.values()))
        told = {}
        for name, rows in drawn.items():
            write_rows(rows, self.folder / f"{name}.jsonl")
            told[name] = {"n_items": len(exported[name]), **described(rows, first)}
        return {"n_trained_on": len(first), "strategies": told}

    def trained(self, arm: str) -> dict[str, Any]:
        sizes, out = self.subject.sizes[self.size], self.folder / arm
        told, own = out / "trained.json", ("flipped", *self.subject.strategies)
        if not told.exists():
            command = (
                *(sys.executable, str(TRAIN), *self.base.words, "--out", str(out)),
                *("--pairs", str(self.folder / f"{arm if arm in own else 'pairs'}.jsonl")),
                *("--method", "sft" if arm == "sft" else "dpo", "--seed", str(self.seed)),
                *("--lr", str(sizes.lr), "--epochs", str(sizes.epochs), "--batch", str(sizes.batch)),
                *self.subject.training,
            )
            lines = called(command, self.folder / f"{arm}.log").strip().splitlines()
            told.write_text(lines[-1], encoding="utf-8")
        return dict(json.loads(told.read_text(encoding="utf-8")))

    def evaluated(self, name: str) -> dict[str, Any]:
        tuned = {arm: self.base.tuned(self.folder / arm) for arm in self.subject.arms}
        models = {"base": self.base.target, **tuned}
        words = (
            *("eval", str(self.folder / f"{name}.jsonl"), "--n", str(self.subject.held_out[name])),
            *(word for arm, model in models.items() for word in ("--arm", f"{arm}={model}")),
            *("--judge", self.subject.judge, *self.subject.answering, "--seed", str(self.seed)),
        )
        return prefsmith(self.folder, f"eval-{name}", *words)


def prefsmith(folder: Path, run: str, *words: str) -> dict[str, Any]:
    """One of the product's commands on the run of that name; what it prints as JSON."""
    command = (sys.executable, "-m", "prefsmith", *words, "-o", str(folder / run), "--json", "--quiet")
    return dict(json.loads(called(command, folder / f"{run}.log")))


def called(command: tuple[str, ...], log: Path) -> str:
    """Standard output of a command that must end well; its other words go into the log."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "gen"), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    with log.open("w", encoding="utf-8") as words:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=words, text=True, env=environment)
    if done.returncode:
        tail = "\n".join(log.read_text(encoding="utf-8").splitlines()[-15:])
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}:\n{tail}\n{done.stdout[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
