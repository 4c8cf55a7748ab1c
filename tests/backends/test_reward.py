"""Reward models over HTTP: raw numbers, proven to be raw, and nothing that only looks like one."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from aiohttp import web

from prefsmith.backends.reward import url_of
from prefsmith.judging.load import AskedModel, load_any
from prefsmith.judging.reward import RewardJudge
from prefsmith.outcomes import Score
from prefsmith.reasons import Reason
from prefsmith.records import Item, Prompt, Request

JUDGE = load_any("reward", AskedModel("farm", "rm", "rm"), [])
ITEM = Item(Prompt(({"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"})))
REQUEST = JUDGE.ask(ITEM, ["Hi <|im_end|> there"], 7)
Ask = Callable[..., Any]


def classified(probs: list[float | None]) -> dict[str, Any]:
    data = [{"index": 0, "label": "LABEL_0", "probs": probs, "num_classes": len(probs)}]
    return {"object": "list", "model": "rm", "data": data, "usage": {"prompt_tokens": 12, "total_tokens": 12}}


def server(raw: float, squeeze: bool = False) -> Any:
    """As vLLM: a sigmoid unless it is told not to; `squeeze`: it does not know that word."""

    async def answer(call: web.Request) -> web.StreamResponse:
        activated = squeeze or (await call.json())["use_activation"]
        return web.json_response(classified([1 / (1 + math.exp(-raw)) if activated else raw]))

    return answer


@pytest.mark.parametrize("fast", [True, False])
def test_the_conversation_is_sent_with_its_answer_and_the_number_comes_back_raw(ask: Ask, fast: bool) -> None:
    """25: a sigmoid over the reward saturates margins."""
    heard = ask(server(7.25), REQUEST, fast=fast)
    assert heard.reply.choices[0].value == 7.25 and heard.reply.usage.n_prompt_tokens == 12
    assert JUDGE.read(heard.reply.choices[0]) == Score(7.25)
    assert heard.paths == ["/classify", "/classify"]
    first, second = heard.bodies
    assert first["use_activation"] is False and second == {**first, "use_activation": True}
    roles = [message["role"] for message in first["messages"]]
    assert roles == ["system", "user", "assistant"] and first["messages"][-1]["content"] == "Hi <| im_end|> there"
    assert REQUEST.n_control_tokens == 1


def test_a_server_that_ignores_use_activation_is_told_and_no_score_is_kept(ask: Ask) -> None:
    """24 and 25: HTTP 200 for a field that nobody knows."""
    heard = ask(server(2.0, squeeze=True), REQUEST)
    assert heard.failed.stops_endpoint and "use_activation" in heard.failed.detail


def test_a_model_whose_own_activation_is_none_is_taken(ask: Ask) -> None:
    async def plain(call: web.Request) -> web.StreamResponse:
        return web.json_response(classified([-3.5]))

    assert ask(plain, REQUEST).reply.choices[0].value == -3.5


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (classified([0.2, 0.8]), "2 outputs"),
        ({"object": "list", "data": []}, "0 results"),
        ({"choices": []}, "/classify"),
        (b"[]", "/classify"),
    ],
)
def test_what_is_no_reward_stops_the_endpoint_with_its_reason(ask: Ask, answer: Any, said: str) -> None:
    failed = ask(answer, REQUEST).failed
    assert failed.reason is Reason.BAD_REQUEST and failed.stops_endpoint and said in failed.detail


def test_a_reward_that_is_no_number_is_no_score(ask: Ask) -> None:
    reply = ask(json.dumps(classified([None])).encode(), REQUEST).reply
    score = JUDGE.read(reply.choices[0])
    assert isinstance(score, Score) and score.reason is Reason.GRADER_ERROR and score.value is None


def test_the_route_lies_beside_v1() -> None:
    assert url_of("http://gpu:8000/v1") == "http://gpu:8000/classify"
    assert url_of("https://host/proxy/v1/") == "https://host/proxy/classify"
    assert url_of("http://gpu:8000") == "http://gpu:8000/classify"


def test_the_key_of_a_reward_model_is_its_model() -> None:
    other = load_any("reward", AskedModel("farm", "other", "rm"), [])
    assert isinstance(JUDGE, RewardJudge) and JUDGE.described() != other.described()
    assert JUDGE.scale == "logit"
    assert isinstance(REQUEST, Request) and JUDGE.ask(ITEM, ["Hi <|im_end|> there"], 8) == REQUEST
