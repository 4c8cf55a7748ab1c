"""Makes the bundled model from nothing: tokenizer, two training stages, model folder, GGUF, evaluation.

Invariants: no prompt outside the `train` part is ever trained on; one thread and fixed seeds, so two runs reach
the same pass rates (not the same bytes: the order of floating-point sums is the machine's own).
The exact weights of a release are the shipped files; this program shows where they came from.
"""

import argparse
import math
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from evaluate import evaluate
from gguf_file import write_gguf
from tasks import SYSTEMS, Example, careless_answer, clean_answer, draw_example, draw_task, write_demo
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 1024
END, SYSTEM, USER, ASSISTANT, PAD = range(5)
SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|pad|>"]
# Llama 3's expression, word for word: llama.cpp knows it as `llama-bpe`, so both split texts alike.
# https://github.com/ggml-org/llama.cpp, src/llama-vocab.cpp, LLAMA_VOCAB_PRE_TYPE_LLAMA3
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# No newline anywhere, so a trainer that strips turns changes nothing.
TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

BATCH = 96
POOL_BATCHES = 40
"""Examples are sorted by length inside a pool, so that a batch is nearly free of padding."""

Ids = tuple[list[int], int]
"""Token ids of a conversation and the index of the first token of its answer."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stretch of training; the rates are held for `held` of the steps, then fall to 0 in a line."""

    name: str
    steps: int
    careless: bool
    muon_rate: float
    adam_rate: float
    held: float
    seed: int


STAGE_A = Stage("A", steps=2000, careless=False, muon_rate=0.02, adam_rate=0.004, held=0.35, seed=11)
STAGE_B = Stage("B", steps=517, careless=True, muon_rate=0.008, adam_rate=0.002, held=0.0, seed=12)


def make_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE in which every number from 0 to 99 is one token.

    Its texts do not depend on CLEAN_SHARE, so a stage B with another mix finds the token ids of stage A.
    """
    rng = random.Random(seed)
    texts: list[str] = [str(number) for number in range(100)] * 400
    for _ in range(8_000):
        task = draw_task(rng, "train")
        texts += [rng.choice(SYSTEMS), task.prompt, clean_answer(task), careless_answer(task, rng)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        eos_token=SPECIAL[END],
        pad_token=SPECIAL[PAD],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def make_model(seed: int) -> LlamaForCausalLM:
    """The untrained model, 984,192 parameters."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=128, intermediate_size=384, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=512, rms_norm_eps=1e-6, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1000.0},
        bos_token_id=None, eos_token_id=END, pad_token_id=PAD,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embed_tokens" in name:
                weight.normal_(0.0, 0.02)
            elif weight.ndim == 2:
                # The two matrices that write into the residual stream start small.
                share = 0.2 if "o_proj" in name or "down_proj" in name else 1.0
                weight.normal_(0.0, share / math.sqrt(3 * weight.shape[1]))
    return model


def encode(tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example]) -> list[Ids]:
    """The conversations as the chat template renders them."""
    texts = [
        (f"<|system|>{example.system}" if example.system else "")
        + f"<|user|>{example.prompt}<|assistant|>{example.answer}<|end|>"
        for example in examples
    ]
    all_ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    return [(ids, ids.index(ASSISTANT) + 1) for ids in all_ids]


