"""An evaluation's report as Markdown that reads as plain text too. Counts nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from prefsmith.records import Json

NOTHING: Final = "–"


def render(report: Json, *, categories: bool = False) -> str:
    """One section a temperature: the arms, then what tells each two of them apart."""
    marked = (
        f", marked by {report['grader']} (right: at least {report['correct']:g}; cut-off and empty answers are wrong)"
        if report["grader"]
        else ""
    )
    compared = f", compared by {report['judge']} in both orders" if report["judge"] else ""
    lines = [f"{report['items']['n']:,} items of {report['prompts']}{marked}{compared}"]
    if report["items"]["incomplete"]:
        lines.append(f"{report['items']['incomplete']:,} of them are left out: something is still owed of them")
    for at in report["temperatures"]:
        lines += ["", *_section(at)]
        if categories and at["categories"]:
            lines += ["", *_by_category(at)]
    lines += [
        "",
        "Brackets are 95 % intervals over prompts, however many answers each has; differences are paired by prompt.",
        "Where all prompts agree, a rate's interval is Wilson's; that of a difference has no width and says nothing.",
    ]
    return "\n".join(lines)


def _section(at: Json) -> Iterator[str]:
    left_out = f"; {at['left_out']:,} left out, which some arm has no verdict on" if at["left_out"] else ""
    yield f"Temperature {at['temperature']:g}: {at['n_items']:,} items{left_out}"
    yield ""
    arms, differences = at["arms"], at["differences"]
    columns = {
        "arm": [arm["arm"] for arm in arms],
        "answers": [f"{arm['n_answers']:,}" for arm in arms],
        "right, %": [_rate(arm["pass"]) for arm in arms],
        "right form, %": [_rate(arm["form"]) for arm in arms],
        "right given the form, %": [_rate(arm["pass_given_form"]) for arm in arms],
        "mean tokens": [_number(arm["mean_tokens"]) for arm in arms],
        "cut off, %": [_rate(arm["cut_off"]) for arm in arms],
    }
    yield from _table(columns)
    if at["duels"]:
        yield ""
        yield from _duels(at["duels"])
    if differences:
        yield ""
        columns = {
            "difference in points": [f"{d['arm']} − {d['over']}" for d in differences],
            "right": [_points(d["pass"]) for d in differences],
            "right form": [_points(d["form"]) for d in differences],
            "items better, worse": [f"{d['better']:,}, {d['worse']:,}" for d in differences],
        }
        yield from _table(columns)


def _duels(duels: Sequence[Json]) -> Iterator[str]:
    told = []
    for n in (Counter(d["outcomes"]) for d in duels):
        won, lost = n["won"] + n["won_unasked"], n["lost"] + n["lost_unasked"]
        without = f"; {n['without_verdict']:,} without a verdict" if n["without_verdict"] else ""
        told.append(f"{won:,}, {n.total() - won - lost - n['without_verdict']:,}, {lost:,}{without}")
    columns = {
        "before the judge": [f"{d['arm']} over {d['over']}" for d in duels],
        "items": [f"{d['n_items']:,}" for d in duels],
        "win rate, % (a tie is half)": [_rate(d["win_rate"]) for d in duels],
        "won, tied, lost": told,
        "ties: orders disagree": [f"{d['outcomes'].get('orders_disagree', 0):,}" for d in duels],
    }
    yield from _table(columns)


def _by_category(at: Json) -> Iterator[str]:
    names = at["categories"]
    columns = {
        "right by category, %": list(names),
        "items": [f"{of['n_items']:,}" for of in names.values()],
        **{arm["arm"]: [f"{100 * of['pass'][i]:.1f}" for of in names.values()] for i, arm in enumerate(at["arms"])},
    }
    yield from _table(columns)


def _table(columns: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Markdown with its columns aligned; a column that tells nothing is left out."""
    told = {name: cells for name, cells in columns.items() if any(cell != NOTHING for cell in cells)}
    widths = [max(map(len, (name, *cells))) for name, cells in told.items()]
    for row in (tuple(told), ["-" * w for w in widths], *zip(*told.values(), strict=True)):
        yield "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"


def _rate(rate: Json) -> str:
    if rate is None or rate["value"] is None:
        return NOTHING
    if rate["interval"] is None:
        return f"{100 * rate['value']:.1f}"
    low, high = rate["interval"]
    return f"{100 * rate['value']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def _points(of: Json) -> str:
    if of is None or of["value"] is None:
        return NOTHING
    low, high = of["interval"]
    return f"{100 * of['value']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _number(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1f}"
