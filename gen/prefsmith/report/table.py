"""The report on a terminal: one line a judge, then what a reader must know to trust it."""

from __future__ import annotations

from collections.abc import Iterator

from prefsmith.records import Json
from prefsmith.report.figures import between, interval, number, p_value, percent, share, spent, uncovered

_HEAD = ("judge", "accuracy", "95%", "rule", "AB", "BA", "consistent", "covered", "right of it", "first", "longer",
         "kappa", "$/1000")  # fmt: skip
_MOST_PAIRS = 10


def table(report: Json) -> str:
    judges = report["judges"]
    return "\n".join([*_subject(report), "", *_rows(judges), "", *_words(report), *_pairs(report["between"]["pairs"])])


def _subject(report: Json) -> Iterator[str]:
    gold, labels = report["gold"], report["gold"]["labels"]
    held = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in labels.items() if n)
    pairs = f"{gold['n_items']:,} pairs of {gold['n_clusters']:,} prompts"
    yield f"{report['file']} ({report['format']}): {pairs}; gold: {held}"
    yield f"the longer answer is gold in {percent(gold['longer_is_gold']['value'])} of the pairs of unequal length"


def _rows(judges: Json) -> Iterator[str]:
    rows = [_HEAD, *(_row(judge) for judge in judges)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    for row in rows:
        cells = (c.ljust(w) if i in (0, 3) else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        yield "  ".join(cells).rstrip()


def _row(judge: Json) -> tuple[str, ...]:
    shown = ("single_ab", "single_ba", "consistency", "coverage", "selective", "first_wins", "longer_wins")
    return (
        judge["judge"],
        percent(share(judge, "accuracy")),
        between(interval(judge, "accuracy")),
        judge["main_rule"],
        *(percent(share(judge, name)) for name in shown),
        number(judge["kappa"]["value"]),
        spent(judge),
    )


def _words(report: Json) -> Iterator[str]:
    for judge in report["judges"]:
        yield from (f"{judge['judge']} {told}" for told in uncovered(judge))
        if (best := judge["shares"].get("best_of")) is not None:
            yield f"{judge['judge']} best of: {percent(best['value'])} of {best['n']:,.0f} prompts"
        if judge["models"] and "refused" in judge["models"]:
            yield f"{judge['judge']}: no ranking of the models: {judge['models']['refused']}"
    if report["bootstrap"]["note"]:
        yield f"bootstrap: {report['bootstrap']['note']}"
    for name in sorted({judge["main_rule"] for judge in report["judges"]}):
        yield f"{name}: {report['rules'][name]}"


def _pairs(pairs: Json) -> Iterator[str]:
    for one in pairs[:_MOST_PAIRS]:
        if one["difference"] is not None:
            yield (
                f"{one['judges'][0]} less {one['judges'][1]}: {100 * one['difference']:+.1f} points "
                f"({between(one['bootstrap'])}), McNemar's {p_value(one['mcnemar_p'])}"
            )
    if len(pairs) > _MOST_PAIRS:
        yield f"and {len(pairs) - _MOST_PAIRS:,} more pairs of judges; report.json has them all"
