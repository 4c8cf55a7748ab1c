"""Plots as inline SVG, by svg.py (MIT, no dependencies, 0.2 s to load): a page that needs no network and no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final, Literal, NamedTuple

import svg

_WIDTH: Final = 720
_LEFT: Final = 220
_RIGHT: Final = 30
_ROW: Final = 26
_INK, _LINE, _GRID, _MARK = "#222", "#888", "#ddd", "#2563a8"
Anchor = Literal["start", "middle", "end"]
_FONT: Final = "system-ui, sans-serif"


class Whisker(NamedTuple):
    """A share with its interval, both in [0, 1]; None where it is not known."""

    name: str
    value: float | None
    interval: Sequence[float] | None = None


def whiskers(title: str, rows: Sequence[Whisker], half: bool = True) -> str:
    """One row a name: a dot at the value, a line over its interval; `half` marks what a coin would get."""
    height = 34 + _ROW * len(rows) + 24
    parts: list[svg.Element] = [*_axis(title, height)]
    if half:
        parts.append(_rule(_x(0.5), 30, _x(0.5), height - 24, _LINE, dashed=True))
    for i, row in enumerate(rows):
        y = 34 + _ROW * (i + 0.5)
        parts.append(_words(_LEFT - 10, y + 4, row.name if len(row.name) <= 32 else row.name[:31] + "…", "end"))
        if row.value is None:
            parts.append(_words(_LEFT + 6, y + 4, "not measured", "start"))
            continue
        if row.interval is not None:
            parts.append(_rule(_x(row.interval[0]), y, _x(row.interval[1]), y, _MARK))
        parts.append(svg.Circle(cx=round(_x(row.value), 1), cy=round(y, 1), r=4, fill=_MARK))
    return _drawn(height, title, parts)


def reliability(title: str, bins: Sequence[tuple[float, float, int]]) -> str:
    """How often a judge was right against how sure it was, bins of (said, right, n); the area of a dot is its size."""
    side, top = 300, 34
    most = max((n for _, _, n in bins), default=1)

    def at(said: float, right: float) -> tuple[float, float]:
        return _LEFT + side * said, top + side * (1 - right)

    parts: list[svg.Element] = [_words(_LEFT, 16, title, "start", bold=True)]
    parts.append(svg.Rect(x=_LEFT, y=top, width=side, height=side, fill="none", stroke=_GRID))
    parts.append(_rule(*at(0, 0), *at(1, 1), _LINE, dashed=True))
    for said, right, n in bins:
        x, y = at(said, right)
        parts.append(svg.Circle(cx=round(x, 1), cy=round(y, 1), r=round(2 + 7 * (n / most) ** 0.5, 1), fill=_MARK,
                                fill_opacity=0.7))  # fmt: skip
    for tick in (0, 50, 100):
        x, y = at(tick / 100, tick / 100)
        parts.append(_words(x, top + side + 16, f"{tick}%", "middle"))
        parts.append(_words(_LEFT - 10, y + 4, f"{tick}%", "end"))
    parts.append(_words(_LEFT + side / 2, top + side + 34, "how sure the judge was", "middle"))
    parts.append(_words(_LEFT - 50, top + 4, "how often right", "end"))
    return _drawn(top + side + 44, title, parts)


def _axis(title: str, height: float) -> list[svg.Element]:
    parts: list[svg.Element] = [_words(_LEFT, 16, title, "start", bold=True)]
    for tick in range(0, 101, 25):
        x = _x(tick / 100)
        parts.append(_rule(x, 30, x, height - 24, _GRID))
        parts.append(_words(x, height - 8, f"{tick}%", "middle"))
    return parts


def _x(share: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * share


def _rule(x1: float, y1: float, x2: float, y2: float, ink: str, dashed: bool = False) -> svg.Element:
    return svg.Line(
        x1=round(x1, 1), y1=round(y1, 1), x2=round(x2, 1), y2=round(y2, 1), stroke=ink,
        stroke_width=2 if ink == _MARK else 1, stroke_dasharray=[4, 4] if dashed else None,
    )  # fmt: skip


def _words(x: float, y: float, text: str, anchor: Anchor, bold: bool = False) -> svg.Element:
    # svg.py writes texts as they are.
    return svg.Text(
        x=round(x, 1), y=round(y, 1), text=escape(text), fill=_INK, font_size=12, font_family=_FONT,
        text_anchor=anchor, font_weight="bold" if bold else None,
    )  # fmt: skip


def _drawn(height: float, title: str, parts: list[svg.Element]) -> str:
    named: list[svg.Element] = [svg.Title(text=escape(title))]
    box = svg.ViewBoxSpec(0, 0, _WIDTH, height)
    return str(svg.SVG(viewBox=box, width=_WIDTH, height=height, elements=named + parts))
