"""The options of an endpoint, as a server hears them."""

from __future__ import annotations

from datetime import date

import pytest
from pydantic import ValidationError

from prefsmith.backends import resolve
from prefsmith.endpoints import Endpoint
from prefsmith.errors import UsageError
from prefsmith.reasons import Reason

KEY = "sk-test-0123456789abcdef"
LANES = pytest.mark.parametrize("fast", [True, False], ids=["lane-b", "lane-a"])


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("FARM_KEY", KEY)
    monkeypatch.setenv("OTHER_KEY", "sk-other")


def members(**options):
    return [m.backend for m in resolve("farm:m", {"farm": Endpoint(**options)}).make()]


@LANES
def test_both_lanes_send_the_same_request(ask, completion, fast):
    heard = ask(completion("x"), fast=fast, key_env="FARM_KEY", organization="org-1", project="proj-1")
    (headers,) = heard.headers
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert (headers["OpenAI-Organization"], headers["OpenAI-Project"]) == ("org-1", "proj-1")
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("AsyncOpenAI/")
    assert heard.paths == ["/v1/chat/completions"]
    assert heard.bodies[0]["messages"] == [{"role": "user", "content": "Say hello."}]


@LANES
def test_headers_are_sent_and_those_from_variables_never_told(ask, completion, monkeypatch, fast):
    monkeypatch.setenv("GATE_TOKEN", "gate-secret-77")
    options = {"headers": {"X-Team": "data", "X-Gate-Token": "env:GATE_TOKEN"}, "fast": fast}
    heard = ask(completion("x"), **options)
    assert (heard.headers[0]["X-Team"], heard.headers[0]["X-Gate-Token"]) == ("data", "gate-secret-77")
    failed = ask(b'{"error": {"message": "gate-secret-77 is wrong"}}', **options).failed
    assert "gate-secret-77" not in str(failed)


def test_the_environments_own_headers_are_not_for_just_any_server(ask, completion, monkeypatch):
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Internal: secret\nX-Team: openai")
    (headers,) = ask(completion("x"), headers={"X-Team": "data"}).headers
    assert "X-Internal" not in headers
    assert headers["X-Team"] == "data"


def test_an_authorization_from_a_variable_takes_the_place_of_the_key(ask, completion, monkeypatch):
    monkeypatch.setenv("BASIC", "Basic dXNlcjpw")
    assert ask(completion("x"), headers={"Authorization": "env:BASIC"}).headers[0]["Authorization"] == "Basic dXNlcjpw"


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Bearer abc"}, {"api-key": "abc"}, {"X-Auth-Token": "abc"}, {"X-Thing": f"{KEY}"}],
)
def test_a_secret_in_clear_is_refused(headers):
    with pytest.raises(ValidationError, match="looks like a secret") as raised:
        Endpoint(urls=["http://h/v1"], headers=headers)
    assert "env:VARIABLE" in str(raised.value)


@pytest.mark.parametrize("fast", [True, False])
def test_azure_has_the_deployment_in_its_url_and_the_key_in_its_own_header(ask, completion, fast):
    heard = ask(completion("x"), fast=fast, key_env="FARM_KEY", azure={"api_version": "2024-10-21"})
    assert heard.paths == ["/openai/deployments/some-model/chat/completions"]
    assert heard.headers[0]["api-key"] == KEY
    assert "Authorization" not in heard.headers[0]
    named = ask(completion("x"), fast=fast, key_env="FARM_KEY", azure={"api_version": "v", "deployment": "mine"})
    assert named.paths == ["/openai/deployments/mine/chat/completions"]


def test_azure_says_its_version_which_yaml_takes_for_a_date(ask, completion):
    queries = []

    async def answer(call):
        from aiohttp import web

        queries.append(dict(call.query))
        return web.json_response(completion("x"))

    ask(answer, key_env="FARM_KEY", azure={"api_version": date(2024, 10, 21)})
    assert queries == [{"api-version": "2024-10-21"}]


def test_a_command_of_azure_makes_a_token_of_entra(ask, completion):
    heard = ask(completion("x"), key_command=["echo", "entra-token"], azure={"api_version": "v"})
    assert heard.headers[0]["Authorization"] == "Bearer entra-token"
    assert "api-key" not in heard.headers[0]


# -- pools


def test_each_url_and_each_key_is_a_member_with_a_label_and_no_secret():
    two_urls = members(urls=["http://a/v1", "http://b/v1"], key_env="FARM_KEY")
    assert [b.endpoint for b in two_urls] == ["farm/0", "farm/1"]
    assert [b.facts()["url"] for b in two_urls] == ["http://a/v1", "http://b/v1"]
    two_keys = members(urls=["http://a/v1"], key_env=["FARM_KEY", "OTHER_KEY"])
    assert [b.facts()["url"] for b in two_keys] == ["http://a/v1", "http://a/v1"]
    both = members(urls=["http://a/v1", "http://b/v1"], key_env=["FARM_KEY", "OTHER_KEY"])
    assert len(both) == 2
    assert [b.endpoint for b in members(urls=["http://a/v1"])] == ["farm"]
    assert {b.target for b in both} == {"farm"}
    assert KEY not in repr([b.facts() for b in both])


