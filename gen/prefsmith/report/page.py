"""The report as one HTML page: tables and inline SVG, readable without a network; every word of a file is escaped."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from prefsmith.records import Json
from prefsmith.report.figures import DASH, between, interval, number, p_value, percent, share, spent, uncovered
from prefsmith.report.plots import Whisker, reliability, whiskers

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums;
  display: block; overflow-x: auto }
th, td { padding: .2rem .5rem; border-bottom: 1px solid #ddd; text-align: right }
td { white-space: nowrap }
.words td:last-child, .words th:last-child { text-align: left; white-space: normal; min-width: 18rem }
th:first-child, td:first-child { text-align: left }
svg { display: block; margin: 1rem 0; max-width: 100%; height: auto }
h2 { margin-top: 2.5rem } .small { color: #666; font-size: 13px }
"""
_SHARES = ("accuracy", "single_ab", "single_ba", "two_order", "both_orders", "selective", "coverage", "consistency",
           "best_of", "first_wins", "longer_wins", "accuracy_longer_is_gold", "accuracy_shorter_is_gold")  # fmt: skip


def page(report: Json) -> str:
    parts = [*_head(report), *_overview(report)]
    for judge in report["judges"]:
        parts += _judge(judge, report["rules"])
    parts += [*_against(report["between"]), *_method(report)]
    return (
        f"<!doctype html>\n<html lang=en><meta charset=utf-8><title>{escape(report['file'])}: judges</title>"
        f"<style>{_STYLE}</style>\n" + "\n".join(parts) + "\n</html>\n"
    )


def _head(report: Json) -> Iterator[str]:
    gold = report["gold"]
    labels = ", ".join(f"{n:,} {escape(name.replace('_', ' '))}" for name, n in gold["labels"].items())
    longer = gold["longer_is_gold"]
    yield f"<h1>{escape(report['file'])}</h1>"
    yield (
        f"<p>{gold['n_items']:,} pairs of {gold['n_clusters']:,} prompts ({escape(report['format'])}). "
        f"Gold labels: {labels}. "
        f"The longer answer is gold in {percent(longer['value'])} of {longer['n']:,} pairs of unequal length.</p>"
    )
    if (raters := gold["alpha_of_raters"]) is not None:
        told = ", ".join(f"{level} {number(value)}" for level, value in raters.items())
        yield f"<p>Krippendorff's alpha of the raters: {told}.</p>"
    yield from _strengths("Models, by the gold labels", gold["models"])


def _overview(report: Json) -> Iterator[str]:
    judges = report["judges"]
    yield "<h2>Judges</h2>"
    head = ("judge", "rule", "accuracy", "95%", "consistency", "coverage", "right of it", "first wins", "longer wins",
            "kappa", "$ per 1,000")  # fmt: skip
    yield _table(
        head,
        [
            (
                judge["judge"], judge["main_rule"], percent(share(judge, "accuracy")),
                between(interval(judge, "accuracy")), percent(share(judge, "consistency")),
                percent(share(judge, "coverage")), percent(share(judge, "selective")),
                percent(share(judge, "first_wins")), percent(share(judge, "longer_wins")),
                number(judge["kappa"]["value"]), spent(judge),
            )
            for judge in judges
        ],
    )  # fmt: skip
    for name, title in (
        ("accuracy", "Accuracy by each judge's rule, 95% interval"),
        ("consistency", "Position consistency"),
        ("first_wins", "How often the answer shown first wins"),
        ("longer_wins", "How often the longer answer wins"),
    ):
        rows = [Whisker(judge["judge"], share(judge, name), interval(judge, name)) for judge in judges]
        if any(row.value is not None for row in rows):
            yield whiskers(title, rows)


