"""Thoughts apart from answers, and the sums of log-probabilities."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefsmith.backends.replies import apart


def logprobs(*values):
    return {"logprobs": {"content": [{"token": "t", "logprob": v, "top_logprobs": []} for v in values]}}


def test_a_thought_at_the_start_is_no_part_of_the_answer(ask, completion):
    (choice,) = ask(completion("<think>\n2+2…\n</think>\n\nIt is 4.")).reply.choices
    assert (choice.message["content"], choice.reasoning) == ("It is 4.", "2+2…")
    assert choice.n_tokens is None, "the seven tokens are of both"


def test_a_thought_that_never_ends_leaves_no_answer(ask, completion):
    body = completion("<think>Let me see: 2 and")
    body["choices"][0]["finish_reason"] = "length"
    (choice,) = ask(body).reply.choices
    assert (choice.message["content"], choice.reasoning) == ("", "Let me see: 2 and")


def test_a_thought_that_the_template_opened_is_found_where_that_is_declared(ask, completion):
    body = completion("2+2…</think>4")
    (choice,) = ask(body, can={"reasoning": "think"}).reply.choices
    assert (choice.message["content"], choice.reasoning) == ("4", "2+2…")
    (choice,) = ask(body).reply.choices
    assert (choice.message["content"], choice.reasoning) == ("2+2…</think>4", None), "an answer may speak of tags"


def test_tags_inside_an_answer_stay():
    assert apart("Use <think> and </think>.", False) == (None, "Use <think> and </think>.")
    assert apart(None, True) == (None, None)


@given(st.text(), st.text())
def test_what_is_apart_is_all_there(thought, answer):
    thought = thought.replace("</think>", "")
    found, text = apart(f"<think>{thought}</think>{answer}", False)
    assert (found, text) == (thought.strip().removeprefix("<think>").strip(), answer.lstrip())


def test_the_sum_is_over_the_tokens_of_its_own_choice(ask, completion, request_):
    body = completion("a", "b")
    body["choices"][0] |= logprobs(-0.5, -0.25)
    body["choices"][1] |= logprobs(-1.0)
    heard = ask(body, request_._replace(n=2, logprobs=True))
    assert [c.logprob_sum for c in heard.reply.choices] == [-0.75, -1.0]
    assert heard.bodies[0]["logprobs"] is True


@pytest.mark.parametrize("more", [{}, {"logprobs": None}, {"logprobs": {"content": []}}, logprobs(-0.5, None)])
def test_a_sum_that_the_server_did_not_say_is_none(ask, completion, request_, more):
    body = completion("a")
    body["choices"][0] |= more
    assert ask(body, request_._replace(logprobs=True)).reply.choices[0].logprob_sum is None


def test_thoughts_and_answer_together_have_no_sum(ask, completion, request_):
    body = completion("<think>x</think>4")
    body["choices"][0] |= logprobs(-0.5, -0.25)
    assert ask(body, request_._replace(logprobs=True)).reply.choices[0].logprob_sum is None


def test_log_probabilities_are_asked_for_only_when_wanted_and_there(ask, completion, request_):
    assert "logprobs" not in ask(completion("a")).bodies[0]
    wanted = request_._replace(logprobs=True)
    assert "logprobs" not in ask(completion("a"), wanted, can={"logprobs": False}).bodies[0]
