"""What came of a run, counted from its ledger: the funnel, what temperature did, what a pair cost.

Counts close: rows = items + duplicates + set aside; asked = completions + final + owed; items = with a pair + without,
each with one reason. Works on a run that is still being written.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from prefsmith.cost import cost_of
from prefsmith.folder import Folder, refuse_benchmark
from prefsmith.ledger.known import OpenItem, VerdictKey
from prefsmith.outcomes import Artifact, Pair
from prefsmith.reasons import Reason
from prefsmith.records import Json
from prefsmith.stages import confirm, rivals
from prefsmith.stages.calls import Plan
from prefsmith.stages.decide import scores, wants
from prefsmith.stages.plan import alive_in, entrants
from prefsmith.stages.score import lacks, paired
from prefsmith.stages.view import Seen, View, margin_cut, seen

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
    n_chosen: int = 0
    n_rejected: int = 0
    n_distinct: int = 0

    def as_json(self, temperature: float) -> Json:
        n = max(1, self.n_completions)
        return {
            "temperature": temperature,
            "n_completions": self.n_completions,
            "finished": self.n_finished / n,
            "distinct": self.n_distinct / n,
            "pass_rate": self.n_right / self.n_judged if self.n_scored else None,
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
    verdicts: dict[str, Counter[str]] = field(default_factory=dict)
    by_temperature: dict[float, _ByTemperature] = field(default_factory=dict)


def summary_of(path: Path) -> Json:
    """Everything that `render` tells, as JSON."""
    with Folder(path) as folder:
        refuse_benchmark(path, folder.recipe)
        counts = _counted(folder)
        cost, endpoints = cost_of(folder, counts.n_pairs)
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
            "verdicts": {name: dict(c.most_common()) for name, c in counts.verdicts.items()},
            "items": {
                "n": counts.n_items,
                "with_pair": counts.n_with_pair,
                "without": dict(counts.without.most_common()),
            },
            "n_pairs": counts.n_pairs,
            "by_temperature": [c.as_json(t) for t, c in sorted(counts.by_temperature.items())],
            "correct": folder.view.plan.rule.correct,
            "cost": cost,
            "endpoints": endpoints,
            "exit": last[0],
            "files": [
                {"path": str(path / file), "format": form, "n_rows": n}
                for form, file, n in folder.ledger.db.execute("SELECT format, path, n_rows FROM export ORDER BY id")
            ],
        }


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
    counts, plan = _Counts(verdicts={name: Counter() for name in folder.judges().values()}), folder.view.plan
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
        _add_verdicts(counts, one, plan)
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
    """The pass rate by the first judge, of the completions that it judged or that never got so far. An item that lacks
    what this judge needs, or is not finished, says nothing about a temperature."""
    if not view.plan.stages:
        return
    settled, first = one.settled[item.id], view.plan.stages[0]
    if settled.reason is Reason.INCOMPLETE or any(lacks(leaf, item.item) for leaf in first.leaves):
        return
    for key, gate in one.gates.items():
        at = counts.by_temperature[temperatures[key[0]]]
        value = settled.scores.get(key, {}).get(first.judge)
        if gate not in (None, Reason.IDENTICAL):
            at.n_judged += 1
        elif value is not None:
            at.n_judged += 1
            at.n_scored += not isinstance(value, Reason)
            at.n_right += not isinstance(value, Reason) and value >= view.plan.rule.correct


def _add_verdicts(counts: _Counts, one: Seen, plan: Plan) -> None:
    """Each verdict that the view asks for once: equal texts share theirs, and so do items that a judge reads alike."""
    alive, asked, known = alive_in(plan, one.gates), dict[VerdictKey, str](), one.known
    of, correct = entrants(plan, one.work, alive, known), plan.rule.correct
    for item in one.work.items:
        found: tuple[Pair, ...] | Reason = Reason.TIE
        for stage in plan.stages:
            asked.update({want.key: want.leaf.name for want in wants(stage, of, item, known, correct)})
            if plan.arms:
                continue
            verdicts = scores(stage, of, item, known, correct) or {}
            found = paired(plan, stage.judge, item, alive, known, verdicts)
            if not isinstance(found, Reason):
                break
        if plan.arms:
            found = rivals.pairs(plan, one.gates, known)
        if plan.confirm and not isinstance(found, Reason):
            confirming = confirm.wants(plan.confirm, of, [(item, found)], known)
            asked.update({want.key: want.leaf.name for want in confirming})
    for key in asked.keys() & known.verdicts.keys():
        held = known.verdicts[key]
        if not isinstance(held, Artifact) or held.reason is not None:
            counts.verdicts[asked[key]]["scored" if held.reason is None else held.reason.value] += 1
