"""Kill -9 again and again: `python bench/soak.py --kills 100`.

A run over the scripted backend, with latency, faults, duplicates and unreadable judges, is killed at seeded random
moments and started again over the same folder until it is done; another folder is left in peace. Afterwards both must
hold the same content and the same files, nothing that was once readable may be gone, and nothing may have been asked
twice but what was under way at a kill. Exit status 1 when any of that does not hold.
"""

from __future__ import annotations

import argparse
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b, sha256
from pathlib import Path
from tempfile import TemporaryDirectory

RECIPE = """\
prompts: {path: prompts.jsonl}
endpoints:
  farm:
    limits: {concurrency: 16}
    n_per_request: 2
    script: {latency_s: LATENCY, faults: 0.1, duplicates: 0.15, truncated: 0.05, chars: 400, log: requests.log}
  jury:
    limits: {concurrency: 16}
    script: {latency_s: LATENCY, faults: 0.1, unparseable: 0.05, log: requests.log}
sample: [{model: "farm:fake", temperature: [0.3, 1.0], n: 3}]
judge: [{use: rubric-help, model: "jury:fake"}, {confirm: pairwise-help, model: "jury:fake"}]
pair: {max_per_prompt: 2}
max_no_verdict: 1
attempts: 8
export: [trl, openai]
"""
COMMAND = (sys.executable, "-m", "prefsmith", "run", "recipe.yaml", "-o", "out", "--quiet")
COLD_SHARE = 0.15
"""Share of kills that are timed from the start of the process, and so may hit its start-up, its source or its lock."""

# What the ledger holds, said without its own integers: those are another matter of chance in every folder.
CONTENT = {
    "item": "SELECT hex(i.hash), hex(p.hash), i.category, i.reference, i.columns FROM item i "
    "JOIN prompt p ON p.id = i.prompt",
    "sampler": "SELECT hex(hash), json FROM sampler",
    "judge": "SELECT hex(hash), json FROM judge",
    "completion": "SELECT hex(p.hash), hex(s.hash), c.idx, hex(t.hash), c.n_chars, c.reasoning, c.seed, "
    "c.finish_reason, c.n_tokens, c.logprob_sum, c.origin FROM completion c JOIN prompt p ON p.id = c.prompt "
    "JOIN sampler s ON s.id = c.sampler JOIN text t ON t.id = c.text",
    "verdict": "SELECT hex(p.hash), hex(j.hash), hex(r.hash), (SELECT group_concat(hex(t.hash)) FROM "
    "json_each('[' || v.shown || ']') x JOIN text t ON t.id = x.value), v.repeat, v.kind, v.value, v.p, v.choice, "
    "v.ranking, v.parts, v.reason, v.read_version FROM verdict v JOIN prompt p ON p.id = v.prompt "
    "JOIN judge j ON j.id = v.judge JOIN reads r ON r.id = v.reads",
    "artifact": "SELECT hex(p.hash), hex(j.hash), hex(r.hash), a.name, a.body FROM artifact a "
    "JOIN item i ON i.id = a.item JOIN prompt p ON p.id = i.prompt JOIN judge j ON j.id = a.made_by "
    "JOIN call c ON c.id = a.call JOIN reads r ON r.id = c.unit ->> '$.reads'",
}


def content_digests(db: sqlite3.Connection) -> dict[str, str]:
    """One digest for each table of content, the same for every order in which its rows came."""
    out = {}
    for table, sql in CONTENT.items():
        rows = sorted(repr(row) for row in db.execute(sql))
        out[table] = f"{len(rows)}:" + blake2b("\n".join(rows).encode(), digest_size=16).hexdigest()
    return out


@dataclass
class Kill:
    """What was on disk just after one kill, in sums since the first start."""

    n_sent: int
    n_kept: int
    cold: bool


@dataclass
class Tally:
    """All kills of a folder. `n_gone`: rows that a reader had seen and a later one did not."""

    kills: list[Kill] = field(default_factory=list)
    seen: set[tuple[object, ...]] = field(default_factory=set)
    n_gone: int = 0

    def lost(self) -> Iterator[int]:
        """Requests that were sent and had not been committed, kill by kill."""
        before = 0
        for kill in self.kills:
            yield kill.n_sent - kill.n_kept - before
            before = kill.n_sent - kill.n_kept

    def look(self, folder: Path) -> None:
        now = set(readable(folder))
        self.n_gone += len(self.seen - now)
        self.seen |= now


def prepared(folder: Path, n_prompts: int, latency_s: float) -> Path:
    folder.mkdir(parents=True)
    lines = (f'{{"question": "Tell me about number {i // 2}.", "answer": "{i}"}}\n' for i in range(n_prompts))
    (folder / "prompts.jsonl").write_text("".join(lines))
    (folder / "recipe.yaml").write_text(RECIPE.replace("LATENCY", str(latency_s)))
    return folder


def opened(folder: Path) -> sqlite3.Connection | None:
    """The ledger as any reader sees it; None before it has tables."""
    path = folder / "out" / "ledger.db"
    if not path.exists():
        return None
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
    if db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'verdict'").fetchone()[0]:
        return db
    db.close()
    return None


