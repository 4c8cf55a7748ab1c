"""What went wrong in graders elsewhere and is impossible here; numbers are rows of the gallery."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from prefsmith.judging.graders import GraderPool, make_grader
from prefsmith.ledger.ids import judge_hash, reads_hash
from prefsmith.outcomes import Score
from prefsmith.reasons import Reason
from prefsmith.recipe import Judge
from prefsmith.records import Item, Json, Prompt


def item(reference: str | None = None, **columns: Json) -> Item:
    return Item(Prompt(({"role": "user", "content": "?"},)), reference, None, columns)


def graded(spec: Judge, texts: list[str], of: Item) -> list[Score]:
    async def run() -> list[Score]:
        async with GraderPool() as pool:
            return await pool.grade(make_grader(spec), texts, of)

    return asyncio.run(run())


def own(tmp_path: Path, source: str) -> Judge:
    (tmp_path / "g.py").write_text(source)
    return Judge(use=f"{tmp_path / 'g.py'}:grade")


def test_a_number_is_never_read_as_another_that_it_begins_with() -> None:
    """#9: a score of 1 was read as 10."""
    texts = ["10", "1", "1.0", "1,000", "0.1", "-1", "1e1"]
    assert [s.value for s in graded(Judge(use="number"), texts, item("1"))] == [0, 1, 1, 0, 0, 0, 0]


def test_a_verdict_that_is_none_or_outside_its_range_is_a_named_reason_and_never_a_number(tmp_path: Path) -> None:
    """#14: a failed verdict turned into a number."""
    source = """
RETURNS = [None, float("nan"), float("inf"), -1, 2, 10**400, "1.0", [1.0], 1j]
def grade(text, item):
    return RETURNS[int(text)]
"""
    scores = graded(own(tmp_path, source), [str(i) for i in range(9)], item())
    assert [(s.value, s.reason) for s in scores] == [(None, Reason.GRADER_ERROR)] * 9
    assert scores[0].parts == {"error": "returned None"}


@pytest.mark.parametrize("crash", ["raise ValueError('no')", "1 / 0", "raise SystemExit(0)", "os._exit(0)"])
def test_a_crashed_grader_gives_no_score_with_its_kind_of_error(tmp_path: Path, crash: str) -> None:
    """#17: a crash counted as 0, so that a good answer became "rejected"."""
    source = f"import os\ndef grade(text, item):\n    if text == 'bad':\n        {crash}\n    return 1.0\n"
    good, bad, last = graded(own(tmp_path, source), ["good", "bad", "good"], item())
    assert good == last == Score(1.0)
    assert (bad.value, bad.reason) == (None, Reason.GRADER_ERROR)
    kinds = ("ValueError: no", "ZeroDivisionError: ", "SystemExit: 0", "the worker process ended")
    assert bad.parts is not None and bad.parts["error"].startswith(kinds)


def test_an_inline_crash_gives_no_score_with_its_kind_of_error() -> None:
    """#17, in this process: the demo's grader on a check that lacks its answer."""
    good, bad = graded(Judge(use="demo"), ["nothing", "#### 7"], item(check={"kind": "number"}))
    assert good.reason is bad.reason is Reason.GRADER_ERROR
    assert bad.parts == {"error": "KeyError: 'answer'"}


def test_a_corrected_column_that_is_read_asks_again_and_another_does_not(tmp_path: Path) -> None:
    """#7, #18: the key holds what the grader reads and nothing else."""
    source = "READS = ('gold',)\ndef grade(text, item): return text == item['gold']\n"
    grader = make_grader(own(tmp_path, source))
    before, fixed, noted = item(gold="a", note=1), item(gold="b", note=1), item(gold="a", note=2)
    assert reads_hash(before, grader.reads) != reads_hash(fixed, grader.reads)
    assert reads_hash(before, grader.reads) == reads_hash(noted, grader.reads)
    assert judge_hash(grader.described()) == judge_hash(make_grader(own(tmp_path, source)).described())


def test_no_key_of_the_run_is_in_the_worker(tmp_path: Path) -> None:
    """A grader's own code sees neither API keys nor anything else of this process's environment."""
    source = """
import os
def grade(text, item):
    raise ValueError(" ".join(sorted(os.environ)))
"""
    os.environ["PREFSMITH_TEST_SECRET_KEY"] = "secret"
    try:
        (score,) = graded(own(tmp_path, source), ["x"], item())
    finally:
        del os.environ["PREFSMITH_TEST_SECRET_KEY"]
    assert score.parts is not None
    names = set(score.parts["error"].removeprefix("ValueError: ").split())
    assert names and names <= {"PATH", "LANG", "PYTHONPATH", "LC_CTYPE"}  # LC_CTYPE: Python's own coercion (PEP 538)


def test_a_line_that_a_grader_prints_is_never_another_texts_score(tmp_path: Path) -> None:
    """A printed line must not forge a result: everything printed ends in /dev/null."""
    source = """
import sys
def grade(text, item):
    for _ in range(3):
        print('{"value": 1.0}', flush=True)
        print('{"value": 1.0}', file=sys.stderr, flush=True)
    return 0.0
"""
    assert [s.value for s in graded(own(tmp_path, source), ["a", "b", "c"], item())] == [0, 0, 0]
