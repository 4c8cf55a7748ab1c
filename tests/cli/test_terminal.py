from prefsmith.cli.terminal import outline, plain, side_by_side
from prefsmith.outcomes import Pair, Record, Sample
from prefsmith.records import Item, Message, Prompt


def record(chosen: Message, rejected: Message) -> tuple[Record, Pair]:
    pair = Pair((1, 0), (1, 1), 1.0, 0.25, judge=1, rule="best_worst")
    samples = tuple(
        Sample((1, i), message, "stop", n_chars=len(message["content"] or ""))
        for i, message in enumerate((chosen, rejected))
    )
    item = Item(Prompt(({"role": "user", "content": "What is 2 + 2?"},)))
    return Record("ab" * 16, "cd" * 16, item, None, samples, (pair,), None), pair


def answer(text: str) -> Message:
    return {"role": "assistant", "content": text}


def test_a_pair_stands_side_by_side_under_its_prompt() -> None:
    lines = list(side_by_side(*record(answer("4"), answer("It is five, or so I think.")), 43, "exact"))
    assert lines == [
        "abababab · margin 0.75 (1 against 0.25) by exact",
        "What is 2 + 2?",
        "chosen               | rejected",
        "---------------------+---------------------",
        "4                    | It is five, or so I",
        "                     | think.",
    ]


def test_a_long_answer_is_cut_and_says_so() -> None:
    lines = list(side_by_side(*record(answer("\n".join("abc" for _ in range(40))), answer("no")), 60, "exact"))
    assert lines[-1].startswith("… 25 more lines")
    assert len(lines) == 4 + 16


def test_a_tool_call_without_text_is_shown() -> None:
    calls = [{"id": "1", "type": "function", "function": {"name": "add", "arguments": {"a": 2}}}]
    lines = side_by_side(
        *record({"role": "assistant", "content": None, "tool_calls": calls}, answer("no")), 300, "exact"
    )
    assert any('"name":"add"' in line for line in lines)


def test_control_codes_of_a_model_are_shown_not_obeyed() -> None:
    assert plain("a\x1b[2Jb\rc\x9bd\u202ee\ud800\n\tf") == "a\\x1b[2Jb\\rc\\x9bd\\u202ee\\ud800\n\tf"
    lines = list(side_by_side(*record(answer("\x1b[31mred"), answer("\x07")), 60, "exact"))
    assert not any(ord(c) < 32 for line in lines for c in line)


def test_an_outline_shows_every_value_once() -> None:
    value = {
        "seed": 528414532,
        "models": ["a", "b"],
        "key": (1, 0),
        "empty": [],
        "nothing": {},
        "none": None,
        "ok": True,
        "rate": 0.5,
        "cells": [{"n": 1, "t": 0.2}, {"n": 2}],
        "text": "one\ntwo\x1b",
    }
    assert list(outline(value)) == [
        "seed: 528414532",
        "models: a, b",
        "key: 1, 0",
        "empty: none",
        "nothing: none",
        "none: none",
        "ok: yes",
        "rate: 0.5",
        "cells:",
        "  - n: 1",
        "    t: 0.2",
        "  - n: 2",
        "text:",
        "  one",
        "  two\\x1b",
    ]


def test_a_confirmed_pair_says_so() -> None:
    of, pair = record(answer("4"), answer("5"))
    assert next(side_by_side(of, pair._replace(confirmed=True), 60, "rubric-help")).endswith(
        "by rubric-help, confirmed"
    )
