"""What the stub's log and a run's own files say of each other: requests, waits, rows that are lost or wrong.

What should be there is computed from `answers.py`; nothing here trusts what the client says of itself.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

from answers import COLD, TEMPERATURES, ends_of, grade_of, is_tied, text_of


class Entry(NamedTuple):
    """One request as the stub saw it. `t`: when it came, UTC seconds. `prompt`: which one it is about, -1 for none."""

    n: int
    t: float
    latency_s: float
    status: int
    fault: str
    n_prompt_tokens: int
    n_completion_tokens: int
    in_flight: int
    kind: str
    prompt: int


def entries(log: Path) -> list[Entry]:
    out = []
    for line in log.read_text().splitlines():
        n, t, latency_s, status, fault, *counted, kind, prompt = line.split(" ")
        counts = (int(x) for x in counted)
        out.append(Entry(int(n), float(t), float(latency_s), int(status), fault, *counts, kind, int(prompt)))
    return out


def mean_in_flight(log: Sequence[Entry], kind: str) -> float:
    """Of requests of one kind, from the first one's start to the last one's end."""
    of = [e for e in log if e.kind == kind]
    return sum(e.latency_s for e in of) / (max(e.t + e.latency_s for e in of) - min(e.t for e in of))


def waits_s(log: Sequence[Entry], heavy: frozenset[int], window: int) -> tuple[float, float]:
    """Mean seconds that samples waited to be let in, (heavy, light) prompts.

    A prompt could be asked about from the moment when an earlier one was finished and made room in the window of open
    prompts; until the window was full, from the first request on.
    """
    done: dict[int, float] = {}
    good = [e for e in log if e.status == 200 and e.prompt >= 0]
    for e in good:
        done[e.prompt] = max(done.get(e.prompt, 0.0), e.t + e.latency_s)
    finished = sorted(done.values())
    waited: dict[bool, list[float]] = {True: [], False: []}
    for e in good:
        if e.kind == "sample":
            opened = good[0].t if e.prompt < window else finished[e.prompt - window]
            waited[e.prompt in heavy].append(max(0.0, e.t - opened))
    return fmean(waited[True]), fmean(waited[False])


def recovery_s(log: Sequence[Entry], start_s: float, length_s: float) -> float:
    """From the end of a storm or an outage until as many are in flight as were before it (nine tenths)."""
    first, good = log[0].t, [e for e in log if e.status == 200]
    before = median(e.in_flight for e in good if first + start_s / 2 < e.t < first + start_s)
    end = first + start_s + length_s
    return next((e.t - end for e in good if e.t > end and e.in_flight >= 0.9 * before), math.inf)


def needed(prompts: Iterable[str], *, ours: bool) -> int:
    """Requests of the whole job: ours asks the rubric about each text of a tied prompt, the scripts once a prompt."""
    n_verdicts = [(len(TEMPERATURES) if is_tied(p) else 0) if ours else 1 for p in prompts]
    return len(n_verdicts) * len(TEMPERATURES) + sum(n_verdicts)


def prompts_of(path: Path) -> list[str]:
    return [json.loads(line)["prompt"] for line in path.read_text().splitlines()]


class Found(NamedTuple):
    """Rows of a run against what they should be: completions, verdicts and pairs together."""

    n_expected: int
    n_lost: int
    n_wrong: int
    n_prompts_kept: int
    """With all that belongs to them."""


def script_rows(pairs: Path, prompts: Sequence[str]) -> Found:
    rows = {row["prompt"]: row for row in map(json.loads, pairs.read_text().splitlines())}
    n_wrong = 0
    for prompt, row in rows.items():
        texts = [text_of(prompt, t, 0, 0) for t in TEMPERATURES]
        best, worst = ends_of(texts)
        n_wrong += (row["chosen"], row["rejected"]) != (texts[best], texts[worst])
    n_lost = len(prompts) - len(rows)
    return Found(len(prompts), n_lost, n_wrong, len(rows) - n_wrong)


def our_rows(folder: Path, prompts: Sequence[str]) -> Found:
    """Completions and verdicts in the ledger, pairs in the exported file."""
    sampled = _completions(folder / "ledger.db")
    graded = _verdicts(folder / "ledger.db")
    exported = _pairs(folder)
    n_expected = n_lost = n_wrong = n_kept = 0
    for prompt in prompts:
        of_prompt = sampled.get(prompt, {})
        right = {t: text_of(prompt, t, seed, 0) for t, (_, seed) in of_prompt.items()}
        wrong = sum(text != right[t] for t, (text, _) in of_prompt.items())
        texts = list(right.values())
        lost = len(TEMPERATURES) - len(of_prompt)
        expected = len(TEMPERATURES)
        if is_tied(prompt):
            found = graded.get(prompt, {})
            lost += sum(text not in found for text in texts)
            wrong += sum(value != (grade_of(text) - 1) / 8 for text, value in found.items())
            expected += len(TEMPERATURES)
        if not lost and (ends := _ends(prompt, texts, right)) is not None:
            expected += 1
            lost += prompt not in exported
            wrong += prompt in exported and not _is_between(exported[prompt], ends)
        n_expected, n_lost, n_wrong = n_expected + expected, n_lost + lost, n_wrong + wrong
        n_kept += not lost and not wrong
    return Found(n_expected, n_lost, n_wrong, n_kept)


def _ends(prompt: str, texts: list[str], right: dict[float, str]) -> tuple[set[str], set[str]] | None:
    """The texts that may be chosen and those that may be rejected; None where all tie."""
    if not is_tied(prompt):
        cold = {text for t, text in right.items() if t < COLD}
        return cold, set(texts) - cold
    grades = [grade_of(text) for text in texts]
    if min(grades) == max(grades):
        return None
    best, worst = ({t for t, g in zip(texts, grades, strict=True) if g == end} for end in (max(grades), min(grades)))
    return best, worst


def _is_between(pair: tuple[str, str], ends: tuple[set[str], set[str]]) -> bool:
    return pair[0] in ends[0] and pair[1] in ends[1]


def max_attempt(folder: Path) -> int:
    with closing(_opened(folder / "ledger.db")) as db:
        return int(db.execute("SELECT coalesce(max(attempt), 0) FROM call").fetchone()[0])


def _opened(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True)


def _completions(path: Path) -> dict[str, dict[float, tuple[str, int]]]:
    """By prompt and temperature: text and seed."""
    sql = (
        "SELECT p.messages, json_extract(s.json, '$.temperature'), t.body, c.seed FROM completion c "
        "JOIN prompt p ON p.id = c.prompt JOIN sampler s ON s.id = c.sampler JOIN text t ON t.id = c.text"
    )
    out: dict[str, dict[float, tuple[str, int]]] = {}
    with closing(_opened(path)) as db:
        for messages, temperature, body, seed in db.execute(sql):
            prompt = json.loads(messages)[-1]["content"]
            out.setdefault(prompt, {})[temperature] = (json.loads(body)["content"], seed)
    return out


def _verdicts(path: Path) -> dict[str, dict[str, float | None]]:
    """The rubric's values by prompt and text."""
    sql = (
        "SELECT p.messages, t.body, v.value FROM verdict v JOIN prompt p ON p.id = v.prompt "
        "JOIN text t ON t.id = CAST(v.shown AS INTEGER) WHERE v.call IS NOT NULL"
    )
    out: dict[str, dict[str, float | None]] = {}
    with closing(_opened(path)) as db:
        for messages, body, value in db.execute(sql):
            out.setdefault(json.loads(messages)[-1]["content"], {})[json.loads(body)["content"]] = value
    return out


def _pairs(folder: Path) -> dict[str, tuple[str, str]]:
    out = {}
    for path in sorted((folder / "export").rglob("*.jsonl")):
        for row in map(json.loads, path.read_text().splitlines()):
            chosen, rejected = (row[side][-1]["content"] for side in ("chosen", "rejected"))
            out[row["prompt"][-1]["content"]] = (chosen, rejected)
    return out
