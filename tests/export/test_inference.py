from __future__ import annotations

from typing import Any

import pytest

from prefsmith.export.inference import CHUNK_BYTES, DateRuns, leading


def row(*texts: str) -> dict[str, Any]:
    prompt, chosen, rejected = texts
    sides = {"prompt": ("user", prompt), "chosen": ("assistant", chosen), "rejected": ("assistant", rejected)}
    return {side: [{"role": role, "content": text}] for side, (role, text) in sides.items()}


@pytest.mark.parametrize("text", ["2024-01-31", "2024-01-31 10:00", "2024-01-31T10:00:00.5Z", "2024-01-31T10:00+02:00"])
def test_a_file_whose_answers_all_look_like_dates_is_misread(text: str) -> None:
    runs = DateRuns()
    runs.see(row("when?", text, "x"), 100)
    runs.see(row("when?", "2024-02-01", "x"), 100)
    assert runs.misread
    runs.see(row("when?", "on 2024-02-01", "x"), 100)
    assert not runs.misread


def test_a_chunk_of_dates_inside_a_larger_file_is_misread() -> None:
    runs = DateRuns()
    runs.see(row("q", "a", "b"), 100)
    for _ in range(8):
        runs.see(row("q", "a", "2024-01-01"), CHUNK_BYTES // 8)
    assert runs.misread
    runs.see(row("q", "a", "b"), 100)
    assert runs.misread


def test_dates_among_other_answers_are_read_as_they_are() -> None:
    runs = DateRuns()
    for _ in range(30):
        runs.see(row("q", "2024-01-01", "b"), CHUNK_BYTES // 8)
        runs.see(row("q", "a", "b"), 100)
        runs.see(row("2024-01-01", "a", "b"), 100)
    assert not runs.misread
    assert not DateRuns().misread


def test_a_leading_row_holds_no_set_of_message_keys_that_another_row_has() -> None:
    spelt = leading(row("q", "a", "b"))
    keys = {frozenset(m) for side in ("prompt", "chosen", "rejected") for m in spelt[side]}
    natural = ({"role", "content"}, {"role", "content", "tool_calls"}, {"role", "content", "tool_call_id"})
    assert keys == {frozenset({"role", "content", "tool_calls", "tool_call_id"})}
    assert not keys & {frozenset(k) for k in natural}
