"""The wire: what a request says, what a reply becomes, and what each failure is called."""

from __future__ import annotations

import asyncio
import json
import time

import pytest
from aiohttp import web

from prefsmith.backends import resolve
from prefsmith.endpoints import Endpoint, Limits
from prefsmith.errors import CallFailed
from prefsmith.reasons import Reason
from prefsmith.records import Request, Sampling

KEY = "sk-test-0123456789abcdef"


def refusing(status, body, **headers):
    async def answer(call):
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        if isinstance(body, str):
            return web.Response(status=status, text=body, headers=named)
        return web.json_response(body, status=status, headers=named)

    return answer


def error(message="no", **fields):
    return {"error": {"message": message, **fields}}


def test_the_reply_holds_text_usage_and_origin(ask, completion):
    async def answer(call):
        body = completion("Hello!", system_fingerprint="fp_1")
        body["usage"] |= {
            "prompt_tokens_details": {"cached_tokens": 3},
            "completion_tokens_details": {"reasoning_tokens": 2},
        }
        return web.json_response(body, headers={"x-request-id": "req_9"})

    reply = ask(answer).reply
    (choice,) = reply.choices
    assert choice.message == {"role": "assistant", "content": "Hello!"}
    assert (choice.place, choice.finish_reason, choice.damaged) == (0, "stop", False)
    # Seven tokens were paid for, two of them for thinking.
    assert choice.n_tokens == 5
    usage = reply.usage
    assert (usage.n_prompt_tokens, usage.n_cached_tokens) == (5, 3)
    assert (usage.n_completion_tokens, usage.n_reasoning_tokens) == (7, 2)
    assert (reply.model_reported, reply.fingerprint, reply.request_id) == ("served", "fp_1", "req_9")
    assert reply.http_status == 200


def test_a_silent_server_has_no_usage_rather_than_zero(ask, completion):
    body = completion("Hello!")
    del body["usage"]
    reply = ask(body).reply
    assert reply.usage.n_completion_tokens is None
    assert reply.choices[0].n_tokens is None


