"""The report as people read it: nothing of a file runs on the page, plots are whole, figures stand by their names."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from prefsmith.agreement.compare import compared
from prefsmith.agreement.votes import Gold, Usage, Votes
from prefsmith.report.page import page
from prefsmith.report.plots import Whisker, whiskers
from prefsmith.report.table import table

EVIL = "<script>alert(1)</script> & Co"


@pytest.fixture(scope="module")
def report() -> Any:
    rng = np.random.default_rng(0)
    label = rng.choice([1, -1], 60).astype(np.int8)
    ab = np.where(rng.random(60) < 0.8, label, -label).astype(np.int8)
    gold = Gold(
        label, np.arange(60), rng.choice([1, 0, -1], 60).astype(np.int8), np.arange(60) % 2, ("easy", EVIL),
        ratings=np.stack([label, ab], axis=1).astype(float), models=np.array([[0, 1]] * 30 + [[1, 0]] * 30),
        model_names=("m1", EVIL), group=np.repeat(np.arange(20), 3),
    )  # fmt: skip
    p = np.where(ab == 1, 0.8, 0.3)
    usage = Usage(120, 121, 9000, 300, 120, 60.0, 120, 0.36, 120)
    one = Votes(EVIL, ab, ab, p, p, reasons={"refused": 2}, repeated=(9, 10), usage=usage)
    scores = np.stack([ab, np.zeros(60)], axis=1).astype(float)
    return {"file": "bench.jsonl", "format": "own", **compared(gold, [one, Votes("plain", ab, scores=scores)])}


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_runs_no_word_of_a_file_and_loads_nothing(report: Any) -> None:
    tags = Tags(page(report))
    assert {"table", "svg", "h2"} <= tags.seen
    assert "script" not in tags.seen
    assert tags.links == []
    assert "&lt;script&gt;" in page(report)


def test_every_plot_is_well_formed_and_named(report: Any) -> None:
    plots = re.findall(r"<svg.*?</svg>", page(report), re.S)
    titles = [ElementTree.fromstring(plot).find("{http://www.w3.org/2000/svg}title") for plot in plots]
    named = [title.text for title in titles if title is not None]
    assert len(named) == len(plots)
    assert {"Calibration", "Accuracy by category", "Position consistency"} <= set(named)


def test_a_dot_stands_where_its_share_is() -> None:
    root = ElementTree.fromstring(whiskers("t", [Whisker("a", 0.0, (0.0, 0.5)), Whisker("b", 1.0), Whisker("c", None)]))
    dots = [float(dot.attrib["cx"]) for dot in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert dots == [220, 690]
    assert "not measured" in {text.text for text in root.iter("{http://www.w3.org/2000/svg}text")}


def test_the_table_has_a_line_a_judge_and_says_what_a_reader_must_know(report: Any) -> None:
    text = table(report)
    assert "60 pairs of 60 prompts" in text
    (row,) = (line for line in text.splitlines() if line.startswith(EVIL) and "two_order" in line)
    assert "$3.00" in row
    assert f"{EVIL} without a verdict: 2 refused" in text
    assert f"{EVIL} best of:" in text
    assert f"{EVIL} less plain:" in text
    assert "two_order: each order votes" in text
    assert "single: one verdict equals" in text


def test_a_table_of_models_that_cannot_be_ranked_says_why(report: Any) -> None:
    never_lost = {**report["judges"][0], "models": {"refused": "the table of wins is not strongly connected"}}
    changed = {**report, "judges": [never_lost]}
    assert "no ranking of the models: the table of wins" in table(changed)
    assert "No ranking: the table of wins" in page(changed)
