"""Which completions are judged at all, one condition at a time."""

from __future__ import annotations

from itertools import permutations

import orjson
import pytest

from prefsmith.gates import Gates, gated
from prefsmith.ledger.known import Completion, Known
from prefsmith.outcomes import Key
from prefsmith.reasons import Reason
from prefsmith.records import Json

HASHES = {1: b"a" * 16, 2: b"b" * 16}


def gate(
    text: str = "A plain answer.", gates: Gates | None = None, finish: str = "stop", **more: Json
) -> Reason | None:
    n_tokens = more.pop("n_tokens", 5)
    body = orjson.dumps({"role": "assistant", "content": text, **more})
    known = Known({(1, 0): Completion(7, len(text), finish, n_tokens, 0, None)}, bodies={7: body})
    return gated(gates or Gates(), known, HASHES, 0, b"p")[1, 0]


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("stop", None),
        ("tool_calls", None),
        ("function_call", None),
        ("length", Reason.TRUNCATED),
        ("abort", Reason.ABORTED),
        ("anything new", Reason.ABORTED),
    ],
)
def test_only_natural_stops_pass(finish: str, reason: Reason | None) -> None:
    assert gate(finish=finish) is reason


@pytest.mark.parametrize("text", ["", " \n\t", "...", "—", "Answer:", "thought process", "\x01" * 64])
def test_a_text_without_a_word_is_empty(text: str) -> None:
    assert gate(text) is Reason.EMPTY


@pytest.mark.parametrize("text", ["7", "é", "答", "Answer: 7", "." * 65])
def test_a_short_answer_or_a_long_one_is_not_empty(text: str) -> None:
    assert gate(text) is None


def test_a_call_of_a_tool_needs_no_words() -> None:
    assert gate("", tool_calls=[{"id": "1"}], finish="tool_calls") is None


def test_fewer_tokens_than_asked_for_are_empty_and_unknown_ones_are_not() -> None:
    assert gate(gates=Gates(min_tokens=6)) is Reason.EMPTY
    assert gate(gates=Gates(min_tokens=5)) is None
    assert gate(gates=Gates(min_tokens=6), n_tokens=None) is None


def test_more_characters_than_allowed_are_too_long() -> None:
    assert gate("x" * 10, Gates(max_chars=9)) is Reason.TOO_LONG
    assert gate("x" * 10, Gates(max_chars=10)) is None


def test_truncated_comes_before_empty_and_too_long() -> None:
    assert gate("", Gates(max_chars=1), finish="length") is Reason.TRUNCATED


def known_of(texts: dict[Key, int], finish: dict[Key, str]) -> Known:
    return Known({k: Completion(t, 100, finish.get(k, "stop"), 9, 0, None) for k, t in texts.items()})


def test_one_of_equal_texts_stays_whatever_the_order_of_arrival() -> None:
    texts = {(1, 0): 5, (1, 1): 5, (2, 0): 5, (2, 1): 6}
    results = set()
    for order in permutations(texts):
        held = gated(Gates(), known_of({k: texts[k] for k in order}, {}), HASHES, 0, b"p")
        assert held[2, 1] is None
        results.add(frozenset(k for k, why in held.items() if why is Reason.IDENTICAL))
    (identical,) = results
    assert len(identical) == 2


def test_a_text_that_a_gate_holds_back_does_not_make_its_equal_identical() -> None:
    held = gated(Gates(), known_of({(1, 0): 5, (2, 0): 5}, {(1, 0): "length"}), HASHES, 0, b"p")
    assert held == {(1, 0): Reason.TRUNCATED, (2, 0): None}


def test_another_seed_or_prompt_draws_another_one_to_stay() -> None:
    known = known_of({(1, 0): 5, (2, 0): 5}, {})
    by_seed = {gated(Gates(), known, HASHES, seed, b"p")[1, 0] for seed in range(20)}
    by_prompt = {gated(Gates(), known, HASHES, 0, bytes([n]))[1, 0] for n in range(20)}
    assert by_seed == by_prompt == {None, Reason.IDENTICAL}


def test_the_ledgers_integers_do_not_draw() -> None:
    here = gated(Gates(), known_of({(1, 0): 5, (2, 0): 5}, {}), {1: b"a", 2: b"b"}, 0, b"p")
    there = gated(Gates(), known_of({(9, 0): 8, (3, 0): 8}, {}), {9: b"a", 3: b"b"}, 0, b"p")
    assert (here[1, 0], here[2, 0]) == (there[9, 0], there[3, 0])
