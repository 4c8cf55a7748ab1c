"""A model that thinks before it answers, on the real engine: its thoughts arrive, and are kept, apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.vllm.conftest import PARSERS, SUM, Loop, asked, endpoint_of

from prefsmith.backends.vllm.talk import Talk
from prefsmith.records import Reply, Request

THINKING = asked(SUM, n=8, seed=3, logprobs=True)


@pytest.fixture(scope="module")
def engine(open_engine: Callable[..., Loop], thinker: Path) -> Loop:
    return open_engine(endpoint_of(args=PARSERS), str(thinker))


def read_without_parser(engine: Loop, request: Request, *, thinks: bool) -> Reply:
    """As an engine without the argument would have it: the same answers, their text read by prefsmith."""
    llm = engine.backend._engines[0]._llm  # type: ignore[union-attr]
    talk = Talk(llm, {}, thinks)

    async def read() -> Reply:
        prompt, params, options = talk.asked(request)
        async for out in llm.generate(prompt, params, f"plain-{thinks}", **options):
            reply = talk.read(out, request)
        return reply

    return engine.run(read())


def test_thoughts_arrive_apart_from_the_answer(engine: Loop) -> None:
    thought = [c for c in engine.send(THINKING).choices if c.reasoning]
    assert len(thought) > 3
    for choice in thought:
        assert "=" in (choice.reasoning or "")
        assert "think>" not in f"{choice.reasoning}{choice.message['content']}"
    assert any(str(c.message["content"]).strip().isdigit() for c in thought)


def test_nothing_is_said_of_an_answer_that_was_counted_with_its_thoughts(engine: Loop) -> None:
    """This parser counts no thought that nothing opened; the sum over the tokens is one of both."""
    reply = engine.send(THINKING)
    assert {(c.n_tokens, c.logprob_sum) for c in reply.choices if c.reasoning} == {(None, None)}
    assert reply.usage.n_completion_tokens


def test_without_a_parser_the_declared_thoughts_are_found_too(engine: Loop) -> None:
    parsed = [(c.reasoning or "", str(c.message["content"])) for c in engine.send(THINKING).choices]
    found = [(c.reasoning or "", str(c.message["content"])) for c in
             read_without_parser(engine, THINKING, thinks=True).choices]  # fmt: skip
    ended = [i for i, (thought, answer) in enumerate(parsed) if answer]
    assert len(ended) > 3
    assert [(parsed[i][0].strip(), parsed[i][1].strip()) for i in ended] == [
        (found[i][0], found[i][1].strip()) for i in ended
    ]


def test_thoughts_that_were_cut_off_are_no_answer(engine: Loop) -> None:
    for choice in engine.send(asked(SUM, n=4, temperature=0.5, max_tokens=2)).choices:
        assert (choice.finish_reason, choice.message["content"]) == ("length", "")
        assert choice.reasoning


def test_a_schema_binds_the_answer_and_not_the_thoughts(engine: Loop) -> None:
    schema = {"type": "object", "properties": {"left": {"type": "integer"}}, "required": ["left"]}
    schema["additionalProperties"] = False
    choices = engine.send(asked(SUM, n=8, seed=3, max_tokens=64, schema=schema)).choices
    whole = [c for c in choices if c.finish_reason == "stop"]
    assert whole
    for choice in whole:
        assert {*json.loads(str(choice.message["content"]))} == {"left"}
        assert choice.reasoning and "{" not in choice.reasoning
    assert {c.finish_reason for c in choices} <= {"stop", "length", "mismatch"}
