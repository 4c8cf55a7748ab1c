"""What came of a run, counted from its ledger: the funnel, what temperature did, what a pair cost.

Counts close: rows = items + duplicates + set aside; asked = completions + final + owed; items = with a pair + without,
each with one reason; what passed has a verdict of the first judge, is owed one, or was not asked, with the reason.
Works on a run that is still being written.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from prefsmith.cost import cost_of
from prefsmith.folder import Folder, refuse_benchmark
from prefsmith.ledger.known import OpenItem
from prefsmith.pairing import Rule
from prefsmith.reasons import Reason
from prefsmith.records import Json
from prefsmith.stages.calls import Plan
from prefsmith.stages.score import lacks
from prefsmith.stages.view import Seen, View, margin_cut, seen
from prefsmith.tally import Tally

ENOUGH_PAIRS = 500
"""Below this preference tuning is rarely worth a run: guides ask for 500 to 1,000 pairs at least."""


@dataclass(slots=True)
class _ByTemperature:
    n_completions: int = 0
    n_finished: int = 0
    n_tokens: float = 0.0
    n_untold: int = 0
    n_judged: int = 0
    n_scored: int = 0
    n_right: int = 0
    n_answers: int = 0
    total_score: float = 0.0
    n_chosen: int = 0
    n_rejected: int = 0
    n_distinct: int = 0

    def as_json(self, temperature: float, rates: bool) -> Json:
        n = max(1, self.n_completions)
        return {
            "temperature": temperature,
            "n_completions": self.n_completions,
            "finished": self.n_finished / n,
            "distinct": self.n_distinct / n,
            "pass_rate": self.n_right / self.n_judged if rates and self.n_scored else None,
            "mean_score": self.total_score / self.n_scored if self.n_scored else None,
            "n_rated": self.n_judged if rates else self.n_scored,
            "n_answers": self.n_answers,
            "mean_tokens": self.n_tokens / (n - self.n_untold) if self.n_untold < n else None,
            "n_chosen": self.n_chosen,
            "n_rejected": self.n_rejected,
        }


@dataclass(slots=True)
class _Counts:
    n_items: int = 0
    n_with_pair: int = 0
    n_pairs: int = 0
    n_asked: int = 0
    n_completions: int = 0
    closed: Counter[str] = field(default_factory=Counter)
    gates: Counter[str] = field(default_factory=Counter)
    without: Counter[str] = field(default_factory=Counter)
    tally: Tally = field(default_factory=Tally)
    by_temperature: dict[float, _ByTemperature] = field(default_factory=dict)


def summary_of(path: Path) -> Json:
    """Everything that `render` tells, as JSON."""
    with Folder(path) as folder:
        refuse_benchmark(path, folder.recipe)
        counts = _counted(folder)
        cost, endpoints = cost_of(folder, counts.n_pairs)
        rates = _rates(folder.view.plan)
        last = folder.ledger.db.execute("SELECT exit FROM session ORDER BY id DESC LIMIT 1").fetchone()
        return {
            "folder": str(path),
            "rows": _rows(folder),
            "asked": {
                "units": counts.n_asked,
                "completions": counts.n_completions,
                "final": dict(counts.closed),
                "owed": counts.n_asked - counts.n_completions - counts.closed.total(),
            },
            "gates": dict(counts.gates.most_common()),
            **counts.tally.as_json(),
            "items": {
                "n": counts.n_items,
                "with_pair": counts.n_with_pair,
                "without": dict(counts.without.most_common()),
            },
            "n_pairs": counts.n_pairs,
            "by_temperature": [c.as_json(t, rates) for t, c in sorted(counts.by_temperature.items())],
            "rates": rates,
            "correct": folder.view.plan.rule.correct,
            "cost": cost,
            "endpoints": endpoints,
            "exit": last[0],
            "files": [
                {"path": str(path / file), "format": form, "n_rows": n, "current": folder.shows(view)}
                for form, file, n, view in folder.ledger.db.execute(
                    "SELECT format, path, n_rows, view FROM export ORDER BY id"
                )
            ],
        }


def set_aside(path: Path) -> list[Json]:
    """Each row of the source that makes no item of its own: its line, why, and at most 200 characters of it."""
    with Folder(path) as folder:
        chosen = folder.view.selection
        found = folder.ledger.db.execute(
            "SELECT line, reason, excerpt FROM row WHERE source = ? AND line <= ? AND reason IS NOT NULL ORDER BY line",
            (chosen.source, chosen.last_line),
        )
        return [{"line": line, "reason": reason, "excerpt": excerpt} for line, reason, excerpt in found]


def _rates(plan: Plan) -> bool:
    """The first judge's scores say right or wrong, or the recipe says from which on they do."""
    if plan.rule.strategy == "correct_incorrect" or plan.rule.correct != Rule().correct or not plan.stages:
        return True
    return plan.stages[0].rule == "majority" or all(leaf.role == "grader" for leaf in plan.stages[0].leaves)


