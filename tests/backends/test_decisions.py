"""The decisions route against a stub whose replies go through the SDK's own types, and what stands in for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from openai.types.decision import Decision
from openai.types.decision_create_params import DecisionCreateParams
from pydantic import TypeAdapter

from prefsmith.judging.load import load_judge
from prefsmith.outcomes import Choice, Score
from prefsmith.reasons import Reason
from prefsmith.records import Item, Prompt

Ask = Callable[..., Any]
ITEM = Item(Prompt(({"role": "user", "content": "Hello"},)), columns={"question": "Is it kind?"})
HAS = {"can": {"decisions": True}}


def judge(name: str) -> Any:
    return replace(load_judge(name, ("t", "m"), "m", []), decides=True, structured=True, logprobs=True)


RUBRIC, PAIRWISE, CHECK = judge("quick-help"), judge("pairwise-help"), judge("checklist-help")


def decision(answer: dict[str, Any]) -> dict[str, Any]:
    usage = {
        "input_tokens": 40,
        "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 32},
        "output_tokens": 1,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 41,
    }
    # What the SDK would not take is no reply of that route.
    return Decision.model_validate({"answers": [answer], "model": "m", "usage": usage}).model_dump(mode="json")


def score(**chances: float) -> dict[str, Any]:
    levels = [{"label": label[1:], "probability": p, "value": int(label[1:]) - 1} for label, p in chances.items()]
    return {"type": "score", "score": 0.0, "confidence": 0.5, "probabilities": levels}


def choice(**chances: float) -> dict[str, Any]:
    options = [{"value": value, "probability": p} for value, p in chances.items()]
    return {
        "type": "choice",
        "choice": max(chances, key=lambda v: chances[v]),
        "confidence": 1.0,
        "probabilities": options,
    }


@pytest.mark.parametrize("fast", [True, False])
def test_a_rubric_asks_for_a_score_over_its_nine_levels(ask: Ask, fast: bool) -> None:
    chances = {f"_{i}": 0.0 for i in range(1, 10)} | {"_7": 0.6, "_8": 0.4}
    heard = ask(decision(score(**chances)), RUBRIC.ask(ITEM, ["Hi"], 1), fast=fast, **HAS)
    found = RUBRIC.read(heard.reply.choices[0])
    assert found.value == pytest.approx((7.4 - 1) / 8) and found.p == pytest.approx(0.6)
    assert heard.paths == ["/v1/decisions"] and heard.reply.usage.n_cached_tokens == 32
    (body,) = heard.bodies
    TypeAdapter(DecisionCreateParams).validate_python(body)
    (question,) = body["questions"]
    assert [level["label"] for level in question["levels"]] == list("123456789")
    assert "BEGIN ANSWER" in body["input"][0]["content"] and body.keys() == {"model", "input", "questions"}


def test_a_pairwise_judge_chooses_among_its_words(ask: Ask) -> None:
    heard = ask(decision(choice(A=0.2, B=0.7, TIE=0.1)), PAIRWISE.ask(ITEM, ["x", "y"], 1), **HAS)
    assert PAIRWISE.read(heard.reply.choices[0]) == Choice(1, p=pytest.approx(0.25))
    assert [one["value"] for one in heard.bodies[0]["questions"][0]["choices"]] == ["A", "B", "TIE"]


def test_a_checklist_asks_for_a_predicate(ask: Ask) -> None:
    heard = ask(decision({"type": "predicate", "probability": 0.9}), CHECK.ask(ITEM, ["x"], 1), **HAS)
    assert CHECK.read(heard.reply.choices[0]).value == pytest.approx(0.9)
    TypeAdapter(DecisionCreateParams).validate_python(heard.bodies[0])


def test_a_refusal_to_decide_is_no_verdict(ask: Ask) -> None:
    heard = ask(decision({"type": "refusal"}), RUBRIC.ask(ITEM, ["x"], 1), **HAS)
    assert RUBRIC.read(heard.reply.choices[0]) == Score(reason=Reason.REFUSED)


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": []},
        {"answers": []},
        decision(choice(A=1.0)),
        {"answers": [{"type": "predicate", "probability": 2.0}]},
    ],
)
def test_what_is_no_decision_over_the_labels_stops_the_endpoint(ask: Ask, answer: Any) -> None:
    failed = ask(answer, RUBRIC.ask(ITEM, ["x"], 1), **HAS).failed
    assert failed.stops_endpoint and failed.reason is Reason.BAD_REQUEST


def chat(text: str, logprobs: Any = None) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": logprobs}], "model": "m"}


def test_without_the_route_the_tokens_of_a_line_are_asked_for(ask: Ask) -> None:
    top = [{"token": " 7", "logprob": -0.6931471805599453}, {"token": " 9", "logprob": -0.6931471805599453}]
    tokens = [{"token": "VERDICT:", "logprob": 0.0}, {**top[0], "top_logprobs": top}]
    heard = ask(chat("VERDICT: 7", {"content": tokens}), RUBRIC.ask(ITEM, ["x"], 1))
    (body,) = heard.bodies
    assert heard.paths == ["/v1/chat/completions"] and (body["logprobs"], body["top_logprobs"]) == (True, 20)
    assert "response_format" not in body
    assert RUBRIC.read(heard.reply.choices[0]).value == pytest.approx(7 / 8)


def test_without_either_the_reply_is_bound_to_a_schema(ask: Ask) -> None:
    text = '{"reasons": "", "verdict": "7"}'
    heard = ask(chat(text), RUBRIC.ask(ITEM, ["x"], 1), can={"logprobs": False})
    (body,) = heard.bodies
    assert "logprobs" not in body and body["response_format"]["type"] == "json_schema"
    assert RUBRIC.read(heard.reply.choices[0]).value == 0.75


def test_what_a_server_can_do_is_in_no_key() -> None:
    assert RUBRIC.described()["decisions"] is True
    assert load_judge("quick-help", ("t", "m"), "m", []).described().keys().isdisjoint({"decisions", "schema"})
