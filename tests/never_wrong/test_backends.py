"""The gallery's rows that a backend can get wrong (never-wrong rows 20 to 24, 28, 29)."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from prefsmith.backends import resolve
from prefsmith.endpoints import Endpoint
from prefsmith.errors import CallFailed
from prefsmith.gates import NATURAL_STOPS
from prefsmith.judging.parse import read_score
from prefsmith.reasons import Reason
from prefsmith.records import Request, Sampling

HELLO = ({"role": "user", "content": "Say hello."},)


def asked(answer, n=1, sampling=None, schema=None, **options):
    """(reply or failure, body on the wire) of one request to a server that answers so."""

    async def main():
        bodies = []

        async def handle(call):
            bodies.append(await call.json())
            return web.Response(body=answer, content_type="application/json")

        app = web.Application()
        app.router.add_post("/v1/chat/completions", handle)
        async with TestServer(app) as server:
            endpoint = Endpoint(urls=[str(server.make_url("/v1"))], **options)
            backend = resolve("farm:m", {"farm": endpoint}).make()[0].backend
            await backend.open((), 0)
            request = Request("m", HELLO, sampling or Sampling(), n, 11, schema=schema)
            try:
                return await backend.send(request), bodies
            except CallFailed as failed:
                return failed, bodies
            finally:
                await backend.close()

    outcome, (body,) = asyncio.run(main())
    return outcome, body


def completion(*choices, **more):
    texts = [{"index": i, "message": {"content": t}, "finish_reason": f} for i, (t, f) in enumerate(choices)]
    return json.dumps({"choices": texts} | more).encode()


FINE = completion(("Hello!", "stop"))
NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0, "n": 1, "seed": 11}


@pytest.mark.parametrize(
    ("server", "more"),
    [
        ("openai", {}),
        ("vllm", {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}),
        (
            "llama.cpp",
            {"top_k": 0, "min_p": 0.0, "repeat_penalty": 1.0, "typical_p": 1.0, "xtc_probability": 0.0}
            | {"dry_multiplier": 0.0, "dynatemp_range": 0.0, "mirostat": 0, "top_n_sigma": -1.0},
        ),
    ],
)
@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_every_request_states_every_sampling_value_that_the_server_knows(server, more, field):
    """21: servers' own sampling defaults change "temperature 1"; neutral values are sent, not left out."""
    _, body = asked(FINE, server=server, max_tokens_field=field)
    assert body == {"model": "m", "messages": list(HELLO), field: 1024, **NEUTRAL, **more}


@pytest.mark.parametrize("server", ["vllm", "llama.cpp"])
def test_values_that_are_not_neutral_arrive_under_the_servers_own_names(server):
    """21: what the key holds is what was used."""
    cell = Sampling(0.3, 99, 0.9, 40, 0.05, 0.1, 0.2, 1.1, ("\n\n",))
    _, body = asked(FINE, sampling=cell, server=server)
    sent = {"temperature": 0.3, "max_tokens": 99, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "presence_penalty": 0.1}
    sent |= {"frequency_penalty": 0.2, "stop": ["\n\n"]}
    sent["repeat_penalty" if server == "llama.cpp" else "repetition_penalty"] = 1.1
    assert {k: body[k] for k in sent} == sent


@pytest.mark.parametrize(("word", "reason"), [("abort", Reason.INTERRUPTED), ("error", Reason.SERVER_ERROR)])
def test_an_aborted_output_is_never_a_completion(word, reason):
    """20: vLLM returns aborted texts with HTTP 200; they are owed, and what else came is kept."""
    failed, _ = asked(completion(("Half an ans", word)))
    assert isinstance(failed, CallFailed)
    assert failed.reason is reason
    assert failed.reason.owed
    assert failed.maybe_billed
    reply, _ = asked(completion(("Half an ans", word), ("Hello!", "stop")), n=2)
    assert [(c.place, c.message["content"]) for c in reply.choices] == [(1, "Hello!")]


def test_a_truncated_output_says_so():
    """20: `length` reaches the gate as what it is."""
    reply, _ = asked(completion(("Hello, my na", "length")))
    assert reply.choices[0].finish_reason == "length"


