"""The prompts of a probe: one of each equal part of the source, whatever the source is sorted by."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from prefsmith.ledger.ingest import Selection, ingest
from prefsmith.ledger.ledger import Ledger
from prefsmith.ledger.read import lines_of, prompts_of, spread
from prefsmith.recipe import Prompts
from prefsmith.sources import open_source


def read(folder: Path, name: str, texts: list[str], limit: int | None = None) -> tuple[Ledger, Selection]:
    path = folder / "p.jsonl"
    path.write_text("".join(json.dumps({"prompt": t, "reference": i}) + "\n" for i, t in enumerate(texts)))
    ledger = Ledger.create(folder / name)
    with closing(open_source(Prompts(path=str(path)), frozenset())) as source:
        return ledger, ingest(ledger, source, "m", limit)


def texts_of(ledger: Ledger, chosen: Selection) -> list[str]:
    of = dict(ledger.db.execute("SELECT id, json_extract(messages, '$[0].content') FROM prompt"))
    return [of[prompt] for block in prompts_of(ledger.db, chosen) for prompt in block]


def test_each_stretch_of_the_source_is_there_with_its_short_and_its_long_prompts(tmp_path: Path) -> None:
    texts = [f"{kind} {i} {'x' * (i * 7919 % 200)}" for kind in "abcd" for i in range(100)]
    ledger, whole = read(tmp_path, "run", texts)
    with ledger:
        found = texts_of(ledger, spread(ledger.db, whole, 16))
    assert len(found) == 16
    for kind in "abcd":
        sizes = sorted(len(t) for t in texts if t[0] == kind)
        ranks = sorted(sizes.index(len(t)) // 25 for t in found if t[0] == kind)
        assert ranks == [0, 1, 2, 3], "one of each quarter by length"


def test_the_same_prompts_are_drawn_in_a_folder_with_a_history(tmp_path: Path) -> None:
    texts = [f"Say {i}." for i in range(50)]
    with read(tmp_path, "old", texts[::-1])[0]:
        pass
    draws = []
    for name in ("old", "fresh"):
        ledger, whole = read(tmp_path, name, texts)
        with ledger:
            draws.append(texts_of(ledger, spread(ledger.db, whole, 9)))
    assert draws[0] == draws[1] and len(draws[0]) == 9


@pytest.mark.parametrize("n", [1, 2, 3, 7, 20, 50])
def test_a_source_of_few_prompts_gives_those_that_it_has(tmp_path: Path, n: int) -> None:
    ledger, whole = read(tmp_path, "run", [f"Say {i}." for i in range(20)])
    with ledger:
        chosen = spread(ledger.db, whole, n)
        assert chosen.n_items == len(chosen.prompts or ()) == min(n, 20)


def test_a_prompt_comes_with_all_of_its_items_and_a_limit_holds(tmp_path: Path) -> None:
    """Nothing outside the view is opened, and a prompt's answers serve all who share it."""
    ledger, whole = read(tmp_path, "run", [f"Say {i % 10}." for i in range(40)], limit=35)
    with ledger:
        chosen = spread(ledger.db, whole, 10)
        assert chosen.n_items == 35 == len(list(lines_of(ledger.db, chosen)))
        few = spread(ledger.db, whole, 3)
        assert few.n_items == len(list(lines_of(ledger.db, few))) in range(9, 13)
