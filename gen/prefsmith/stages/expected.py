"""From what a sample of prompts took to what one stage will take over the rest: means, and how far they may be off.

Sampling requests are counted; their prompt tokens follow the bytes of their prompts, which are known of every prompt,
and their answers have the sample's mean. Of a judge the calls of a prompt are the sample's mean too. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, sqrt
from typing import Final, NamedTuple

from prefsmith.prices import PER, Price
from prefsmith.stages.took import Took

FEW: Final = 4
"""Fewer prompts do not show how much they differ."""
SIGMAS: Final = 2.0
"""So many standard errors hold 95 of 100 forecasts."""


@dataclass(slots=True)
class Left:
    """What one stage lacks. `n_requests`, `n_answers`: counted for sampling, at most for a judge; `n_bytes`: the sum
    of its requests' prompts; `nanousd`: the most that they can cost; `n_all`, `n_paid`: answers that the view wants,
    and has; `n_begun`: of those, on prompts that are not finished."""

    n_requests: int = 0
    n_answers: int = 0
    n_bytes: int = 0
    nanousd: int = 0
    n_all: int = 0
    n_paid: int = 0
    n_begun: int = 0


class Off(NamedTuple):
    """By how much one prompt of the sample was more than was expected of it."""

    n_requests: float = 0.0
    n_tokens: float = 0.0
    nanousd: float = 0.0


class Expected(NamedTuple):
    """None where nothing tells. `reply_s`: the mean time of a reply."""

    n_requests: float | None = 0.0
    n_prompt_tokens: float | None = 0.0
    n_answer_tokens: float | None = 0.0
    nanousd: float | None = 0.0
    wall_s: float | None = 0.0
    reply_s: float = 0.0
    off: Sequence[Off] = ()

    @property
    def n_tokens(self) -> float | None:
        both = (self.n_prompt_tokens, self.n_answer_tokens)
        return None if None in both else fsum(n or 0.0 for n in both)


UNKNOWN: Final = Expected(None, None, None, None, None)


def sampling(left: Left, took: Sequence[Took], n_bytes: Sequence[int], price: Price | None) -> Expected:
    """`n_bytes`: of the sample's prompts."""
    if not left.n_requests:
        return Expected()
    total = summed(took)
    if not total.n_ok:
        return UNKNOWN._replace(n_requests=float(left.n_requests))
    n = left.n_requests * total.n_requests / total.n_ok
    reply_s = total.wall_s / total.n_requests
    if not total.n_told:
        return UNKNOWN._replace(n_requests=n, wall_s=n * reply_s, reply_s=reply_s)
    line = _line([(x, t.n_prompt_tokens / t.n_told) for x, t in zip(n_bytes, took, strict=True) if t.n_told])
    each = total.n_answer_tokens / max(1, total.n_told_answers)
    n_in, n_out = left.n_requests * line.at(left.n_bytes / left.n_requests), left.n_answers * each
    costs = None if price is None else _scale(total, price)
    off = []
    for x, t in zip(n_bytes, took, strict=True):
        expected_in, expected_out = t.n_told * line.at(x), t.n_told_answers * each
        paid = t.nanousd - costs.of(expected_in, expected_out) if costs else 0.0
        off.append(Off(0.0, t.n_prompt_tokens + t.n_answer_tokens - expected_in - expected_out, paid))
    return Expected(n, n_in, n_out, costs and costs.of(n_in, n_out), n * reply_s, reply_s, off)


def judging(left: Left, took: Sequence[Took], n_open: int, price: Price | None) -> Expected:
    """`n_open`: prompts that are not finished."""
    if not n_open:
        return Expected()
    if not took:
        return UNKNOWN
    total, n_prompts = summed(took), len(took)
    if not total.n_requests:
        return Expected(off=[Off()] * n_prompts)
    n = max(0.0, total.n_requests / n_prompts * n_open - left.n_begun)
    reply_s = total.wall_s / total.n_requests
    if not total.n_told:
        return UNKNOWN._replace(n_requests=n, wall_s=n * reply_s, reply_s=reply_s)
    n_in, n_out = (n * of / total.n_requests for of in (total.n_prompt_tokens, total.n_answer_tokens))
    mean = Off(*(of / n_prompts for of in _size(total)))
    off = [Off(*(a - b for a, b in zip(_size(t), mean, strict=True))) for t in took]
    costs = None if price is None else _scale(total, price)
    return Expected(n, n_in, n_out, costs and costs.of(n_in, n_out), n * reply_s, reply_s, off)


def error(offs: Sequence[Sequence[Off]], n_open: int) -> Off | None:
    """By how much a forecast may be off, all stages together; None where too few prompts were seen to say."""
    sums = [Off(*map(fsum, zip(*of, strict=True))) for of in zip(*offs, strict=True)]
    m = len(sums)
    if m < FEW:
        return None
    # Of a sum over other prompts: its own spread, and that of the mean which stands for it.
    times = SIGMAS * sqrt((n_open**2 / m + n_open) / (m - 1))
    return Off(*(times * sqrt(fsum(x * x for x in xs)) for xs in zip(*sums, strict=True)))


def summed(took: Sequence[Took]) -> Took:
    out = Took()
    for one in took:
        out += one
    return out


def _size(t: Took) -> Off:
    return Off(t.n_requests, t.n_prompt_tokens + t.n_answer_tokens, t.nanousd)


class _Line(NamedTuple):
    """The least-squares line through points, flat where they do not differ."""

    x: float
    y: float
    slope: float

    def at(self, x: float) -> float:
        return max(0.0, self.y + self.slope * (x - self.x))


def _line(points: Sequence[tuple[float, float]]) -> _Line:
    n = len(points)
    x, y = fsum(p[0] for p in points) / n, fsum(p[1] for p in points) / n
    across = fsum((p[0] - x) ** 2 for p in points)
    along = fsum((p[0] - x) * (p[1] - y) for p in points)
    # A token is at least a byte, and a longer prompt has no fewer of them.
    return _Line(x, y, min(1.0, max(0.0, along / across)) if across else 0.0)


class _Scale(NamedTuple):
    """A price, and what was paid for each nano-dollar that it alone would have made: less where prompts came out of a
    provider's cache, more where they were long."""

    price: Price
    factor: float

    def of(self, n_in: float, n_out: float) -> float:
        return self.factor * (n_in * self.price.input + n_out * self.price.output) / PER


def _scale(total: Took, price: Price) -> _Scale:
    alone = _Scale(price, 1.0).of(total.n_prompt_tokens, total.n_answer_tokens)
    return _Scale(price, total.nanousd / alone if alone else 1.0)