def test_choices_are_counted_where_n_is_ignored():
    """23: one choice for n=4 is one choice, the tokens are its own, and three indices stay owed."""
    reply, body = asked(completion(("Hello!", "stop"), usage={"completion_tokens": 3}), n=4)
    assert body["n"] == 4
    assert [(c.place, c.n_tokens) for c in reply.choices] == [(0, 3)]


def test_more_choices_than_asked_for_are_not_kept():
    """23: an index that nobody asked for belongs to no completion."""
    reply, _ = asked(completion(("a", "stop"), ("b", "stop")), n=1)
    assert [c.message["content"] for c in reply.choices] == ["a"]


def test_tokens_of_several_choices_are_not_divided_by_guess():
    """23: usage is of all choices together."""
    reply, _ = asked(completion(("a", "stop"), ("b b b", "stop"), usage={"completion_tokens": 6}), n=2)
    assert [c.n_tokens for c in reply.choices] == [None, None]
    assert reply.usage.n_completion_tokens == 6


def test_a_schema_is_sent_in_the_field_that_servers_do_not_ignore():
    """24: `guided_json` and its like are ignored with HTTP 200."""
    schema = {"type": "object"}
    _, body = asked(FINE, schema=schema)
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert not any(name.startswith("guided") for name in body)


OBJECT = {
    "type": "object",
    "properties": {"score": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["score"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("text", "finish", "kept"),
    [
        ('{"score": 7}', "stop", "stop"),
        ('{"score": 7', "length", "length"),
        ("VERDICT: 7", "stop", "mismatch"),
        ('{"score": 10}', "stop", "mismatch"),
        ('{"score": "7"}', "stop", "mismatch"),
        ('{"score": true}', "stop", "mismatch"),
        ('{"score": 7, "by": "me"}', "stop", "mismatch"),
        ("{}", "stop", "mismatch"),
        ("", "stop", "mismatch"),
    ],
)
def test_a_reply_that_breaks_its_schema_is_no_answer_and_a_verdict_only_by_its_text(text, finish, kept):
    """24: a server that ignores the constraint answers with HTTP 200."""
    reply, _ = asked(completion((text, finish)), schema=OBJECT)
    (choice,) = reply.choices
    assert choice.finish_reason == kept
    assert (kept in NATURAL_STOPS) is (kept == "stop")
    if kept == "mismatch":
        score = read_score(choice, "123456789")
        assert score.value == 0.75 if text == "VERDICT: 7" else score.reason is Reason.UNPARSEABLE


def test_a_constraint_that_cannot_be_checked_is_not_sent():
    """24: what nobody looks at is no constraint."""
    with pytest.raises(ValueError, match="pattern cannot be checked"):
        asked(FINE, schema={"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}})


def test_control_tokens_of_the_embedded_model_are_reported():
    """28: inside a user's text they would be parsed as turns, so the sources must know them."""
    assert {"<|end|>", "<|user|>", "<|assistant|>"} <= set(resolve("embedded:tiny", {}).capabilities.control_tokens)


def test_a_lone_surrogate_is_replaced_and_marked_and_the_answer_kept():
    """29: the strict parser refuses a reply that was cut inside an emoji."""
    raw = rb'{"choices": [{"index": 0, "message": {"content": "Hi \ud83d"}, "finish_reason": "stop"},'
    raw += rb'{"index": 1, "message": {"content": "fine \ud83d\ude00"}, "finish_reason": "stop"}]}'
    reply, _ = asked(raw, n=2)
    hurt, fine = reply.choices
    assert (hurt.message["content"], hurt.damaged) == ("Hi \ufffd", True)
    assert (fine.message["content"], fine.damaged) == ("fine \U0001f600", False)


def test_bytes_that_are_no_utf8_are_replaced_and_marked():
    """29: the same cut, made in bytes."""
    raw = b'{"choices": [{"index": 0, "message": {"content": "Hi \xf0\x9f"}, "finish_reason": "stop"}]}'
    reply, _ = asked(raw)
    (choice,) = reply.choices
    assert choice.damaged
    assert choice.message["content"].startswith("Hi \ufffd")
    choice.message["content"].encode()
