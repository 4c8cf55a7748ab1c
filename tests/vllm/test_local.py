"""What a recipe may say of an engine, and under which identity its answers are kept; no engine is started."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.vllm.conftest import TINY

from prefsmith.backends import resolve
from prefsmith.backends.vllm import VllmInProcess, VllmServer, arguments
from prefsmith.endpoints import Abilities, Endpoint, Vllm
from prefsmith.errors import UsageError


def identity(model: Path | str = TINY, **section: Any) -> str:
    return resolve(f"local:{model}", {"local": Endpoint(vllm=Vllm(**section))}).identity.model


def copy_of(folder: Path, place: Path) -> Path:
    return Path(shutil.copytree(folder, place))


def test_the_built_in_target_is_an_engine_in_this_process() -> None:
    resolved = resolve(f"vllm:{TINY}", {})
    assert isinstance(resolved.make()[0].backend, VllmInProcess)
    assert resolved.identity.target == "vllm"
    assert resolved.wire_model == "tiny"
    assert resolve("vllm:Qwen/Qwen3-8B", {}).identity.model == "Qwen/Qwen3-8B"


def test_serve_is_a_server_of_our_own() -> None:
    resolved = resolve(f"local:{TINY}", {"local": Endpoint(vllm=Vllm(mode="serve"))})
    assert isinstance(resolved.make()[0].backend, VllmServer)
    assert resolved.identity.model == identity()


def test_a_folder_is_its_content_wherever_it_lies(tmp_path: Path) -> None:
    copied = copy_of(TINY, tmp_path / "elsewhere")
    (copied / "trainer_state.json").write_text("{}")
    (copied / "README.md").write_text("a card")
    assert identity(copied) == identity()
    weights = bytearray((copied / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copied / "model.safetensors").write_bytes(weights)
    assert identity(copied) != identity()


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "chat_template.jinja"])
def test_whatever_makes_the_model_another_one_makes_another_identity(tmp_path: Path, name: str) -> None:
    copied = copy_of(TINY, tmp_path / "copy")
    (copied / name).write_text((copied / name).read_text() + " ")
    assert identity(copied) != identity()


def test_an_adapter_is_a_model_of_its_own_and_one_engine_serves_both(adapter: Path, tmp_path: Path) -> None:
    endpoints = {"local": Endpoint(vllm=Vllm(adapters={"odd": adapter}))}
    base, odd = resolve(f"local:{TINY}", endpoints), resolve(f"local:{TINY}+odd", endpoints)
    assert base.identity.model == identity()
    assert odd.identity.model.startswith(f"{base.identity.model}+lora-")
    assert (base.wire_model, odd.wire_model) == ("tiny", "odd")
    assert base.backend_key == odd.backend_key
    renamed = identity(f"{TINY}+other", adapters={"other": copy_of(adapter, tmp_path / "moved")})
    assert renamed == odd.identity.model


def test_only_arguments_that_change_answers_are_in_the_identity() -> None:
    assert identity(args={"max_num_seqs": 8, "enforce_eager": True}, gpus=[[1]], stall_s=5) == identity()
    assert identity(args={"quantization": "fp8"}) != identity()
    assert identity(args={"dtype": "float32"}) != identity()


@pytest.mark.parametrize(
    ("section", "told"),
    [
        ({"args": {"max_model_length": 1}}, "did you mean 'max_model_len'"),
        ({"args": {"zzz": 1}}, "see `vllm serve --help=all`"),
        ({"args": {"max_log_len": 1}}, "has no argument 'max_log_len'"),
        ({"args": {"generation_config": "auto"}}, "must not decide"),
        ({"args": {"model": "x"}}, "behind the colon"),
        ({"env": {"HF_TOKEN": "hf_x"}}, "export it"),
        ({"adapters": {"odd": TINY}}, "no LoRA adapter in peft's form"),
    ],
)
def test_what_cannot_work_is_refused_before_a_model_is_loaded(section: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        identity(**section)


def test_what_a_server_knows_besides_is_for_serve_alone() -> None:
    assert identity(mode="serve", args={"max_log_len": 1})


def test_an_unknown_adapter_or_folder_is_told_with_what_exists(adapter: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'odd'"):
        identity(f"{TINY}+ood", adapters={"odd": adapter})
    with pytest.raises(UsageError, match="there is no folder"):
        identity(tmp_path / "none")
    with pytest.raises(UsageError, match=r"holds no config\.json"):
        identity(tmp_path)
    with pytest.raises(UsageError, match="both called 'tiny'"):
        identity(adapters={"tiny": adapter})


def test_devices_and_adapters_reach_each_engine(adapter: Path) -> None:
    vllm = Vllm(adapters={"odd": adapter}, args={"tensor_parallel_size": 2, "tool_call_parser": "hermes"})
    args = arguments.for_engine("m", vllm, [adapter], [2, 3])
    assert args["device_ids"] == [2, 3]
    assert args["tensor_parallel_size"] == 2
    assert args["generation_config"] == "vllm"
    assert (args["enable_lora"], args["max_loras"], args["max_lora_rank"]) == (True, 1, 8)
    assert "tool_call_parser" not in args
    words = " ".join(arguments.for_server("m", "n", vllm, {"odd": adapter}, [2, 3], 81))
    for told in (
        "serve m",
        "--device-ids 2,3",
        "--tensor-parallel-size 2",
        "--generation-config vllm",
        "--port 81",
        "--tool-call-parser hermes",
        "--enable-auto-tool-choice",
        "--no-enable-chunked-prefill",
        "--served-model-name n",
        f"--lora-modules odd={adapter}",
        "--host 127.0.0.1",
    ):
        assert told in words


def test_one_lane_of_requests_keeps_every_engine_busy() -> None:
    def concurrency(**more: Any) -> int:
        return resolve(f"local:{TINY}", {"local": Endpoint(**more)}).capabilities.concurrency

    assert concurrency(vllm=Vllm()) == 320
    assert concurrency(vllm=Vllm(args={"max_num_seqs": 100}, gpus=[[0], [1]])) == 250
    assert concurrency(vllm=Vllm(args={"max_num_seqs": 100}), limits={"concurrency": 7}) == 7


def test_what_is_declared_of_an_engine_is_where_its_thoughts_stand_and_nothing_else() -> None:
    assert identity(args={"reasoning_parser": "qwen3"}) != identity()
    endpoint = Endpoint(vllm=Vllm(), can=Abilities(reasoning="think"))
    assert resolve(f"local:{TINY}", {"local": endpoint}).make()[0].backend.facts()["can"].endswith("thoughts: think")
    with pytest.raises(UsageError, match="only `reasoning` has a meaning"):
        resolve(f"local:{TINY}", {"local": Endpoint(vllm=Vllm(), can=Abilities(seed=False))})


def test_the_tokenizers_own_special_tokens_are_control_tokens() -> None:
    known = resolve(f"local:{TINY}", {"local": Endpoint(vllm=Vllm())}).capabilities.control_tokens
    declared = json.loads((TINY / "tokenizer.json").read_text())["added_tokens"]
    assert {*known} == {t["content"] for t in declared if t["special"]}