def readable(folder: Path) -> Iterator[tuple[object, ...]]:
    if (db := opened(folder)) is None:
        return
    with closing(db):
        yield from db.execute("SELECT 'call', id FROM call")
        yield from db.execute("SELECT 'completion', prompt, sampler, idx, text FROM completion")
        yield from db.execute("SELECT 'verdict', prompt, judge, reads, shown, value, choice FROM verdict")


def n_kept(folder: Path) -> int:
    """Requests whose outcome is in the ledger: a row for each, and a count for those that a 429 turned away."""
    if (db := opened(folder)) is None:
        return 0
    with closing(db):
        rows = db.execute("SELECT count(*) FROM call").fetchone()[0]
        limited = db.execute("SELECT coalesce(sum(value), 0) FROM counter WHERE name LIKE 'http.429.%'").fetchone()[0]
    return int(rows + limited)


def requests(folder: Path) -> list[bytes]:
    log = folder / "requests.log"
    return log.read_bytes().splitlines() if log.exists() else []


def soak(folder: Path, n_kills: int, draws: random.Random, mean_s: float) -> Tally:
    """Start, kill, start again until the run ends by itself."""
    tally = Tally()
    while True:
        n_sent = len(requests(folder))
        child = subprocess.Popen(COMMAND, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        cold = draws.random() < COLD_SHARE
        wait_s = draws.uniform(0, 1) if cold else draws.expovariate(1 / mean_s)
        if len(tally.kills) < n_kills:
            while not cold and child.poll() is None and len(requests(folder)) == n_sent:
                time.sleep(0.005)
            time.sleep(wait_s)
            tally.look(folder)
            child.send_signal(signal.SIGKILL)
        _, told = child.communicate()
        tally.look(folder)
        if child.returncode == -signal.SIGKILL:
            tally.kills.append(Kill(len(requests(folder)), n_kept(folder), cold))
        elif child.returncode == 0:
            return tally
        else:
            raise SystemExit(f"the run ended with {child.returncode}: {told.decode()}")


def files_of(folder: Path) -> dict[str, str]:
    top = folder / "out" / "export"
    found = sorted(p for p in top.rglob("*") if p.is_file())
    return {p.relative_to(top).as_posix(): sha256(p.read_bytes()).hexdigest() for p in found}


def checked(plain: Path, killed: Path, tally: Tally) -> list[tuple[str, str, bool]]:
    """Each claim: its name, what was found, whether it holds."""
    from prefsmith.recheck import verify_folder

    a, b = opened(plain), opened(killed)
    assert a is not None and b is not None
    with closing(a), closing(b):
        digests = content_digests(a), content_digests(b)
        n_ok, n_failed = (
            b.execute(f"SELECT count(*) FROM call WHERE status {x} 'ok'").fetchone()[0] for x in ("=", "<>")
        )
    n_limited = n_kept(killed) - n_ok - n_failed
    asked = requests(killed)
    n_distinct, lost = len(set(asked)), list(tally.lost())
    n_repeated = len(asked) - n_distinct - n_failed - n_limited
    rows = ", ".join(f"{d.partition(':')[0]} of {table}" for table, d in digests[1].items())
    report = verify_folder(killed / "out", 200)
    files = files_of(plain), files_of(killed)
    return [
        (
            "exported files are the undisturbed run's, byte for byte",
            f"{len(files[0])} files",
            files[0] == files[1] != {},
        ),
        ("the ledger's content is the undisturbed run's", rows, digests[0] == digests[1]),
        ("verify finds no damage", "; ".join(report.damages) or report.lines[0], not report.damages),
        ("no readable row was gone later", f"{tally.n_gone} of {len(tally.seen)}", tally.n_gone == 0),
        ("the two runs asked the same requests", f"{n_distinct}", set(asked) == set(requests(plain))),
        ("nothing that was answered was asked again", f"{n_ok} answers", n_ok == n_distinct),
        (
            "asked again, retries apart, is at most what the kills cut off",
            f"{n_repeated} of {sum(lost)}, at one kill {max(lost, default=0)}",
            n_repeated <= sum(lost) and min(lost, default=0) >= 0,
        ),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--prompts", type=int, help="items, two of each prompt; by default 8 a kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.1, metavar="S", help="mean seconds to answer")
    parser.add_argument("--mean", type=float, default=0.25, metavar="S", help="mean seconds of work before a kill")
    args = parser.parse_args()
    n_prompts = args.prompts or 8 * args.kills
    started = time.monotonic()
    with TemporaryDirectory(prefix="soak-") as scratch:
        plain = prepared(Path(scratch) / "plain", n_prompts, args.latency / 20)
        subprocess.run(COMMAND, cwd=plain, check=True, stderr=subprocess.PIPE)
        killed = prepared(Path(scratch) / "killed", n_prompts, args.latency)
        tally = soak(killed, args.kills, random.Random(args.seed), args.mean)
        rows = checked(plain, killed, tally)
    n_cold = sum(kill.cold for kill in tally.kills)
    print(f"{len(tally.kills)} kills ({n_cold} timed from the start of the process), {n_prompts} items, ", end="")
    print(f"{time.monotonic() - started:.0f} s\n\n| claim | found | holds |\n|---|---|---|")
    for claim, found, holds in rows:
        print(f"| {claim} | {found} | {'yes' if holds else '**NO**'} |")
    return 0 if all(holds for _, _, holds in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
