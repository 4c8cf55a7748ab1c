"""A contest's report as Markdown that reads as plain text too. Counts nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from prefsmith.records import Json

_NOTHING: Json = {"value": None, "interval": None}


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
        "Brackets are 95 % intervals; items of one prompt count as one, and differences are paired by prompt.",
    ]
    return "\n".join(lines)


def _section(at: Json) -> Iterator[str]:
    left_out = f"; {at['left_out']:,} left out, which some arm has no verdict on" if at["left_out"] else ""
    yield f"Temperature {at['temperature']:g}: {at['n_items']:,} items{left_out}"
    yield ""
    formed = any(arm["form"] is not None for arm in at["arms"])
    head = ["arm", "answers", "right, %", "mean tokens", "cut off, %"]
    marked = any(arm["pass"] is not None for arm in at["arms"])
    head[3:3] = ["right form, %", "right given the form, %"] if formed else []
    rows = []
    for arm in at["arms"]:
        row = [
            arm["arm"],
            f"{arm['n_answers']:,}",
            _rate(arm["pass"] or _NOTHING),
            _number(arm["mean_tokens"]),
            _rate(arm["cut_off"]),
        ]
        row[3:3] = [_rate(arm["form"]), _rate(arm["pass_given_form"])] if formed else []
        rows.append(row)
    yield from table(*((head, rows) if marked else ([*head[:2], *head[3:]], [[*r[:2], *r[3:]] for r in rows])))
    if at["duels"]:
        yield ""
        yield from _duels(at["duels"])
    if not at["differences"]:
        return
    yield ""
    head = ["difference in points", "right", *(["right form"] if formed else []), "items better, worse"]
    rows = [
        [
            f"{d['arm']} − {d['over']}",
            difference(d["pass"]),
            *([difference(d["form"])] if formed else []),
            f"{d['better']:,}, {d['worse']:,}",
        ]
        for d in at["differences"]
    ]
    yield from table(head, rows)


def _duels(duels: Sequence[Json]) -> Iterator[str]:
    head = ["before the judge", "items", "win rate, % (a tie is half)", "won, tied, lost", "ties: orders disagree"]
    rows = []
    for d in duels:
        n = Counter(d["outcomes"])
        won, lost = n["won"] + n["won_unasked"], n["lost"] + n["lost_unasked"]
        told = f"{won:,}, {n.total() - won - lost - n['without_verdict']:,}, {lost:,}"
        if n["without_verdict"]:
            told += f"; {n['without_verdict']:,} without a verdict"
        name = f"{d['arm']} over {d['over']}"
        rows.append([name, f"{d['n_items']:,}", _rate(d["win_rate"]), told, f"{n['orders_disagree']:,}"])
    yield from table(head, rows)


def _by_category(at: Json) -> Iterator[str]:
    head = ["right by category, %", "items", *(arm["arm"] for arm in at["arms"])]
    rows = [
        [name, f"{of['n_items']:,}", *(f"{100 * p:.1f}" for p in of["pass"])] for name, of in at["categories"].items()
    ]
    yield from table(head, rows)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Markdown with its columns aligned."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    for row in (head, ["-" * w for w in widths], *rows):
        yield "| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |"


def _rate(rate: Json) -> str:
    if rate["value"] is None:
        return "–"
    if rate["interval"] is None:
        return f"{100 * rate['value']:.1f}"
    low, high = rate["interval"]
    return f"{100 * rate['value']:.1f} ({100 * low:.1f} to {100 * high:.1f})"


def difference(of: Json) -> str:
    if of["value"] is None:
        return "–"
    low, high = of["interval"]
    return f"{100 * of['value']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
