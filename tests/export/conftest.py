"""Records as the ledger would give them, small enough to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from prefsmith.export import Naming
from prefsmith.outcomes import Pair, Record, Sample
from prefsmith.reasons import Reason
from prefsmith.records import Item, Message, Prompt

JUDGE = 7
TOOLS = ({"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}},)


def digest(*parts: Any) -> str:
    return blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def make_record(
    prompt: str | list[Message] = "What is 2 + 2?",
    answers: tuple[str | Message, ...] = ("4", "five"),
    scores: tuple[float, ...] = (1.0, 0.25),
    *,
    tools: tuple[Any, ...] | None = None,
    parallel: bool | None = None,
    reference: str | None = None,
    category: str | None = None,
    columns: dict[str, Any] | None = None,
    source_id: str | None = None,
    **sample: Any,
) -> Record:
    """Answer 0 is chosen and answer 1 rejected; an odd answer comes from the second sampler."""
    messages: list[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    turns: list[Message] = [a if isinstance(a, dict) else {"role": "assistant", "content": a} for a in answers]
    samples = tuple(
        Sample((i % 2 + 1, i // 2), turn, "stop", len(turn["content"] or ""), 3, 11 + i, scores={JUDGE: s}, **sample)
        for i, (turn, s) in enumerate(zip(turns, scores, strict=True))
    )
    item = Item(Prompt(tuple(messages), tools, parallel), reference, category, columns or {})
    pair = Pair((1, 0), (2, 0), scores[0], scores[1], JUDGE, "best_worst")
    of_prompt = digest(messages, tools, parallel)
    return Record(digest(of_prompt, item), of_prompt, item, source_id, samples, (pair,), None)


def call(name: str = "weather", call_id: str = "call_1", **arguments: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.fixture
def record() -> Callable[..., Record]:
    return make_record


@pytest.fixture
def called() -> Callable[..., dict[str, Any]]:
    return call


@pytest.fixture
def tools() -> tuple[Any, ...]:
    return TOOLS


@pytest.fixture
def names() -> Naming:
    cold = {"target": "embedded", "model": "tiny", "run_seed": 0, "temperature": 0.2, "max_tokens": 64}
    return Naming({1: cold, 2: cold | {"temperature": 1.0, "top_k": 40}}, {JUDGE: "number"})


@pytest.fixture
def gallery() -> list[Record]:
    """One record of each kind that the plain layouts know, and some that hold no pair."""
    system: Message = {"role": "system", "content": "Be brief."}
    history: list[Message] = [
        system,
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello!"},
        {"role": "user", "content": "Name a fruit."},
    ]
    plain = make_record(reference="4", category="sums", columns={"level": 1, "note": "ü"}, source_id="q-1")
    odd = make_record("Was heißt\u2028„neu“?", ("  ein Wort\u0085 \n", "zwei 👍\x0b"), source_id="q-3")
    dropped = make_record("Say hi", ("hi", "hi there"), (1.0, 1.0))
    gated = make_record("Say no", ("no", "nope", ""), (0.5, 0.0, 0.0))
    empty = gated.samples[2]._replace(gate=Reason.EMPTY, scores={JUDGE: Reason.UNPARSEABLE}, n_tokens=None, seed=None)
    return [
        plain,
        make_record(history, ("A pear.", "Carrot")),
        odd,
        replace(dropped, pairs=(), reason=Reason.TIE),
        replace(gated, samples=(*gated.samples[:2], empty)),
        make_record(answers=("4", "five"), source_id="again", reference="four"),
    ]


@pytest.fixture
def tool_gallery() -> list[Record]:
    """Plain first, then prompts with tools: what breaks a loader that takes its types from the first rows."""
    asked: Message = {"role": "user", "content": "Weather in Oslo?"}
    history: list[Message] = [
        asked,
        {"role": "assistant", "content": None, "tool_calls": [call(city="Oslo")]},
        {"role": "tool", "content": '{"celsius": 3}', "tool_call_id": "call_1", "name": "weather"},
    ]
    calls: Message = {"role": "assistant", "content": None, "tool_calls": [call(city="Oslo", days=[1, 2])]}
    return [
        make_record(),
        make_record([asked], (calls, "I cannot know."), tools=TOOLS, parallel=False),
        make_record(history, ("It is 3 °C.", "Cold"), tools=TOOLS),
    ]


@pytest.fixture
def golden() -> Iterator[Path]:
    yield Path(__file__).parent / "golden"
