"""The plot of docs/does-it-train.md: right answers of each arm and seed, with their intervals, as a small SVG."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from page import ARMS, Results

WIDTH, HEIGHT, TOP, BOTTOM, LEFT, GAP = 640, 240, 34, 42, 44, 30
COLOURS = {"base": "#777777", "flipped": "#c0504d", "sft": "#4f81bd", "dpo": "#2e8b57"}


def plot(results: Results) -> str:
    """The first held-out set, one panel a temperature."""
    name = next(iter(results["seeds"][0]["eval"]))
    reports = [one["eval"][name]["temperatures"] for one in results["seeds"]]
    top = max(arm["pass"]["interval"][1] for report in reports for at in report for arm in at["arms"])
    high = min(1.0, (int(top * 10) + 1) / 10)
    parts = [_text(LEFT - 8, TOP - 14, "right answers, %", "start")]
    width = (WIDTH - LEFT - GAP * len(reports[0])) / len(reports[0])
    for i in range(len(reports[0])):
        x = LEFT + i * (width + GAP)
        parts += _panel([report[i] for report in reports], x, width, high)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'font-family="sans-serif" font-size="11">\n<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def _panel(reports: list[dict[str, Any]], x: float, width: float, high: float) -> Iterator[str]:
    def y(share: float) -> float:
        return HEIGHT - BOTTOM - share / high * (HEIGHT - BOTTOM - TOP)

    yield _text(x + width / 2, TOP - 14, f"temperature {reports[0]['temperature']:g}", "middle")
    for tick in range(0, round(high * 100) + 1, 10):
        yield _line(x, y(tick / 100), x + width, y(tick / 100), "#e4e4e4", 1)
        yield _text(x - 5, y(tick / 100) + 4, str(tick), "end")
    arms = [arm["arm"] for arm in reports[0]["arms"]]
    for i, arm in enumerate(arms):
        middle = x + (i + 0.5) * width / len(arms)
        for k, report in enumerate(reports):
            of = report["arms"][i]["pass"]
            at = middle + (k - (len(reports) - 1) / 2) * 14
            low, top = (y(edge) for edge in of["interval"])
            yield _line(at, low, at, top, COLOURS[arm], 2)
            yield f'<circle cx="{at:.1f}" cy="{y(of["value"]):.1f}" r="3.5" fill="{COLOURS[arm]}"/>'
        yield _text(middle, HEIGHT - BOTTOM + 16, ARMS[arm], "middle")


def _line(x: float, y: float, to_x: float, to_y: float, colour: str, thick: int) -> str:
    return f'<path d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}" stroke="{colour}" stroke-width="{thick}"/>'


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#333333">{words}</text>'
