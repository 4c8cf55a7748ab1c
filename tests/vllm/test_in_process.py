"""The in-process backend on the real engine: what it samples, and what it never takes for an answer."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.vllm.conftest import TINY, Loop, asked, endpoint_of, texts, until

from prefsmith.backends.vllm.children import engines
from prefsmith.errors import CallFailed, UsageError
from prefsmith.reasons import Reason
from prefsmith.records import Request

PROMPTS = [f"What is {i} plus 4?" for i in range(12)]
LONG = "word " * 80


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with sampling defaults of its own that must not decide anything."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    shutil.copytree(TINY, folder)
    own = json.loads((folder / "generation_config.json").read_text())
    own |= {"temperature": 0.01, "top_k": 1, "top_p": 0.1, "repetition_penalty": 5.0, "max_new_tokens": 3}
    (folder / "generation_config.json").write_text(json.dumps(own))
    return folder


@pytest.fixture(scope="module")
def engine(open_engine: Callable[..., Loop], checkpoint: Path, adapter: Path) -> Loop:
    return open_engine(endpoint_of(adapters={"odd": adapter}), str(checkpoint))


def llm(engine: Loop) -> Any:
    return engine.backend._engines[0]._llm  # type: ignore[union-attr]


def failed(engine: Loop, request: Request) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        engine.send(request)
    return caught.value


def test_the_same_seed_gives_the_same_answers_and_another_one_others(engine: Loop) -> None:
    first, again = engine.send(asked(n=4, seed=7)), engine.send(asked(n=4, seed=7))
    assert texts(first) == texts(again)
    assert texts(engine.send(asked(n=4, seed=107))) != texts(first)


def test_four_choices_of_one_request_are_four_requests_with_the_next_seeds(engine: Loop) -> None:
    together = engine.send(asked(n=4, seed=11))
    apart = [engine.send(asked(seed=11 + k)) for k in range(4)]
    assert [c.place for c in together.choices] == [0, 1, 2, 3]
    assert [(c.message, c.n_tokens, c.finish_reason) for c in together.choices] == [
        (r.choices[0].message, r.choices[0].n_tokens, r.choices[0].finish_reason) for r in apart
    ]
    assert len({*texts(together)}) > 1


def test_answers_do_not_depend_on_what_else_is_asked(engine: Loop) -> None:
    requests = [asked(p, n=2, seed=i) for i, p in enumerate(PROMPTS)]
    assert [texts(r) for r in engine.send_all(*requests)] == [texts(engine.send(r)) for r in requests]


def test_temperature_0_is_one_answer_whatever_n_says(engine: Loop) -> None:
    first = engine.send(asked(n=4, temperature=0.0, seed=1))
    assert len(first.choices) == 1
    assert texts(engine.send(asked(temperature=0.0, seed=999))) == texts(first)
    assert texts(first) == texts(engine.send(asked(temperature=1.0, top_k=1)))


def test_a_models_own_sampling_defaults_decide_nothing(engine: Loop) -> None:
    assert llm(engine).model_config.get_diff_sampling_param() == {}
    assert len({*texts(engine.send(asked(n=8, temperature=1.5)))}) > 4
    assert any((c.n_tokens or 0) > 16 for c in engine.send(asked(n=8, temperature=1.5, max_tokens=64)).choices)


def test_max_tokens_and_stop_are_kept(engine: Loop) -> None:
    cut = engine.send(asked(n=8, temperature=1.5, max_tokens=3)).choices
    assert {c.finish_reason for c in cut} >= {"length"}
    assert all(c.n_tokens == 3 for c in cut if c.finish_reason == "length")
    whole = texts(engine.send(asked(n=4, seed=3)))
    stop = next(t for t in whole if len(t) > 4)[2]
    assert texts(engine.send(asked(n=4, seed=3, stop=(stop,)))) == [t.partition(stop)[0] for t in whole]


@pytest.mark.parametrize("changed", [{"frequency_penalty": 2.0}, {"presence_penalty": 2.0}, {"repetition_penalty": 2.0},
                                     {"min_p": 0.9}, {"top_p": 0.1}])  # fmt: skip
def test_every_sampling_value_reaches_the_engine(engine: Loop, changed: dict[str, float]) -> None:
    usual = [texts(r) for r in engine.send_all(*(asked(p, n=2, seed=i) for i, p in enumerate(PROMPTS)))]
    other = [texts(r) for r in engine.send_all(*(asked(p, n=2, seed=i, **changed) for i, p in enumerate(PROMPTS)))]
    assert usual != other


def test_a_schema_binds_the_answer(engine: Loop) -> None:
    schema = {
        "type": "object",
        "properties": {"winner": {"enum": ["A", "B"]}, "sure": {"type": "boolean"}},
        "required": ["winner", "sure"],
        "additionalProperties": False,
    }
    replies = engine.send_all(*(asked(p, n=4, seed=i, schema=schema, max_tokens=48) for i, p in enumerate(PROMPTS)))
    answers = [json.loads(t) for r in replies for t in texts(r)]
    assert len(answers) == 48
    for answer in answers:
        assert {*answer} == {"winner", "sure"}
        assert answer["winner"] in ("A", "B")
        assert isinstance(answer["sure"], bool)


def test_logprob_sums_are_those_of_the_model(engine: Loop) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(TINY)
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32)
    n_compared = 0
    for prompt in PROMPTS[:6]:
        (choice,) = engine.send(asked(prompt, temperature=0.0, logprobs=True)).choices
        shown = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, return_dict=False
        )
        said = tokenizer(choice.message["content"])["input_ids"] + [0]
        if choice.finish_reason != "stop" or len(said) != choice.n_tokens:
            continue  # the text has more than one way to be cut into tokens
        with torch.no_grad():
            logits = model(torch.tensor([shown + said])).logits[0, len(shown) - 1 : -1].log_softmax(-1)
        expected = sum(float(logits[i, t]) for i, t in enumerate(said))
        assert choice.logprob_sum == pytest.approx(expected, abs=1e-3)
        n_compared += 1
    assert n_compared >= 3


def test_no_logprob_is_told_that_nobody_asked_for(engine: Loop) -> None:
    assert engine.send(asked(n=2)).choices[0].logprob_sum is None
    sums = [c.logprob_sum for c in engine.send(asked(n=4, logprobs=True)).choices]
    assert all(s is not None and s < 0 for s in sums)


def test_tokens_are_counted_for_each_choice_and_cached_ones_are_told(engine: Loop) -> None:
    first, again = (engine.send(asked("count " + LONG, n=3, max_tokens=20)) for _ in range(2))
    assert first.usage.n_completion_tokens == sum(c.n_tokens or 0 for c in first.choices)
    assert first.usage.n_prompt_tokens is not None and first.usage.n_prompt_tokens > 200
    assert again.usage.n_cached_tokens is not None
    assert 200 < again.usage.n_cached_tokens < first.usage.n_prompt_tokens


def test_an_adapter_answers_under_its_own_name(engine: Loop) -> None:
    base = [texts(engine.send(asked(p, seed=5))) for p in PROMPTS]
    odd = [texts(engine.send(asked(p, seed=5, model="odd"))) for p in PROMPTS]
    assert odd != base
    assert odd == [texts(engine.send(asked(p, seed=5, model="odd"))) for p in PROMPTS]
    assert base == [texts(engine.send(asked(p, seed=5))) for p in PROMPTS]
    assert engine.send(asked(model="odd")).model_reported == "odd"


def test_an_unknown_model_stops_the_endpoint(engine: Loop) -> None:
    error = failed(engine, asked(model="od"))
    assert error.stops_endpoint
    assert "it has tiny, odd" in error.detail


@pytest.mark.parametrize(("text", "max_tokens"), [("word " * 600, 32), ("word " * 3000, 32), ("hello", 512)])
def test_what_does_not_fit_the_context_is_final(engine: Loop, text: str, max_tokens: int) -> None:
    error = failed(engine, asked(text, max_tokens=max_tokens))
    assert error.reason is Reason.CONTEXT_TOO_LONG
    assert not error.reason.owed
    assert not error.stops_endpoint


def test_the_context_is_known_once_the_engine_is_open(engine: Loop) -> None:
    assert engine.backend.capabilities().n_ctx_tokens == 512
    assert engine.backend.facts()["vllm"] == "0.32.0+cpu"
    can = "n: yes, temperature: yes, logprobs: yes, seed: yes, cap: max_tokens, thoughts: none seen"
    assert engine.backend.facts()["can"] == can
    assert "<|end|>" in engine.backend.capabilities().control_tokens


def test_an_engine_gets_the_batch_sizes_of_the_offline_class_and_enough_requests_to_fill_them(engine: Loop) -> None:
    assert llm(engine).vllm_config.scheduler_config.max_num_seqs == 256
    assert llm(engine).vllm_config.scheduler_config.max_num_batched_tokens == 4096
    assert engine.backend.capabilities().concurrency == 320


def test_a_schema_that_no_grammar_can_hold_is_a_bad_request(engine: Loop) -> None:
    error = failed(engine, asked(schema={"type": "no such type"}))
    assert error.reason is Reason.BAD_REQUEST


def test_prompts_with_tools_are_refused_without_a_parser_of_calls(engine: Loop) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    error = failed(engine, asked(tools=(tool,)))
    assert error.stops_endpoint
    assert "tool_call_parser" in error.detail


def test_an_aborted_answer_is_a_failed_call_that_is_owed(engine: Loop) -> None:
    async def aborted() -> CallFailed:
        task = asyncio.create_task(engine.backend.send(asked("abort " + LONG, temperature=2.0, max_tokens=150)))
        await until(lambda: bool(llm(engine).output_processor.request_states) or task.done())
        await asyncio.sleep(0.02)
        await llm(engine).abort([*llm(engine).output_processor.external_req_ids])
        with pytest.raises(CallFailed) as caught:
            await task
        return caught.value

    error = engine.run(aborted())
    assert error.reason is Reason.INTERRUPTED
    assert error.reason.owed


def test_a_cancelled_request_leaves_nothing_in_the_engine(engine: Loop) -> None:
    async def cancelled() -> int:
        task = asyncio.create_task(engine.backend.send(asked("cancel " + LONG, n=4, temperature=2.0, max_tokens=150)))
        await until(lambda: bool(llm(engine).output_processor.request_states) or task.done())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return int(llm(engine).get_num_unfinished_requests())

    assert engine.run(cancelled()) == 0
    assert engine.send(asked()).choices


def test_the_engine_does_not_hear_ctrl_c(engine: Loop) -> None:
    engine.send(asked())
    for pid in engines():
        status = dict(
            line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
        )
        assert int(status["SigBlk"], 16) & 0b10, "SIGINT is blocked"
        os.kill(pid, 2)
    assert engine.send(asked()).choices


def test_calls_of_tools_are_read_where_a_parser_is_named(engine: Loop) -> None:
    from vllm.outputs import CompletionOutput, RequestOutput

    from prefsmith.backends.vllm.talk import Talk

    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    request = asked(tools=(tool,), n=2)
    said = ['<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>', "I would rather not."]
    outputs = [CompletionOutput(i, text, [5, 6, 7], None, None, finish_reason="stop") for i, text in enumerate(said)]
    out = RequestOutput("0", None, [1, 2], None, outputs, True)
    called, plain = Talk(llm(engine), {"tool_call_parser": "hermes"}).read(out, request).choices
    assert called.finish_reason == "tool_calls"
    assert called.message["tool_calls"] == [
        {"id": "call_0", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    ]
    assert plain.finish_reason == "stop"
    assert plain.message == {"role": "assistant", "content": "I would rather not."}


def test_an_adapter_that_does_not_fit_is_refused_when_the_engine_opens(
    open_engine: Callable[..., Loop], adapter: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "misfit"
    shutil.copytree(adapter, folder)
    (folder / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UsageError, match="the adapter 'misfit'"):
        open_engine(endpoint_of(adapters={"misfit": folder}))
