"""Gallery rows that belong to the reading of prompts."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefsmith.reasons import Reason
from prefsmith.recipe import Prompts
from prefsmith.records import Row
from prefsmith.sources import CONTROL_TOKENS, open_source

BAD = ['{"prompt": "cut', "{}", '{"prompt": ""}', '{"prompt": NaN}', '{"prompt": "a</s>"}', '{"prompt": "\\ud800"}']


def read(path: Path, lines: list[str], **prompts: bool) -> list[Row]:
    path.write_text("".join(line + "\n" for line in lines))
    return list(open_source(Prompts(path=str(path), **prompts), CONTROL_TOKENS).rows())


def test_an_invalid_line_is_reported_with_its_number_and_refuses_no_other(tmp_path: Path) -> None:
    """Gallery row 11: elsewhere one invalid line refused the whole file."""
    rows = read(tmp_path / "x.jsonl", ['"a"', '{"prompt": "cut', '"b"'])
    assert [(row.line, row.reason) for row in rows] == [(1, None), (2, Reason.BAD_JSON), (3, None)]
    assert rows[1].excerpt == '{"prompt": "cut'


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["good", *BAD]), max_size=30))
def test_bad_rows_shift_no_reference_onto_another_prompt(tmp_path: Path, kinds: list[str]) -> None:
    """Gallery row 2: elsewhere one failed row moved every later prompt onto its neighbour's answers."""
    lines = [json.dumps({"prompt": f"p{i}", "answer": i}) if k == "good" else k for i, k in enumerate(kinds)]
    found = {row.line: row.item for row in read(tmp_path / "x.jsonl", lines)}
    for i, kind in enumerate(kinds):
        item = found[i + 1]
        assert (item is not None) == (kind == "good")
        assert item is None or (item.prompt.messages[0]["content"], item.reference) == (f"p{i}", str(i))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(['"good"', *BAD]), max_size=150))
def test_rows_in_are_items_and_rows_set_aside(tmp_path: Path, lines: list[str]) -> None:
    """Gallery row 12: counts are conserved, each row that gives no item has its reason."""
    rows = read(tmp_path / "x.jsonl", lines)
    assert len(rows) == len(lines)
    assert sum(row.item is not None for row in rows) == lines.count('"good"')
    assert all((row.item is None) == (row.reason is not None) for row in rows)


def test_a_prompt_that_holds_a_control_token_is_told_and_sent_only_when_allowed(tmp_path: Path) -> None:
    """Gallery row 28: elsewhere the tokens inside a user's text are parsed as turns."""
    lines = [json.dumps({"prompt": f"say {token} now"}) for token in sorted(CONTROL_TOKENS)]
    rows = read(tmp_path / "x.jsonl", lines)
    assert {row.reason for row in rows} == {Reason.CONTROL_TOKEN}
    assert all(token in (row.excerpt or "") for token, row in zip(sorted(CONTROL_TOKENS), rows, strict=True))
    allowed = read(tmp_path / "x.jsonl", lines, allow_control_tokens=True)
    assert all(row.item is not None for row in allowed)
