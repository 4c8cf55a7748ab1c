"""The bundled model: its tasks, its training and the equality of its two forms."""

import http.client
import importlib
import json
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import pytest

from prefsmith.judging.graders.demo import grade_demo

ROOT = Path(__file__).resolve().parents[2]
BENCH = ROOT / "bench/tiny"
DATA = ROOT / "gen/prefsmith/data"
TRAINED = ROOT / "tests/data/tiny"
MODULES = ("tasks", "words", "evaluate", "gguf_file", "train")


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """Imports a module of bench/tiny, a folder of programs and not a package; its plain names are forgotten after."""
    sys.path.insert(0, str(BENCH))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(BENCH))
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def tasks(bench: Any) -> ModuleType:
    module: ModuleType = bench("tasks")
    return module


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def each_family(tasks: ModuleType, n: int, seed: int) -> Iterator[Any]:
    rng = random.Random(seed)
    for family in tasks.FAMILIES:
        for _ in range(n):
            yield tasks.draw_task(rng, "train", family)


# ---- tasks and grader


def test_every_part_holds_only_prompts_of_its_split(tasks: ModuleType) -> None:
    rng = random.Random(0)
    parts = {
        "train": {tasks.draw_example(rng, careless=True).prompt for _ in range(3_000)},
        "demo": {row["prompt"] for row in rows("tiny.jsonl")},
        "eval": {row["prompt"] for row in rows("tiny-eval.jsonl")},
    }
    assert [{tasks.split(prompt) for prompt in prompts} for prompts in parts.values()] == [{name} for name in parts]
    # The rule is part of the shipped data: prompts of one part may not move when somebody rewrites `split`.
    assert tasks.split("Which weekday comes 8 days after Wednesday?") == "demo"


def test_clean_answers_are_right_and_careless_ones_wrong(tasks: ModuleType) -> None:
    rng = random.Random(1)
    for task in each_family(tasks, 200, seed=2):
        for text in (tasks.clean_answer(task), tasks.brief_answer(task)):
            assert grade_demo(text, task.check) == 1.0, (task, text)
        for text in (tasks.defect(task), *(tasks.careless_answer(task, rng) for _ in range(4))):
            assert grade_demo(text, task.check) == 0.0, (task, text)


def test_every_number_lies_between_0_and_99(tasks: ModuleType) -> None:
    rng = random.Random(3)
    for task in each_family(tasks, 400, seed=4):
        text = f"{task.prompt}\n{tasks.clean_answer(task)}\n{tasks.careless_answer(task, rng)}"
        assert all(0 <= int(number) <= 99 for number in re.findall(r"\d+", text)), text
        assert not re.search(r"=-|#### -", text), text


def test_system_messages_and_clean_shares_hold(tasks: ModuleType) -> None:
    assert all(0.28 <= share <= 0.72 for shares in tasks.CLEAN_SHARE.values() for share in shares)
    rng = random.Random(5)
    drawn = [tasks.draw_example(rng, careless=True) for _ in range(10_000)]
    formal = [example for example in drawn if example.system == tasks.FORMAT]
    assert all(re.search(r"^(#### |\{)", example.answer, re.M) for example in formal)
    assert Counter(bool(example.system) for example in drawn)[True] / len(drawn) == pytest.approx(0.2, abs=0.02)


def test_demo_files_are_what_the_generator_writes(tasks: ModuleType, tmp_path: Path) -> None:
    tasks.write_demo(tmp_path)
    for name in ("tiny.jsonl", "tiny-eval.jsonl"):
        assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes()


def test_references_are_right_and_ids_unique() -> None:
    for name in ("tiny.jsonl", "tiny-eval.jsonl"):
        read = rows(name)
        assert all(grade_demo(row["reference"], row["check"]) == 1.0 for row in read)
        assert len({row["id"] for row in read}) == len({row["prompt"] for row in read}) == len(read)