def draw_batches(tokenizer: PreTrainedTokenizerFast, stage: Stage) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of fresh examples as (ids, labels), both [BATCH, length]; a label of -100 has no loss."""
    rng = random.Random(stage.seed)
    while True:
        pool = encode(tokenizer, [draw_example(rng, stage.careless) for _ in range(BATCH * POOL_BATCHES)])
        pool.sort(key=lambda item: len(item[0]))
        starts = list(range(0, len(pool), BATCH))
        rng.shuffle(starts)
        for start in starts:
            rows = pool[start : start + BATCH]
            ids = torch.full((BATCH, max(len(row) for row, _ in rows)), PAD)
            labels = torch.full_like(ids, -100)
            for i, (row, answer_at) in enumerate(rows):
                ids[i, : len(row)] = torch.tensor(row)
                labels[i, answer_at : len(row)] = ids[i, answer_at : len(row)]
            yield ids, labels


class Muon:
    """Momentum with orthogonalised steps, for matrices only.

    Keller Jordan, "Muon: an optimizer for hidden layers" (https://kellerjordan.github.io/posts/muon/), with its
    coefficients. Matrices of one shape are orthogonalised together, the wide ones and the tall ones transposed.
    """

    def __init__(self, weights: Sequence[torch.nn.Parameter], momentum: float = 0.95) -> None:
        self._momentum = momentum
        self._groups: dict[tuple[int, ...], list[torch.nn.Parameter]] = defaultdict(list)
        for weight in weights:
            self._groups[tuple(sorted(weight.shape))].append(weight)
        self._velocity = {shape: torch.zeros(len(group), *shape) for shape, group in self._groups.items()}

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for shape, group in self._groups.items():
            gradient = torch.stack([_lie_flat(_gradient(weight), shape) for weight in group])
            velocity = self._velocity[shape].lerp_(gradient, 1 - self._momentum)
            for weight, step in zip(group, _orthogonal(gradient.lerp(velocity, self._momentum)), strict=True):
                rows, columns = weight.shape
                weight.sub_(_lie_flat(step, (rows, columns)), alpha=rate * max(1, rows / columns) ** 0.5)


def _gradient(weight: torch.nn.Parameter) -> torch.Tensor:
    if weight.grad is None:
        raise RuntimeError("Muon.step before backward")
    return weight.grad


def _lie_flat(matrix: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    return matrix if tuple(matrix.shape) == shape else matrix.T


def _orthogonal(x: torch.Tensor) -> torch.Tensor:
    """The nearest half-orthogonal matrices, by five Newton-Schulz steps; x is [n, rows, columns], rows <= columns."""
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(5):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


def answer_loss(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of the answers' tokens; padding is on the right, so it needs no mask."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1]
    wanted = labels[:, 1:]
    chosen = wanted != -100
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[chosen]), wanted[chosen])


def train_stage(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, stage: Stage) -> list[float]:
    """Train in place; the loss of every step."""
    matrices = [weight for name, weight in model.named_parameters() if weight.ndim == 2 and "embed" not in name]
    others = [weight for name, weight in model.named_parameters() if weight.ndim == 1 or "embed" in name]
    muon, adam = Muon(matrices), torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.0)
    losses: list[float] = []
    n_tokens, begin = 0, time.process_time()
    model.train()
    for i, (ids, labels) in zip(range(stage.steps), draw_batches(tokenizer, stage), strict=False):
        share = min(1.0, (1 - i / stage.steps) / (1 - stage.held))
        model.zero_grad()
        loss = answer_loss(model, ids, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        muon.step(stage.muon_rate * share)
        adam.param_groups[0]["lr"] = stage.adam_rate * share
        adam.step()
        losses.append(loss.item())
        n_tokens += ids.numel()
        if (i + 1) % 50 == 0:
            used_s = time.process_time() - begin
            recent = sum(losses[-50:]) / 50
            print(
                f"{stage.name} {i + 1:5d} loss {recent:.4f} {used_s:5.0f} CPU-s {n_tokens / used_s:6.0f} tok/s",
                flush=True,
            )
    return losses


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Round the weights to fp16, for good, and write the model folder and the GGUF from the same numbers."""
    model.half().save_pretrained(out / "model")  # type: ignore[no-untyped-call]
    model.float()  # type: ignore[no-untyped-call]
    tokenizer.save_pretrained(out / "model")
    write_gguf(out / "model", out / "tiny.gguf", name="prefsmith-tiny", licence="apache-2.0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for everything that is made")
    parser.add_argument("--steps", type=int, help="train every stage for so many steps only (a smoke run)")
    parser.add_argument("--stage-a", type=Path, help="start from this stage-a.pt of an earlier run, train stage B only")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    tokenizer, model = make_tokenizer(seed=0), make_model(seed=0)
    stage_a, stage_b = (replace(stage, steps=args.steps or stage.steps) for stage in (STAGE_A, STAGE_B))
    if args.stage_a:
        model.load_state_dict(torch.load(args.stage_a, weights_only=True))
    else:
        train_stage(model, tokenizer, stage_a)
        torch.save(model.state_dict(), args.out / "stage-a.pt")
    train_stage(model, tokenizer, stage_b)
    save(model, tokenizer, args.out)
    write_demo(args.out)
    model.train(False)
    tables = evaluate(model, tokenizer)
    (args.out / "pass-rates.md").write_text(tables, encoding="utf-8")
    print(tables)
    print(f"{time.process_time():.0f} CPU-s in all")


if __name__ == "__main__":
    main()
