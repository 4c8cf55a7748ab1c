"""What is found out about a model by asking it, whatever its name."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from prefsmith.backends.can import Can
from prefsmith.backends.declared import servers
from prefsmith.backends.wire import sampling_fields
from prefsmith.endpoints import Endpoint
from prefsmith.errors import CallFailed
from prefsmith.reasons import Reason
from prefsmith.records import Request, Sampling

HELLO = ({"role": "user", "content": "Say hello."},)
EVERYTHING = Can(ignores_unknown=True)


class Model:
    """A server with a model behind it, as far as the parameters go."""

    def __init__(self, *, refuses=(), ignores=(), only=(), thinks=None, nameless=False, verbose=False):
        self.refuses, self.ignores, self.only, self.thinks = refuses, ignores, only, thinks
        self.nameless, self.verbose = nameless, verbose
        self.bodies, self.n_answered = [], 0

    async def answer(self, call):
        body = await call.json()
        self.bodies.append(body)
        for name in (*self.refuses, *(n for n in self.only if body.get(n, 1) != 1)):
            if name in body:
                told = "Bad request" if self.nameless else f"Unsupported parameter: '{name}' is not for this model."
                error = {"message": told, "type": "invalid_request_error", "param": None if self.nameless else name}
                return web.json_response({"error": error}, status=400)
        self.n_answered += 1
        return web.json_response(self.completion(body))

    def completion(self, body):
        takes = {k: v for k, v in body.items() if k not in self.ignores}
        draws = random.Random(takes.get("seed"))
        cap = takes.get("max_tokens", takes.get("max_completion_tokens", 64))
        choices = []
        for i in range(takes.get("n", 1)):
            text = " ".join(str(draws.randrange(1000)) for _ in range(cap))
            message = {"role": "assistant", "content": text}
            if self.thinks == "think":
                message["content"] = f"<think>{text}"
            elif self.thinks:
                message[self.thinks] = "hm"
            choice = {"index": i, "message": message, "finish_reason": "length"}
            if takes.get("logprobs"):
                choice["logprobs"] = {"content": [{"token": "x", "logprob": -1.0}] * cap}
            choices.append(choice)
        return {"choices": choices, "usage": {"completion_tokens": cap * len(choices)}}


def probing(model, then=None, **options):
    """What probing this model finds; `then`: a request to send with what was found."""

    async def main():
        app = web.Application()
        app.router.add_post("/v1/chat/completions", model.answer)
        async with TestServer(app) as server:
            endpoint = Endpoint(urls=[str(server.make_url("/v1"))], **options)
            backend = servers("farm", "farm", endpoint).members[0][0]()
            await backend.open((), 0)
            try:
                can, _ = await backend.probe("any-name")
                if then is not None:
                    backend.adopt(can)
                    model.bodies.clear()
                    return can, await backend.send(then), backend.capabilities()
                return can
            finally:
                await backend.close()

    return asyncio.run(main())


def test_a_model_that_can_do_everything_is_asked_twice():
    model = Model()
    assert probing(model) == EVERYTHING
    assert len(model.bodies) == 2
    assert all(body["max_tokens"] == 16 and body["temperature"] == 0.7 for body in model.bodies)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("n", {"n": False, "refused": ("n",)}),
        ("seed", {"seed": False, "refused": ("seed",)}),
        ("logprobs", {"logprobs": False, "refused": ("logprobs",)}),
        ("temperature", {"temperature": False, "refused": ("temperature",)}),
        ("top_p", {"refused": ("top_p",)}),
        ("max_tokens", {"max_tokens_field": "max_completion_tokens"}),
        ("prefsmith_unknown_field", {"ignores_unknown": False}),
    ],
)
def test_what_is_refused_is_left_out_and_costs_nothing(name, found):
    model = Model(refuses=(name,))
    expected = {f: getattr(EVERYTHING, f) for f in Can.__slots__} | found
    assert probing(model) == Can(**expected)
    assert model.n_answered <= 2


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"ignores": ("n",)}, {"n": False}),
        ({"ignores": ("seed",)}, {"seed": False}),
        ({"ignores": ("logprobs",)}, {"logprobs": False}),
        ({"only": ("temperature",)}, {"temperature": False, "refused": ("temperature",)}),
        ({"ignores": ("max_tokens",)}, {"max_tokens_field": "max_completion_tokens"}),
        ({"thinks": "reasoning_content"}, {"reasoning": "reasoning_content"}),
        ({"thinks": "reasoning"}, {"reasoning": "reasoning"}),
        ({"thinks": "think"}, {"reasoning": "think"}),
    ],
)
def test_what_is_ignored_is_seen_in_the_reply(options, found):
    model = Model(**options)
    expected = {f: getattr(EVERYTHING, f) for f in Can.__slots__} | found
    assert probing(model) == Can(**expected)
    assert model.n_answered == 2


def test_a_strict_reasoning_model_is_told_apart_by_its_refusals():
    """As OpenAI's refuse: one parameter an answer, each by its name."""
    model = Model(
        refuses=("prefsmith_unknown_field", "max_tokens", "top_p", "presence_penalty", "frequency_penalty", "logprobs"),
        only=("temperature",),
    )
    can = probing(model)
    assert can.max_tokens_field == "max_completion_tokens"
    assert set(can.refused) == {"temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs"}
    assert (can.n, can.seed, can.temperature) == (True, True, False)