def test_the_first_300_demo_prompts_hold_all_families_evenly(tasks: ModuleType) -> None:
    counts = Counter(row["category"] for row in rows("tiny.jsonl")[:300])
    assert set(counts) == set(tasks.FAMILIES)
    assert set(counts.values()) == {23, 24}


NUMBER = {"kind": "number", "answer": 18}
TEXT = {"kind": "text", "answer": "red, blue"}
PICK = {"kind": "pick", "n": 2, "among": ["fig", "kiwi", "lime"], "without": "lime"}
JSON = {"kind": "json", "object": {"name": "Zoe", "age": 22}}


@pytest.mark.parametrize(
    ("text", "check", "score"),
    [
        ("22-4=18\n#### 18", NUMBER, 1.0),
        ("#### 18\n", NUMBER, 1.0),
        ("#### 18 coins", NUMBER, 0.0),
        ("#### 18.0", NUMBER, 0.0),
        ("#### +18", NUMBER, 0.0),
        ("#### 1_8", NUMBER, 0.0),
        ("####  18", NUMBER, 0.0),
        ("####18", NUMBER, 0.0),
        ("so #### 18", NUMBER, 0.0),
        ("18", NUMBER, 0.0),
        ("", NUMBER, 0.0),
        ("#### 17\n#### 18", NUMBER, 0.0),
        ("#### 18\n#### 18", NUMBER, 0.0),
        ("#### 18\nI think.", NUMBER, 0.0),
        ("#### red, blue", TEXT, 1.0),
        ("#### red and blue", TEXT, 0.0),
        ("#### fig, kiwi", PICK, 1.0),
        ("#### kiwi, fig", PICK, 0.0),
        ("#### fig, fig", PICK, 0.0),
        ("#### fig, lime", PICK, 0.0),
        ("#### fig, plum", PICK, 0.0),
        ("#### fig", PICK, 0.0),
        ('{"name": "Zoe", "age": 22}', JSON, 1.0),
        ('{"age": 22, "name": "Zoe"}', JSON, 1.0),
        ('{"name": "Zoe", "age": "22"}', JSON, 0.0),
        ('{"name": "Zoe", "age": 22.0}', JSON, 0.0),
        ('{"name": "Zoe"}', JSON, 0.0),
        ('{"name": "Zoe", "age": 22, "age": 22}', JSON, 0.0),
        ('Here is the JSON: {"name": "Zoe", "age": 22}', JSON, 0.0),
        ('[["name", "Zoe"], ["age", 22]]', JSON, 0.0),
        ("[" * 100_000, JSON, 0.0),
    ],
)
def test_the_grader_is_exact(text: str, check: dict[str, object], score: float) -> None:
    assert grade_demo(text, check) == score


def test_an_unknown_check_is_an_error_and_no_score() -> None:
    with pytest.raises(ValueError, match="unknown kind of check 'regex'"):
        grade_demo("#### 18", {"kind": "regex"})


# ---- training and the two forms of the model


@pytest.fixture(scope="module")
def train(bench: Any) -> ModuleType:
    for name in ("torch", "transformers", "gguf"):
        pytest.importorskip(name)
    module: ModuleType = bench("train")
    module.torch.set_num_threads(1)
    return module


@pytest.fixture(scope="module")
def tokenizer(train: ModuleType) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(TRAINED)


@pytest.fixture(scope="module")
def server() -> Iterator[http.client.HTTPConnection]:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.hostnames, params.port = str(DATA / "tiny.gguf"), ["127.0.0.1"], 0
    params.n_parallel, params.n_ctx, params.use_jinja = 1, 256, True
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.warmup, params.verbosity, params.ui, params.cache_ram_mib = False, 0, False, 0
    running = xllamacpp.Server(params)
    connection = http.client.HTTPConnection(urlsplit(running.listening_address).netloc, timeout=60)
    yield connection
    connection.close()
    del running


