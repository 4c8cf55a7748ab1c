from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from prefsmith.backends import resolve
from prefsmith.backends.vllm.local import _folder
from prefsmith.endpoints import Endpoint, Limits, Script
from prefsmith.errors import UsageError
from prefsmith.shelf import shelf

FARM = {
    "farm": Endpoint(urls=["http://gpu1:8000/v1/"], server="vllm", limits=Limits(concurrency=300), n_per_request=16)
}


def test_a_declared_endpoint_stands_in_keys_by_its_name_or_identity():
    resolved = resolve("farm:Qwen/Qwen3-8B", FARM)
    assert (resolved.identity.target, resolved.identity.model) == ("farm", "Qwen/Qwen3-8B")
    assert (resolved.endpoint_name, resolved.wire_model) == ("farm", "Qwen/Qwen3-8B")
    shared = {"farm2": FARM["farm"].model_copy(update={"identity": "farm"})}
    assert resolve("farm2:Qwen/Qwen3-8B", shared).identity == resolved.identity


def test_a_model_name_may_hold_colons():
    assert resolve("farm:llama3:8b", FARM).wire_model == "llama3:8b"


def test_each_model_of_an_endpoint_has_a_backend_of_its_own():
    """Limits are per model; the same model of two samplers is one."""
    assert resolve("farm:a", FARM).backend_key != resolve("farm:b", FARM).backend_key
    assert resolve("scripted:a", FARM).backend_key != resolve("farm:a", FARM).backend_key
    assert resolve("farm:a", FARM).backend_key == resolve("farm:a", FARM).backend_key


def test_capabilities_are_known_before_opening():
    farm = resolve("farm:a", FARM).capabilities
    assert (farm.concurrency, farm.n_per_request) == (300, 16)
    assert "top_k" in farm.knows
    plain = {"p": Endpoint(urls=["http://h/v1"])}
    assert "top_k" not in resolve("p:a", plain).capabilities.knows
    llama = {"l": Endpoint(urls=["http://h/v1"], server="llama.cpp", n_per_request=8)}
    assert resolve("l:a", llama).capabilities.n_per_request == 1, "it counts the tokens of one choice of n"


def test_openai_needs_its_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(UsageError, match="variable OPENAI_API_KEY, which is not set"):
        resolve("openai:gpt-4.1-mini", {})
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    resolved = resolve("openai:gpt-4.1-mini", {})
    facts = resolved.make()[0].backend.facts()
    assert facts["url"] == "https://api.openai.com/v1"
    assert facts["max_tokens_field"] == "max_completion_tokens"
    assert resolved.identity.target == "openai"


def test_a_declared_openai_replaces_the_built_in_one(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    declared = {"openai": Endpoint(urls=["http://proxy:1/v1"], max_tokens_field="max_tokens")}
    assert resolve("openai:m", declared).make()[0].backend.facts()["url"] == "http://proxy:1/v1"


def test_a_key_with_a_line_end_inside_is_refused_without_showing_it(monkeypatch):
    monkeypatch.setenv("FARM_KEY", "sk-1\nsk-2")
    with pytest.raises(UsageError) as raised:
        resolve("farm:m", {"farm": Endpoint(urls=["http://h/v1"], key_env="FARM_KEY")})
    assert "sk-1" not in str(raised.value)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("fram:m", "did you mean 'farm'"),
        ("opneai:gpt", "did you mean 'openai'"),
        ("azure:gpt", "declare `endpoints: azure:"),
        ("tiny", "TARGET:MODEL"),
        ("embedded:tinny", "did you mean 'tiny'"),
        ("embedded:no/such.gguf", r"there is no file '.*no/such.gguf'"),
    ],
)
def test_what_cannot_be_opened_is_told_with_what_exists(model, told):
    with pytest.raises(UsageError, match=told):
        resolve(model, FARM)


@pytest.mark.parametrize("url", ["gpu1:8000/v1", "ftp://h/v1", "http://", "http://h:port/v1", "http://u:secret@h/v1"])
def test_a_url_that_cannot_work_is_refused(url):
    with pytest.raises(UsageError, match=r"endpoints\.farm\.urls") as raised:
        resolve("farm:m", {"farm": Endpoint(urls=[url])})
    assert "secret" not in str(raised.value)


def test_a_url_may_end_where_people_paste_too_much():
    pasted = {"farm": Endpoint(urls=["http://h/v1/chat/completions"])}
    assert resolve("farm:m", pasted).make()[0].backend.facts()["url"] == "http://h/v1"


def test_a_gguf_is_its_content_wherever_it_lies(tmp_path):
    copy = Path(shutil.copy(shelf("data") / "tiny.gguf", tmp_path / "copy.gguf"))
    tiny, same = resolve("embedded:tiny", {}), resolve(f"embedded:{copy}", {})
    assert tiny.identity == same.identity
    assert tiny.identity.model.startswith("gguf-")
    assert len(tiny.identity.model) == len("gguf-") + 16
    assert tiny.backend_key != same.backend_key
    raw = bytearray(copy.read_bytes())
    raw[-1] ^= 1
    copy.write_bytes(raw)
    assert resolve(f"embedded:{copy}", {}).identity != tiny.identity


def test_the_fake_needs_no_endpoint_and_takes_one():
    assert resolve("scripted:demo", {}).identity.target == "scripted"
    declared = {"fake": Endpoint(script=Script(chars=30), n_per_request=4, limits=Limits(concurrency=7))}
    capabilities = resolve("fake:m", declared).capabilities
    assert (capabilities.n_per_request, capabilities.concurrency) == (4, 7)


def test_a_tuned_folder_that_is_no_model_says_what_it_is(tmp_path):
    with pytest.raises(UsageError, match="holds no config"):
        _folder(str(tmp_path), "vllm:tuned")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UsageError, match="is a LoRA adapter, not a model: declare it under adapters:"):
        _folder(str(tmp_path), "vllm:tuned")
    with pytest.raises(UsageError, match=r"is a folder, and .* reads one GGUF file: convert it"):
        resolve(f"embedded:{tmp_path}", {})
