"""Judges over the real vLLM: a reward model against transformers, probabilities of labels, schema-bound verdicts."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.vllm.conftest import TINY, Loop, endpoint_of

from prefsmith.backends import resolve
from prefsmith.backends.constraint import holds
from prefsmith.judging.expect import TOP
from prefsmith.judging.load import AskedModel, load_any
from prefsmith.judging.parse import verdict_schema
from prefsmith.outcomes import Score
from prefsmith.records import Item, Prompt, Request, Sampling

PROMPTS = ("What is 3 plus 4?", "Name a colour.", "Say nothing at all, or as little as you can.")
ANSWERS = ("7", "Red, or perhaps blue.", "")
REWARD = load_any("reward", AskedModel("local", "rm", "rm"), [])


@pytest.fixture(scope="module")
def reward_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a head of one output, its numbers large enough for a sigmoid to be seen."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tmp_path_factory.mktemp("reward") / "rm"
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_pretrained(TINY, num_labels=1, dtype=torch.float32)
    torch.nn.init.normal_(model.score.weight, std=0.5)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(TINY).save_pretrained(folder)
    (folder / "chat_template.jinja").write_text((TINY / "chat_template.jinja").read_text())
    return folder


def items() -> list[tuple[Item, str]]:
    return [(Item(Prompt(({"role": "user", "content": p},))), a) for p in PROMPTS for a in ANSWERS]


@pytest.fixture(scope="module")
def expected(reward_model: Path) -> list[float]:
    """The raw numbers by transformers, one conversation at a time."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(reward_model)
    model = AutoModelForSequenceClassification.from_pretrained(reward_model, dtype=torch.float32).eval()
    out = []
    for item, answer in items():
        messages = [*item.prompt.messages, {"role": "assistant", "content": answer}]
        ids = tokenizer.apply_chat_template(messages, tokenize=True, return_tensors="pt", return_dict=True)["input_ids"]
        with torch.no_grad():
            out.append(float(model(ids).logits[0, 0]))
    assert max(out) - min(out) > 0.1 and any(not 0 <= value <= 1 for value in out)
    return out


def scores(send: Callable[[Request], object]) -> list[float]:
    out = []
    for item, answer in items():
        reply = send(REWARD.ask(item, [answer], 0))
        score = REWARD.read(reply.choices[0])  # type: ignore[attr-defined]
        assert isinstance(score, Score) and score.value is not None
        out.append(score.value)
    return out


def test_rewards_in_process_are_those_of_transformers(
    reward_model: Path, expected: list[float], open_engine: Callable[..., Loop]
) -> None:
    """25: raw, whatever vLLM would do to them by itself."""
    loop = open_engine(endpoint_of(args={"runner": "pooling"}), str(reward_model))
    assert scores(loop.send) == pytest.approx(expected, abs=1e-4)


def test_rewards_over_http_are_those_of_transformers(reward_model: Path, expected: list[float]) -> None:
    endpoint = endpoint_of(mode="serve", args={"runner": "pooling"}, start_timeout_s=300)
    backend = resolve(f"local:{reward_model}", {"local": endpoint}).make()[0].backend
    with asyncio.Runner() as runner:
        runner.run(backend.open((), 0))
        try:
            assert scores(lambda request: runner.run(backend.send(request))) == pytest.approx(expected, abs=1e-4)
        finally:
            runner.run(backend.close())


@pytest.fixture(scope="module")
def engine(open_engine: Callable[..., Loop]) -> Loop:
    return open_engine(endpoint_of())


def test_each_token_comes_with_its_likeliest_alternatives(engine: Loop) -> None:
    request = Request("tiny", ({"role": "user", "content": "What is 3 plus 4?"},), Sampling(0.0, 8), top_logprobs=TOP)
    (choice,) = engine.send(request).choices
    assert choice.tokens is not None
    assert "".join(t.text for t in choice.tokens).startswith(choice.message["content"] or "")
    for token in choice.tokens:
        assert len(token.top) >= TOP and token.text in dict(token.top)
        assert 0 < sum(math.exp(p) for _, p in token.top[:TOP]) <= 1.0001
        assert token.logprob == pytest.approx(max(p for _, p in token.top))  # greedy


def test_a_schema_bound_verdict_holds_to_its_schema(engine: Loop) -> None:
    schema = verdict_schema(("A", "B"))
    request = Request(
        "tiny", ({"role": "user", "content": "Which is better?"},), Sampling(0.0, 200), seed=3, schema=schema
    )
    (choice,) = engine.send(request).choices
    text = choice.message["content"] or ""
    assert choice.finish_reason == "length" or (holds(text, schema) and json.loads(text)["verdict"] in ("A", "B"))


def test_judge_calls_of_one_prompt_find_their_beginning_in_the_servers_cache() -> None:
    """Instructions and prompt come first, candidates last: what two questions share is read once, in whole blocks."""
    from transformers import AutoTokenizer

    args = {"block_size": 32, "enable_prefix_caching": True, "enable_prompt_tokens_details": True}
    judge = load_any("pairwise-short", AskedModel("local", "tiny", "tiny"), [])
    item = Item(Prompt(({"role": "user", "content": PROMPTS[0]},)))
    asked = [judge.ask(item, two, 0) for two in (["7", "8"], ["Nine", "7"])]
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    told = [tokenizer.apply_chat_template([*one.messages], add_generation_prompt=True)["input_ids"] for one in asked]
    n_shared = next(i for i, (x, y) in enumerate(zip(*told, strict=False)) if x != y)
    assert n_shared >= 64
    endpoint = endpoint_of(mode="serve", args=args, start_timeout_s=300)
    backend = resolve(f"local:{TINY}", {"local": endpoint}).make()[0].backend
    with asyncio.Runner() as runner:
        runner.run(backend.open((), 0))
        try:
            first, second = (runner.run(backend.send(request)) for request in asked)
        finally:
            runner.run(backend.close())
    assert first.usage.n_prompt_tokens == len(told[0]) and not first.usage.n_cached_tokens
    assert second.usage.n_cached_tokens == n_shared // 32 * 32