def test_the_key_is_sent_and_nothing_else_of_the_environment(ask, completion, monkeypatch):
    monkeypatch.setenv("FARM_KEY", KEY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-provider")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    heard = ask(completion("x"), key_env="FARM_KEY")
    assert heard.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert not [name for name in heard.headers[0] if name.lower().startswith("openai-")]
    assert "Authorization" not in ask(completion("x")).headers[0]


def test_tools_schema_and_calls_go_out_as_servers_want_them(ask, completion, request_):
    call = {"id": "call_0", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    messages = (
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "2", "tool_call_id": "call_0"},
    )
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    schema = {"type": "object", "properties": {"verdict": {"type": "string"}}}
    request = request_._replace(messages=messages, tools=(tool,), parallel_tool_calls=False, schema=schema)
    (body,) = ask(completion("2"), request).bodies
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == '{"a":1}'
    assert body["tools"] == [tool]
    assert body["parallel_tool_calls"] is False
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert call["function"]["arguments"] == {"a": 1}, "the prompt itself is not changed"


def test_tool_calls_come_back_as_objects_and_unreadable_arguments_stay_text(ask, completion):
    body = completion("x")
    body["choices"][0] |= {"finish_reason": "tool_calls"}
    calls = [
        {"id": "chatcmpl-9x", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
        {"id": "chatcmpl-8y", "type": "function", "function": {"name": "add", "arguments": '{"a": '}},
    ]
    body["choices"][0]["message"] = {"role": "assistant", "content": None, "tool_calls": calls}
    (choice,) = ask(body).reply.choices
    assert choice.message["content"] is None
    assert [c["function"]["arguments"] for c in choice.message["tool_calls"]] == [{"a": 1}, '{"a": ']
    # Ids drawn by the server would make two equal answers differ.
    assert [c["id"] for c in choice.message["tool_calls"]] == ["call_0", "call_1"]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_reasoning_is_kept_apart_from_the_answer(ask, completion, field):
    body = completion("4")
    body["choices"][0]["message"][field] = "2+2 is 4"
    (choice,) = ask(body).reply.choices
    assert (choice.message["content"], choice.reasoning) == ("4", "2+2 is 4")


def test_a_refusal_stands_in_the_message(ask, completion):
    body = completion("x")
    body["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "I will not."}
    (choice,) = ask(body).reply.choices
    assert choice.message == {"role": "assistant", "content": "", "refusal": "I will not."}


def test_choices_out_of_order_are_put_in_order(ask, completion, request_):
    body = completion("a", "b", "c")
    body["choices"].reverse()
    reply = ask(body, request_._replace(n=3)).reply
    assert [(c.place, c.message["content"]) for c in reply.choices] == [(0, "a"), (1, "b"), (2, "c")]
    assert [c.n_tokens for c in reply.choices] == [None] * 3, "nobody said how the seven tokens divide"


def test_choices_that_all_claim_index_zero_are_told_apart_by_place(ask, completion, request_):
    body = completion("a", "b")
    body["choices"][1]["index"] = 0
    reply = ask(body, request_._replace(n=2)).reply
    assert [(c.place, c.message["content"]) for c in reply.choices] == [(0, "a"), (1, "b")]


def test_a_choice_without_a_finish_reason_is_no_natural_stop(ask, completion, request_):
    body = completion("a", "")
    for choice in body["choices"]:
        choice["finish_reason"] = None
    reply = ask(body, request_._replace(n=2)).reply
    assert [(c.place, c.finish_reason) for c in reply.choices] == [(0, "unknown")]


FAILURES = [
    (429, error("slow down"), {"retry_after": "7"}, Reason.RATE_LIMITED, {"retry_after_s": 7.0}),
    (429, error(), {"retry_after_ms": "250", "retry_after": "9"}, Reason.RATE_LIMITED, {"retry_after_s": 0.25}),
    (429, error(), {}, Reason.RATE_LIMITED, {"retry_after_s": None}),
    (429, error(), {"retry_after": "soon"}, Reason.RATE_LIMITED, {"retry_after_s": None}),
    (429, error(code="insufficient_quota"), {"retry_after": "7"}, Reason.QUOTA, {"stops": True, "retry_after_s": None}),
    (403, error(type="insufficient_quota"), {}, Reason.QUOTA, {"stops": True}),
    (402, error("pay"), {}, Reason.QUOTA, {"stops": True}),
    (401, error("bad key"), {}, Reason.AUTH, {"stops": True}),
    (403, error("not for you"), {}, Reason.AUTH, {"stops": True}),
    (404, error("no such model", code="model_not_found"), {}, Reason.BAD_REQUEST, {"stops": True}),
    (404, "<html>nothing here</html>", {}, Reason.BAD_REQUEST, {"stops": True}),
    (400, error(code="context_length_exceeded"), {}, Reason.CONTEXT_TOO_LONG, {}),
    (400, error("request (802 tokens)", type="exceed_context_size_error"), {}, Reason.CONTEXT_TOO_LONG, {}),
    (400, error("This model's maximum context length is 8192 tokens."), {}, Reason.CONTEXT_TOO_LONG, {}),
    (400, {"message": "maximum model length", "code": 400}, {}, Reason.CONTEXT_TOO_LONG, {}),
    (400, error(code="content_filter"), {}, Reason.CONTENT_FILTER, {}),
    (400, error("unknown parameter"), {}, Reason.BAD_REQUEST, {}),
    (422, {"detail": "n must be positive"}, {}, Reason.BAD_REQUEST, {}),
    (408, error(), {}, Reason.SERVER_ERROR, {}),
    (409, error(), {}, Reason.SERVER_ERROR, {}),
    (500, error(), {}, Reason.SERVER_ERROR, {}),
    (503, "upstream is gone", {}, Reason.SERVER_ERROR, {}),
    (503, error("busy"), {"retry_after": "3"}, Reason.SERVER_ERROR, {"retry_after_s": 3.0}),
    (307, "elsewhere", {"location": "http://127.0.0.1:9/"}, Reason.BAD_REQUEST, {"stops": True}),
    (529, error("overloaded"), {}, Reason.SERVER_ERROR, {}),
]


@pytest.mark.parametrize("fast", [True, False], ids=["lane-b", "lane-a"])
@pytest.mark.parametrize(("status", "body", "headers", "reason", "expected"), FAILURES)
def test_each_status_becomes_its_reason(ask, status, body, headers, reason, expected, fast):
    heard = ask(refusing(status, body, x_request_id="req_1", **headers), fast=fast)
    failed = heard.failed
    assert failed.reason is reason
    assert failed.stops_endpoint is expected.get("stops", False)
    assert failed.retry_after_s == expected.get("retry_after_s")
    assert (failed.http_status, failed.request_id, failed.maybe_billed) == (status, "req_1", False)
    assert len(heard.bodies) == 1, "the backend itself never asks twice"


def test_retry_after_may_be_a_date(ask):
    soon = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    assert 20 < ask(refusing(429, error(), Retry_After=soon)).failed.retry_after_s <= 30


def test_a_missing_model_is_told_with_the_models_that_are_there(ask):
    names = {"data": [{"id": name} for name in ("other", "some-modle", *(f"m{i}" for i in range(40)))]}
    heard = ask(refusing(404, error("gone")), models=names)
    assert "has no model 'some-model'; did you mean 'some-modle'?" in heard.failed.detail
    assert "34 more" in heard.failed.detail
    assert heard.paths.count("/v1/models") == 1


def test_a_404_of_a_url_that_lists_nothing_doubts_the_url(ask):
    heard = ask(refusing(404, error("gone")))
    assert "lists no models (is the URL right?)" in heard.failed.detail
    assert "some-model" in heard.failed.detail


def test_a_key_that_is_refused_is_named_by_its_variable(ask, monkeypatch):
    monkeypatch.setenv("FARM_KEY", KEY)
    for status, told in ((401, "the key in FARM_KEY"), (403, "the key in FARM_KEY"), (402, "the quota of FARM_KEY")):
        assert told in ask(refusing(status, error("no")), key_env="FARM_KEY").failed.detail


@pytest.mark.parametrize(
    ("body", "billed"),
    [
        ({"error": {"message": "upstream failed", "code": 502}}, False),
        (b'{"choices": [{"index"', True),
        ({"object": "chat.completion", "choices": []}, True),
        ({"choices": None}, True),
        ({"choices": [{"message": {"content": 7}}]}, True),
        (b"[1, 2]", True),
    ],
)
def test_a_200_without_a_completion_is_a_server_error(ask, body, billed):
    failed = ask(body).failed
    assert (failed.reason, failed.maybe_billed) == (Reason.SERVER_ERROR, billed)


def test_a_page_instead_of_json_says_what_came(ask):
    async def page(call):
        return web.Response(text="<html>Log in</html>", content_type="text/html")

    failed = ask(page).failed
    assert (failed.reason, failed.maybe_billed) == (Reason.SERVER_ERROR, False)
    assert "text/html" in failed.detail


def test_a_key_never_stands_in_a_detail(ask, monkeypatch):
    monkeypatch.setenv("FARM_KEY", KEY)

    async def echo(call):
        heard = f"{'x' * 250} wrong key {KEY} in {call.headers['Authorization']} and Bearer abc.def"
        return web.json_response(error(heard), status=int(call.headers.get("status", 401)))

    for answer in (echo, error(f"key {KEY}"), f"not json {KEY}".encode()):
        failed = ask(answer, key_env="FARM_KEY").failed
        assert KEY[:12] not in failed.detail + str(failed)
        assert "abc.def" not in failed.detail
    assert "FARM_KEY" in ask(echo, key_env="FARM_KEY").failed.detail, "which variable to look at"


def test_nobody_listening_is_a_connection_failure(request_):
    async def main():
        backend = resolve("farm:m", {"farm": Endpoint(urls=["http://127.0.0.1:9/v1"])}).make()[0].backend
        await backend.open((), 0)
        with pytest.raises(CallFailed) as raised:
            await backend.send(request_)
        await backend.close()
        return raised.value

    failed = asyncio.run(main())
    assert (failed.reason, failed.maybe_billed) == (Reason.CONNECTION, False)


def test_a_reply_that_does_not_come_in_time_may_be_billed(ask):
    async def sleep(call):
        await asyncio.sleep(5)
        return web.json_response({})

    failed = ask(sleep, timeout_s=0.2).failed
    assert (failed.reason, failed.maybe_billed) == (Reason.TIMEOUT, True)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{"choices": [',
    ],
)
def test_a_connection_cut_before_the_end_may_be_billed(cut_connection, request_, raw):
    async def main():
        server, url = await cut_connection(raw)
        async with server:
            backend = resolve("farm:m", {"farm": Endpoint(urls=[url])}).make()[0].backend
            await backend.open((), 0)
            with pytest.raises(CallFailed) as raised:
                await backend.send(request_)
            await backend.close()
        return raised.value

    failed = asyncio.run(main())
    assert (failed.reason, failed.maybe_billed) == (Reason.CONNECTION, True)


def test_a_value_that_the_server_would_ignore_is_not_sent(ask, completion, request_):
    heard = ask(completion("x"), request_._replace(sampling=Sampling(top_k=5)))
    assert heard.failed.reason is Reason.BAD_REQUEST
    assert heard.failed.stops_endpoint, "the recipe is wrong, not the prompt: the work stays owed"
    assert heard.bodies == []


def test_a_classify_request_is_refused(ask, completion, request_):
    assert ask(completion("x"), request_._replace(kind="classify")).failed.reason is Reason.BAD_REQUEST


def test_many_requests_share_few_connections(completion, request_):
    async def main():
        peers, in_flight, peak = set(), 0, 0

        async def handle(call):
            nonlocal in_flight, peak
            peers.add(call.transport.get_extra_info("peername"))
            in_flight += 1
            peak = max(peak, in_flight)
            await asyncio.sleep(0.01)
            in_flight -= 1
            body = json.loads(await call.read())
            return web.json_response(completion(str(body["seed"])))

        from aiohttp.test_utils import TestServer

        app = web.Application()
        app.router.add_post("/v1/chat/completions", handle)
        async with TestServer(app) as server:
            endpoint = Endpoint(urls=[str(server.make_url("/v1"))], limits=Limits(concurrency=40))
            backend = resolve("farm:m", {"farm": endpoint}).make()[0].backend
            await backend.open((), 0)
            seeds = iter(range(120))

            async def work():
                for seed in seeds:
                    reply = await backend.send(request_._replace(seed=seed))
                    assert reply.choices[0].message["content"] == str(seed)

            await asyncio.gather(*(work() for _ in range(40)))
            await backend.close()
        return len(peers), peak

    n_connections, peak = asyncio.run(main())
    assert peak > 20, "requests are in flight together"
    assert n_connections <= 48


def test_a_request_that_is_no_utf8_is_a_bad_request(ask, completion):
    request = Request("m", ({"role": "user", "content": "half \ud83d"},), Sampling())
    heard = ask(completion("x"), request)
    assert heard.failed is None or heard.failed.reason is Reason.BAD_REQUEST
