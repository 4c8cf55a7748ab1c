"""The doctor against real servers on loopback."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from served import serving

from prefsmith.backends.look import Door, look
from prefsmith.cli import main
from prefsmith.doctor import Finding, Level, _models, exit_code_of
from prefsmith.errors import CallFailed
from prefsmith.reasons import Reason
from prefsmith.recipe import Recipe

KEY = "sk-secret-0123456789"
Answer = tuple[int, dict[str, str], Any]
"""Status, headers, and a JSON value or raw bytes."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Answer | Callable[[Handler], Answer]] = {}
        self.heard: list[tuple[str, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def lists(self, *models: str, **headers: str) -> None:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers["/v1/models"] = (200, told, {"object": "list", "data": [{"id": model} for model in models]})


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.heard.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        answer = self.server.answers.get(self.path, (404, {}, {"error": {"message": "no such path"}}))
        status, headers, body = answer(self) if callable(answer) else answer
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(BrokenPipeError):  # whoever asked has gone
            self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """What the command says, and its exit code; never with the key in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FARM_KEY", KEY)

    def run(*words: str) -> tuple[int, str]:
        code = main(["doctor", *words])
        said = capsys.readouterr()
        assert KEY not in said.out + said.err
        return code, said.out + said.err

    return run


def farm(server: Server, *more: str, models: tuple[str, ...] = ("qwen",), key: bool = True) -> list[str]:
    words = [word for model in models for word in ("--gen", f"farm:{model}")]
    keyed = ["--set", "endpoints.farm.key_env=FARM_KEY"] if key else []
    return [*words, "--endpoint", f"farm={server.url}", *keyed, *more]


def test_without_a_word_it_looks_at_what_the_demo_needs(told: Callable[..., tuple[int, str]]) -> None:
    code, said = told()
    assert code == 0
    whats = [line.split()[1].rstrip(":") for line in said.splitlines()]
    assert whats == ["prefsmith", "packages", "vllm", "cpu", "disk", "gpu", "recipe"]
    assert "problem" not in said
    assert "openai 3." in said and "xllamacpp 2026." in said and " GB free" in said


def test_a_healthy_server_is_ok_line_by_line(server: Server, told: Callable[..., tuple[int, str]]) -> None:
    server.lists("qwen", "llama", x_ratelimit_limit_requests="1200", x_ratelimit_limit_tokens="90000")
    code, said = told(*farm(server))
    assert code == 0, said
    assert "ok       endpoint farm: the key is taken from FARM_KEY, which is set" in said
    assert f"ok       endpoint farm: {server.url} answers in " in said
    assert "ok       endpoint farm: it lists qwen" in said
    assert "limits told: limit-requests 1200, limit-tokens 90000" in said
    assert [(path, headers["authorization"]) for path, headers in server.heard] == [("/v1/models", f"Bearer {KEY}")]


def test_the_findings_as_json(server: Server, told: Callable[..., tuple[int, str]]) -> None:
    server.lists("other")
    code, said = told(*farm(server, "--json"))
    findings = json.loads(said)
    assert code == 2
    assert {"what", "level", "told", "todo"} == set(findings[0])
    (problem,) = [f for f in findings if f["level"] == "problem"]
    assert problem["told"] == "it lists no model 'qwen'; known: other"


def test_a_model_that_is_not_listed_is_told_with_those_that_are(
    server: Server, told: Callable[..., tuple[int, str]]
) -> None:
    server.lists("qwen3-8b", "llama")
    code, said = told(*farm(server, models=("qwen3-8B", "llama")))
    assert code == 2
    assert "it lists no model 'qwen3-8B'; did you mean 'qwen3-8b'? (known: llama, qwen3-8b)" in said
    assert "it lists llama" in said


def test_a_wrong_key_is_told_by_its_variable_and_never_shown_even_when_the_server_does(
    server: Server, told: Callable[..., tuple[int, str]]
) -> None:
    def refuse(call: Handler) -> Answer:
        message = f"Incorrect API key provided: {call.headers['Authorization']}"
        return 401, {"x-request-id": KEY}, {"error": {"message": message, "code": "invalid_api_key"}}

    server.answers["/v1/models"] = refuse
    code, said = told(*farm(server))
    assert code == 5
    assert "HTTP 401, the key in FARM_KEY: Incorrect API key provided" in said


def test_a_key_in_the_list_of_models_or_the_headers_is_not_shown(
    server: Server, told: Callable[..., tuple[int, str]]
) -> None:
    server.lists(f"echo-{KEY}", x_ratelimit_limit_requests=KEY)
    code, said = told(*farm(server, "--json"))
    assert code == 2
    assert "echo-***" in said and "limit-requests ***" in said


def test_a_missing_variable_is_a_problem_of_the_recipe_and_nobody_is_asked(
    server: Server, told: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FARM_KEY")
    code, said = told(*farm(server))
    assert code == 2
    assert said.count("the variable FARM_KEY, which is not set") == 1
    assert server.heard == []


def test_without_a_key_none_is_sent(
    server: Server, told: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    server.lists("qwen")
    assert told(*farm(server, key=False))[0] == 0
    (_, headers) = server.heard[0]
    assert "user-agent" in headers and {"authorization", "openai-organization"}.isdisjoint(headers)


def test_a_server_that_is_down_is_5_and_is_asked_once(told: Callable[..., tuple[int, str]]) -> None:
    with Server() as gone:
        url = gone.url
    code, said = told("--gen", "farm:qwen", "--endpoint", f"farm={url}")
    assert code == 5
    assert f"no connection to {url}" in said and "see whether it is up" in said


def test_a_server_error_is_5_with_its_words_and_no_second_try(
    server: Server, told: Callable[..., tuple[int, str]]
) -> None:
    server.answers["/v1/models"] = (503, {}, {"error": {"message": "still loading"}})
    code, said = told(*farm(server))
    assert code == 5
    assert f"HTTP 503 at {server.url}/models: still loading" in said
    assert len(server.heard) == 1


@pytest.mark.parametrize("answer", [(404, {}, {}), (200, {}, b"<html>"), (200, {}, {"data": 3}), (200, {}, b"[]")])
def test_a_server_that_lists_no_models_is_a_warning(
    server: Server, told: Callable[..., tuple[int, str]], answer: Answer
) -> None:
    server.answers["/v1/models"] = answer
    code, said = told(*farm(server))
    assert code == 0
    assert "warning  endpoint farm: it lists no models" in said and "most URLs end in /v1" in said


def test_a_vllm_tells_its_version_beside_v1(server: Server, told: Callable[..., tuple[int, str]]) -> None:
    server.lists("qwen")
    server.answers["/version"] = (200, {}, {"version": "0.32.0"})
    code, said = told(*farm(server, "--set", "endpoints.farm.server=vllm"))
    assert code == 0
    assert "it is vLLM 0.32.0" in said


def test_a_server_that_only_claims_to_be_a_vllm_is_a_warning(
    server: Server, told: Callable[..., tuple[int, str]]
) -> None:
    server.lists("qwen")
    code, said = told(*farm(server, "--set", "endpoints.farm.server=vllm"))
    assert code == 0
    assert "warning  endpoint farm: it tells no version as a vLLM does" in said


def test_each_endpoint_of_a_recipe_is_looked_at_the_fake_ones_apart(
    server: Server, told: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    server.lists("judge-model")
    (tmp_path / "r.yaml").write_text(
        "sample: {model: 'fake:x', n: 2}\njudge: {use: rubric-help, model: 'farm:judge-model'}\n"
        f"endpoints: {{fake: {{script: {{}}}}, farm: {{urls: {server.url}}}, idle: {{urls: {server.url}}}}}\n"
    )
    code, said = told("r.yaml")
    assert code == 0, said
    assert "endpoint farm: it lists judge-model" in said
    assert "endpoint idle: " in said and "endpoint fake" not in said


def test_what_run_would_refuse_is_a_problem_of_the_recipe(told: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    words = ("p.jsonl", "--gen", "scripted:x", "--n", "2", "--judge", "rubrik-help", "--judge-model", "scripted:j")
    code, said = told(*words)
    assert code == 2
    assert "problem  recipe: --judge --judge-model: judge.0.use: there is no grader or judge 'rubrik-help'" in said
    free = ("p.jsonl", "--endpoint", "mine=http://127.0.0.1:9/v1", "--gen", "scripted:x", "--judge", "rubric-help")
    code, said = told(*free, "--judge-model", "mine:j", "--budget", "5usd")
    assert "the price of mine:j" in said
    (tmp_path / "mine.toml").write_text("[openai.models]\na = {}\n")
    code, said = told("--prices", "mine.toml")
    assert code == 2
    assert "problem  prices: mine.toml: openai.models.a: `input` is missing" in said


def test_a_server_that_never_answers_is_left_after_a_while(server: Server) -> None:
    def hang(call: Handler) -> Answer:
        time.sleep(1)
        return 200, {}, {}

    server.answers["/v1/models"] = hang
    with pytest.raises(CallFailed, match="no whole reply") as caught:
        asyncio.run(look(Door(server.url), patience_s=0.2))
    assert caught.value.reason is Reason.TIMEOUT


def script(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_gpus_are_named_with_their_memory(
    told: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    script(tmp_path, "nvidia-smi", "echo 'NVIDIA H100 80GB HBM3, 81559, 3'; echo 'NVIDIA H100 80GB HBM3, 81559, 70000'")
    assert "gpu: NVIDIA H100 80GB HBM3, 81559 MiB of memory, 70000 MiB in use" in told()[1]
    script(tmp_path, "nvidia-smi", "echo 'Driver/library version mismatch' >&2; exit 18")
    code, said = told()
    assert code == 0
    assert "warning  gpu: nvidia-smi fails: exit 18, Driver/library version mismatch" in said


def test_an_installed_vllm_is_named_with_its_platform(
    told: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "vllm-0.32.0+cpu.dist-info").mkdir()
    (tmp_path / "vllm-0.32.0+cpu.dist-info" / "METADATA").write_text("Name: vllm\nVersion: 0.32.0+cpu\n")
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("")
    platforms = tmp_path / "vllm" / "platforms.py"
    platforms.write_text("class current_platform:\n    device_type = 'cpu'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    assert "ok       vllm: vllm 0.32.0+cpu for cpu" in told()[1]
    platforms.write_text("raise ImportError('no kernels')\n")
    code, said = told()
    assert code == 0
    assert "its platform is unknown: exit 1, ImportError: no kernels" in said


def test_the_recipe_comes_before_a_server_and_a_server_before_this_machine() -> None:
    def found(*codes: int) -> list[Finding]:
        return [Finding("x", Level.PROBLEM if code else Level.OK, "", exit_code=code) for code in codes]

    assert exit_code_of(found(0, 0)) == 0
    assert exit_code_of(found(0, 6, 5)) == 5
    assert exit_code_of(found(6, 5, 2, 0)) == 2


def test_a_model_is_asked_what_it_can_do_only_when_the_user_says_so(
    told: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    (tmp_path / "prices.toml").write_text("[farm]\nmodels.qwen = {input = 1.0, output = 2.0}\n")
    with serving(refuses=["seed"], ignores=["n"]) as model:
        words = ("--gen", "farm:qwen", "--endpoint", f"farm={model.url}", "--prices", "prices.toml")
        code, said = told(*words)
        assert code == 0 and model.probes == [] and "asked what it can do" not in said
        code, said = told(*words, "--probe")
        assert code == 0 and model.bodies == [] and len(model.probes) == 2, "one refused, one answered"
    assert "ok       endpoint farm: qwen was asked what it can do, for <$0.0001: n: one choice a request" in said
    assert "seed: refused" in said


def test_a_model_that_cannot_be_asked_is_5(told: Callable[..., tuple[int, str]]) -> None:
    with serving(statuses=[500]) as model:
        code, said = told("--gen", "farm:qwen", "--endpoint", f"farm={model.url}", "--probe")
    assert code == 5
    assert "problem  endpoint farm: qwen cannot be asked what it can do: HTTP 500" in said


def test_every_model_of_a_jury_is_looked_for_and_a_reward_model_is_not_talked_to() -> None:
    members = [{"use": "rubric-help", "model": "a:x"}, {"use": "checklist-help", "list_model": "b:z"}]
    judges = [{"panel": members, "model": "b:y"}, {"use": "reward", "model": "c:rm"}]
    what = Recipe.model_validate({"sample": {"model": "a:s"}, "judge": judges})
    assert _models(what) == {"a": ["s", "x"], "b": ["y", "z"], "c": ["rm"]}
    assert _models(what, talked_to=True) == {"a": ["s", "x"], "b": ["y", "z"]}