def test_a_refusal_that_names_nothing_gives_up_one_thing_after_another():
    can = probing(Model(refuses=("n",), nameless=True))
    assert not can.n
    assert can.seed and can.temperature


def test_a_model_that_refuses_everything_is_a_failure():
    with pytest.raises(CallFailed) as raised:
        probing(Model(refuses=("messages",)))
    assert raised.value.reason is Reason.BAD_REQUEST


def test_what_is_declared_is_not_asked():
    everything = {"n": False, "temperature": True, "logprobs": True, "seed": False, "reasoning": "none"}
    model = Model()
    can = probing(model, can=everything, max_tokens_field="max_tokens")
    assert model.bodies == []
    assert (can.n, can.seed, can.refused, can.reasoning) == (False, False, ("seed",), None)
    part = Model(ignores=("n",))
    can = probing(part, can={"n": True, "seed": False})
    assert can.n, "what is declared counts"
    assert all("seed" not in body for body in part.bodies)
    assert len(part.bodies) == 1, "nothing to compare"


def test_requests_take_the_shape_of_what_was_found():
    model = Model(refuses=("seed", "n", "max_tokens", "top_p"), ignores=("logprobs",))
    request = Request("any-name", HELLO, Sampling(), 4, 11, logprobs=True)
    _, reply, capabilities = probing(model, request)
    (body,) = model.bodies
    assert body.keys() == {
        "model", "messages", "temperature", "presence_penalty", "frequency_penalty", "max_completion_tokens",
    }  # fmt: skip
    assert len(reply.choices) == 1
    assert capabilities.n_per_request == 1


def test_a_value_that_the_model_would_refuse_is_not_sent_in_another_shape():
    """Leaving it out would sample at another temperature than the key says."""
    with pytest.raises(CallFailed, match=r"does not know temperature; leave it at 1\.0") as raised:
        sampling_fields(Sampling(temperature=0.3), "openai", Can(temperature=False))
    assert raised.value.stops_endpoint
    with pytest.raises(CallFailed, match="does not know top_p"):
        sampling_fields(Sampling(top_p=0.5), "openai", Can(refused=("top_p",)))
    assert "temperature" not in sampling_fields(Sampling(temperature=1.0), "openai", Can(temperature=False))


@given(
    st.builds(
        Can, st.booleans(), st.booleans(), st.booleans(), st.booleans(),
        st.sampled_from(["max_tokens", "max_completion_tokens"]), st.none() | st.sampled_from(["think", "reasoning"]),
        st.lists(st.sampled_from(["seed", "n", "top_p"]), unique=True).map(tuple), st.none() | st.booleans(),
    )
)  # fmt: skip
def test_what_was_found_survives_the_ledger(can):
    assert Can.from_json(json.loads(json.dumps(can.to_json()))) == can
    assert Can.from_json({"n": False, "from_a_later_version": 1}) == Can(n=False)