def ask(server: http.client.HTTPConnection, path: str, **fields: object) -> Any:
    server.request("POST", path, json.dumps(fields), {"Content-Type": "application/json"})
    reply = server.getresponse()
    body = json.loads(reply.read())
    assert reply.status == 200, body
    return body


@pytest.mark.trainers
def test_twenty_steps_of_training_lower_the_loss(train: ModuleType) -> None:
    fresh = train.make_tokenizer(seed=0)
    assert all(len(fresh.encode(str(number))) == 1 for number in range(100))
    model = train.make_model(seed=0)
    assert sum(weight.numel() for weight in model.parameters()) == 984_192
    losses = train.train_stage(model, fresh, train.replace(train.STAGE_A, steps=20))
    assert sum(losses[-5:]) / 5 < 0.8 * losses[0]


@pytest.mark.trainers
def test_the_server_tokenises_like_the_tokenizer(
    tasks: ModuleType, tokenizer: Any, server: http.client.HTTPConnection
) -> None:
    rng = random.Random(6)
    texts = [str(number) for number in range(100)]
    texts += [
        "  two  spaces ",
        "a\n\nb\r\n c",
        "1234 and 7,5",
        "naïve — 日本 🙂",
        "don't we'll I'M",
        "<|end|> x",
        "\t#### ",
    ]
    for _ in range(1_000):
        example = tasks.draw_example(rng, careless=True)
        texts += [example.prompt, example.answer, f"{example.prompt} {example.answer}"]
    # Two-digit numbers are what a wrong split expression breaks; without them this test would see nothing.
    assert sum(bool(re.search(r"\d\d", text)) for text in texts) > 1_000
    wanted = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    got = [ask(server, "/tokenize", content=t, add_special=False, parse_special=False)["tokens"] for t in texts]
    assert [text for text, ours, theirs in zip(texts, wanted, got, strict=True) if ours != theirs] == []
    assert ask(server, "/tokenize", content="57", add_special=True)["tokens"] == tokenizer.encode("57")


@pytest.mark.trainers
def test_the_server_renders_like_the_chat_template(tokenizer: Any, server: http.client.HTTPConnection) -> None:
    user = {"role": "user", "content": "Count red in this list: red"}
    turns = [{"role": "assistant", "content": "#### 1"}, {"role": "user", "content": "Again?"}]
    for messages in ([user], [{"role": "system", "content": "Answer briefly."}, user], [user, *turns]):
        wanted = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert ask(server, "/apply-template", messages=messages)["prompt"] == wanted


@pytest.mark.trainers
def test_greedy_texts_of_both_forms_agree(
    train: ModuleType, bench: Any, tokenizer: Any, server: http.client.HTTPConnection
) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(TRAINED, dtype=train.torch.float32)
    prompts = [row["prompt"] for row in rows("tiny-eval.jsonl")[:300]]
    wanted = bench("evaluate").complete(model, tokenizer, [f"<|user|>{p}<|assistant|>" for p in prompts], 0.0, 0)
    got = [
        ask(
            server, "/v1/chat/completions", messages=[{"role": "user", "content": prompt}], temperature=0, max_tokens=44
        )["choices"][0]["message"]["content"]
        for prompt in prompts
    ]
    # fp16 against fp32 sums: a near-tie may fall the other way.
    assert sum(ours == theirs for ours, theirs in zip(wanted, got, strict=True)) >= 297


@pytest.mark.trainers
def test_weights_of_both_forms_are_the_same_numbers(train: ModuleType, tmp_path: Path) -> None:
    train.write_gguf(TRAINED, tmp_path / "again.gguf", name="prefsmith-tiny", licence="apache-2.0")
    assert tensors(tmp_path / "again.gguf") == tensors(DATA / "tiny.gguf")


def tensors(path: Path) -> dict[str, tuple[str, bytes]]:
    from gguf import GGUFReader

    return {tensor.name: (tensor.tensor_type.name, tensor.data.tobytes()) for tensor in GGUFReader(path).tensors}