def _rows(folder: Folder) -> Json:
    chosen = folder.view.selection
    found = folder.ledger.db.execute(
        "SELECT reason, count(*) FROM row WHERE source = ? AND line <= ? GROUP BY reason",
        (chosen.source, chosen.last_line),
    )
    by_reason = dict(found)
    items = by_reason.pop(None, 0)
    duplicates = by_reason.pop(Reason.DUPLICATE.value, 0)
    return {
        "n": items + duplicates + sum(by_reason.values()),
        "items": items,
        "duplicates": duplicates,
        "set_aside": by_reason,
    }


def _counted(folder: Folder) -> _Counts:
    plan = folder.view.plan
    counts = _Counts(tally=Tally.of(plan))
    described = folder.samplers()
    temperatures = {c.sampler: float(described[c.sampler]["temperature"]) for c in plan.cells}
    cut = margin_cut(folder.ledger.db, folder.view)
    units, share = sum(c.n for c in plan.cells), _tokens_each(folder)
    for one in seen(folder.ledger.db, folder.view, bodies=False, cut=cut):
        counts.n_asked += units
        counts.n_completions += len(one.known.completions)
        counts.closed.update(r.value for r in one.known.closed.values())
        counts.gates.update(r.value for r in one.gates.values() if r is not None)
        _add_samples(counts, one, temperatures, share)
        counts.tally.add(plan, one)
        for item in one.work.items:
            settled = one.settled[item.id]
            counts.n_items += 1
            counts.n_pairs += len(settled.pairs)
            counts.n_with_pair += bool(settled.pairs)
            if settled.reason is not None:
                counts.without[settled.reason.value] += 1
            _add_scores(counts, one, item, folder.view, temperatures)
            for pair in settled.pairs:
                counts.by_temperature[temperatures[pair.chosen[0]]].n_chosen += 1
                counts.by_temperature[temperatures[pair.rejected[0]]].n_rejected += 1
    return counts


def _tokens_each(folder: Folder) -> dict[int, float]:
    """Mean tokens of a sampler's completions by its calls, for servers that count the choices of a request together."""
    sql = (
        "SELECT sampler, sum(n_completion_tokens) * 1.0 / sum(json_array_length(unit, '$.idx')) FROM call "
        "WHERE status = 'ok' AND sampler NOTNULL AND n_completion_tokens NOTNULL GROUP BY sampler"
    )
    return {sampler: each for sampler, each in folder.ledger.db.execute(sql) if each is not None}


def _add_samples(counts: _Counts, one: Seen, temperatures: dict[int, float], share: dict[int, float]) -> None:
    texts: dict[float, set[int]] = {}
    for (sampler, _), completion in one.known.completions.items():
        t = temperatures[sampler]
        at = counts.by_temperature.setdefault(t, _ByTemperature())
        at.n_completions += 1
        at.n_finished += completion.finish_reason != "length"
        tokens = share.get(sampler) if completion.n_tokens is None else completion.n_tokens
        at.n_tokens += tokens or 0
        at.n_untold += tokens is None
        texts.setdefault(t, set()).add(completion.text)
    for t, distinct in texts.items():
        counts.by_temperature[t].n_distinct += len(distinct)


def _add_scores(counts: _Counts, one: Seen, item: OpenItem, view: View, temperatures: dict[int, float]) -> None:
    """The first judge's scores; a pass rate is of the completions that it judged or that never got so far. An item that
    lacks what this judge needs, or is not finished, says nothing about a temperature."""
    if not view.plan.stages:
        return
    settled, first = one.settled[item.id], view.plan.stages[0]
    for sampler, _ in one.gates:
        counts.by_temperature[temperatures[sampler]].n_answers += 1
    if settled.reason is Reason.INCOMPLETE or any(lacks(leaf, item.item) for leaf in first.leaves):
        return
    for key, gate in one.gates.items():
        at = counts.by_temperature[temperatures[key[0]]]
        value = settled.scores.get(key, {}).get(first.judge)
        if gate not in (None, Reason.IDENTICAL):
            at.n_judged += 1
        elif value is not None:
            at.n_judged += 1
            if not isinstance(value, Reason):
                at.n_scored += 1
                at.total_score += value
                at.n_right += value >= view.plan.rule.correct