def test_each_member_sends_its_own_key(ask, completion):
    heard = ask(completion("x"), key_env=["OTHER_KEY", "FARM_KEY"])
    assert heard.headers[0]["Authorization"] == "Bearer sk-other"


def test_weights_are_the_members_own():
    endpoint = Endpoint(urls=["http://a/v1", "http://b/v1"], weights=[1, 3])
    assert [m.weight for m in resolve("farm:m", {"farm": endpoint}).make()] == [1.0, 3.0]
    assert [m.weight for m in resolve("scripted:m", {}).make()] == [1.0]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"urls": ["http://a/v1", "http://b/v1"], "key_env": ["A", "B", "C"]}, "3 keys under `key_env:` for 2 URLs"),
        ({"urls": ["http://a/v1", "http://b/v1"], "weights": [1]}, "`weights:` has 1 for a pool of 2"),
        ({"urls": ["http://a/v1"], "weights": [0]}, "greater than 0"),
        ({"urls": ["http://a/v1"], "key_env": "A", "key_command": ["x"]}, "either `key_env:` or `key_command:`"),
        ({"urls": ["http://a"], "azure": {"api_version": "v"}}, "Azure needs a key"),
        ({"urls": ["http://a/v1"], "client_key": "k.pem"}, "`client_key:` needs the certificate"),
        ({"urls": ["http://a/v1"], "proxy": "http://u:p@h:1"}, "write `env:VARIABLE`"),
        ({"urls": ["http://a/v1"], "proxy": "socks://h"}, "is no proxy"),
        ({"urls": ["http://a/v1"], "headers": {"a b": "x"}}, "no name of a header"),
        ({"urls": []}, "needs a URL"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options, told):
    with pytest.raises(ValidationError, match=told):
        Endpoint(**options)


def test_a_variable_or_file_that_is_not_there_is_told_before_anything_is_sent(monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    for options, told in (
        ({"headers": {"X-Gate": "env:NOWHERE"}}, "takes its header X-Gate from the variable NOWHERE, which is not set"),
        ({"proxy": "env:NOWHERE"}, "takes its proxy from the variable NOWHERE"),
        ({"ca_file": "no/such.pem"}, r"there is no file 'no/such\.pem'"),
    ):
        with pytest.raises(UsageError, match=told):
            members(urls=["http://h/v1"], **options)


def test_trusting_anyone_is_told_loudly():
    farm = Endpoint(urls=["https://h/v1"], verify=False)
    (note,) = resolve("farm:m", {"farm": farm}).notes
    assert "'farm'" in note and "WHOEVER" in note
    assert resolve("farm:m", {"farm": farm.model_copy(update={"verify": True})}).notes == ()


# -- keys that live for a while


def printing(tmp_path, *lines):
    """A command that prints these lines, one a run, the last for ever, and how often it has run."""
    log = tmp_path / "ran"
    words = " ".join(lines)
    script = f'set -- {words}; n=$(cat "{log}" 2>/dev/null | wc -l); echo x >> "{log}"; '
    script += f'[ "$n" -ge {len(lines)} ] && n={len(lines) - 1}; shift "$n"; echo "$1"'
    return ["sh", "-c", script], lambda: log.read_text().count("x") if log.exists() else 0


def test_a_command_makes_the_key_once_for_many_requests(ask, completion, tmp_path):
    command, n_runs = printing(tmp_path, "key-1")
    heard = ask(completion("x"), key_command=command)
    assert heard.headers[0]["Authorization"] == "Bearer key-1"
    assert n_runs() == 1


def test_a_401_makes_a_new_key_and_asks_once_more(ask, completion, tmp_path):
    from aiohttp import web

    command, n_runs = printing(tmp_path, "stale", "fresh")

    async def answer(call):
        if call.headers["Authorization"] != "Bearer fresh":
            return web.json_response({"error": {"message": "expired: stale"}}, status=401)
        return web.json_response(completion("in"))

    heard = ask(answer, key_command=command)
    assert heard.reply.choices[0].message["content"] == "in"
    assert (len(heard.bodies), n_runs()) == (2, 2)


def test_a_key_that_is_refused_twice_is_an_auth_failure_without_the_key(ask, tmp_path):
    from aiohttp import web

    command, _ = printing(tmp_path, "key-aaaa", "key-bbbb")

    async def answer(call):
        return web.json_response({"error": {"message": f"no {call.headers['Authorization']} key-bbbb"}}, status=401)

    failed = ask(answer, key_command=command).failed
    assert (failed.reason, failed.stops_endpoint) == (Reason.AUTH, True)
    assert "key_command" in failed.detail
    assert "key-bbbb" not in str(failed)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["sh", "-c", "echo nothing to see >&2; exit 3"], "'sh' ended with 3"),
        (["/no/such/program"], "cannot be run: No such file"),
        (["echo", ""], "printed no key"),
        (["printf", "a\\nb"], "printed no key"),
    ],
)
def test_a_command_that_makes_no_key_is_told_without_its_output(ask, completion, command, told):
    failed = ask(completion("x"), key_command=command).failed
    assert (failed.reason, failed.stops_endpoint) == (Reason.AUTH, True)
    assert told in failed.detail
    assert "nothing to see" not in failed.detail