def _judge(judge: Json, rules: Json) -> Iterator[str]:
    yield f"<h2>{escape(judge['judge'])}</h2>"
    yield f"<p>{judge['kind']}, orders: {judge['orders']}, {judge['n_items']:,} pairs.{_uncovered(judge)}</p>"
    shares = [(name, judge["shares"][name]) for name in _SHARES if name in judge["shares"]]
    rows = [
        (name, percent(of["value"]), f"{of['k']:g} of {of['n']:g}", between(of["wilson"]), between(of["bootstrap"]),
         rules.get(of["rule"], of["rule"]))
        for name, of in shares
    ]  # fmt: skip
    yield _table(("share", "value", "count", "Wilson 95%", "bootstrap 95%", "rule"), rows, "words")
    yield _table(("gold", "A", "tie", "B", "not covered"), _confusion(judge["confusion"]))
    yield f"<p>{_agreement(judge)}</p>"
    yield from _usage(judge["usage"])
    if judge["categories"]:
        yield whiskers(
            "Accuracy by category",
            [Whisker(n, of["accuracy"]["value"], of["accuracy"]["wilson"]) for n, of in judge["categories"].items()],
        )
    if (of := judge["calibration"]) is not None:
        yield f"<p>Of {of['n']:,} probabilities: Brier {number(of['brier'])}, ECE {number(of['ece'])}.</p>"
        yield reliability("Calibration", [(one["said"], one["right"], one["n"]) for one in of["bins"]])
    yield from _strengths("Models, by this judge", judge["models"])


def _uncovered(judge: Json) -> str:
    return "".join(f" {escape(told[0].upper() + told[1:])}." for told in uncovered(judge))


def _confusion(table: Json) -> list[tuple[str, ...]]:
    return [(gold, *(f"{row[said]:,}" for said in ("A", "tie", "B", "none"))) for gold, row in table.items()]


def _agreement(judge: Json) -> str:
    kappa, alpha = judge["kappa"], judge["alpha"]
    told = [f"Cohen's kappa {number(kappa['value'])} on {kappa['n']:,} pairs"]
    if kappa["by_order"]:
        told += [f"in order {name} {number(value)}" for name, value in kappa["by_order"].items()]
    told.append("Krippendorff's alpha " + ", ".join(f"{level} {number(value)}" for level, value in alpha.items()))
    if (ranks := judge["ranks"]) is not None:
        told.append(
            f"{ranks['by']} against gold on {ranks['n']:,} pairs: Spearman {number(ranks['spearman'])}, Kendall tau-b "
            f"{number(ranks['kendall_tau_b'])}"
        )
    if (again := judge["repeats"]) is not None:
        told.append(f"{percent(again['agreed'] / again['n'])} of {again['n']:,} pairs of repeats agree")
    return "; ".join(told) + "."


def _usage(usage: Json) -> Iterator[str]:
    if usage is not None:
        told = ", ".join(f"{name.replace('_', ' ')} {value:,.6g}" for name, value in usage.items() if value is not None)
        yield f"<p>Took: {escape(told)}.</p>"


def _strengths(title: str, models: Json) -> Iterator[str]:
    if models is None:
        return
    yield f"<h3>{title}</h3>"
    if "refused" in models:
        yield f"<p>No ranking: {escape(models['refused'])}.</p>"
        return
    rows = [(one["model"], f"{one['strength']:+.3f}") for one in models["models"]]
    yield _table(("model", "Bradley–Terry log-strength"), rows)


def _against(between_judges: Json) -> Iterator[str]:
    if not between_judges["pairs"]:
        return
    yield "<h2>Judges against each other</h2>"
    rows = []
    for one in between_judges["pairs"]:
        difference = DASH if one["difference"] is None else f"{100 * one['difference']:+.1f} points"
        rows.append(
            (" less ".join(one["judges"]), difference, between(one["bootstrap"]), f"{one['only_right'][0]:,}",
             f"{one['only_right'][1]:,}", p_value(one["mcnemar_p"]), number(one["kappa"]["value"]))
        )  # fmt: skip
    head = ("judges", "accuracy", "paired bootstrap", "only first right", "only second right", "McNemar", "kappa")
    yield _table(head, rows)


def _method(report: Json) -> Iterator[str]:
    of = report["bootstrap"]
    note = f" {of['note'].capitalize()}." if of["note"] else ""
    yield (
        f"<p class=small>Bootstrap: {of['replicates']:,} draws of whole prompts, seed {of['seed']}, the same for all "
        f"judges.{note} No verdict is wrong under every rule but selective.</p>"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "numbers") -> str:
    """`kind`: "words" where the last column is a sentence."""
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<table class="{kind}"><tr>{top}</tr>{body}</table>'
