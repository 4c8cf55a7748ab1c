"""Measures a model of the tasks: pass rates by family, temperature and system message, and how many prompts are mixed.

Samples with torch in fp32 from the fp16 weights that ship; the parity test ties them to the GGUF's.
It never looks at prompts of the `train` part.
"""

import importlib.util
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from tasks import FAMILIES, SYSTEMS, Task, draw_distinct
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

GRADER = Path(__file__).resolve().parents[2] / "gen/prefsmith/judging/graders/demo.py"
TEMPERATURES = (0.0, 0.3, 0.7, 1.0, 1.3)
SAMPLED = (0.3, 0.7, 1.0, 1.3)
"""The temperatures of the mixed-prompts count, two samples each."""
MAX_TOKENS = 44

Grade = Callable[[str, Mapping[str, object]], float]


def load_grade() -> Grade:
    """`grade_demo` from its file: the bench must run where the package is not installed."""
    spec = importlib.util.spec_from_file_location("demo_grader", GRADER)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(GRADER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast(Grade, module.grade_demo)


@torch.inference_mode()
def complete(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], temperature: float, seed: int
) -> list[str]:
    """One completion of every rendered prompt; temperature 0 is greedy, the seed is the whole call's."""
    torch.manual_seed(seed)
    # Batches of equal length: without padding there is no mask that could differ from the server's.
    by_length: dict[int, list[int]] = defaultdict(list)
    prompts: list[list[int]] = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    for i, ids in enumerate(prompts):
        by_length[len(ids)].append(i)
    choice = (
        {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        if temperature
        else {"do_sample": False}
    )
    completions = [""] * len(texts)
    for length, rows in by_length.items():
        batch = torch.tensor([prompts[i] for i in rows])
        done = model.generate(  # type: ignore[misc]
            batch, attention_mask=torch.ones_like(batch), max_new_tokens=MAX_TOKENS, **choice
        )
        for i, text in zip(rows, tokenizer.batch_decode(done[:, length:], skip_special_tokens=True), strict=True):
            completions[i] = text
    return completions


def evaluate(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> str:
    """The three tables of the model card, as Markdown."""
    grade = load_grade()

    def score(tasks: Sequence[Task], temperature: float, seed: int, system: str = "") -> list[float]:
        prefix = f"<|system|>{system}" if system else ""
        texts = [f"{prefix}<|user|>{task.prompt}<|assistant|>" for task in tasks]
        completions = complete(model, tokenizer, texts, temperature, seed)
        return [grade(text, task.check) for text, task in zip(completions, tasks, strict=True)]

    held_out = list(draw_distinct("eval", 90, seed=2))
    # Every temperature has a seed of its own, or one draw of luck would be counted five times.
    by_temperature = {t: score(held_out, t, seed=100 + i) for i, t in enumerate(TEMPERATURES)}
    demo = list(draw_distinct("demo", 110, seed=1))[:300]
    samples_SP = [
        score(demo, t, seed=200 + 10 * i + k) for i, t in enumerate(SAMPLED) for k in range(2)
    ]  # [sample][prompt]
    by_system = {
        system: [score(held_out[:400], t, 300 + i, system) for i, t in enumerate((0.0, 0.7))]
        for system in ("", *SYSTEMS)
    }
    return "\n".join(
        [
            *_family_table(held_out, by_temperature),
            "",
            *_mixed_table(demo, [sum(scores) for scores in zip(*samples_SP, strict=True)], n=len(samples_SP)),
            "",
            "| system message | T=0 | T=0.7 |",
            "|---|---|---|",
            *(f"| {system or 'none'} | {_mean(cold)} | {_mean(warm)} |" for system, (cold, warm) in by_system.items()),
            "",
        ]
    )


def _mean(scores: Sequence[float]) -> str:
    return f"{sum(scores) / len(scores):.2f}" if scores else "-"


def _family_table(tasks: Sequence[Task], by_temperature: Mapping[float, Sequence[float]]) -> list[str]:
    def row(name: str, chosen: Callable[[Task], bool]) -> str:
        at = [i for i, task in enumerate(tasks) if chosen(task)]
        means = [_mean([scores[i] for i in at]) for scores in by_temperature.values()]
        phrasings = [_mean([by_temperature[0.0][i] for i in at if tasks[i].phrasing == which]) for which in range(2)]
        return f"| {name} | {len(at)} | {' | '.join(means)} | {', '.join(phrasings)} |"

    return [
        f"| family | n | {' | '.join(f'T={t:g}' for t in by_temperature)} | T=0 by phrasing |",
        "|---|" + "---|" * (len(by_temperature) + 2),
        row("**all**", lambda _: True),
        *(row(family, lambda task, family=family: task.family == family) for family in FAMILIES),  # type: ignore[misc]
    ]


def _mixed_table(tasks: Sequence[Task], n_right: Sequence[float], n: int) -> list[str]:
    def row(name: str, counts: Sequence[float]) -> str:
        wrong, right = counts.count(0) / len(counts), counts.count(n) / len(counts)
        return f"| {name} | {1 - wrong - right:.0%} | {right:.0%} | {wrong:.0%} |"

    return [
        f"| {n} samples of {len(tasks)} demo prompts | right and wrong | only right | only wrong |",
        "|---|---|---|---|",
        row("**all**", list(n_right)),
        *(
            row(family, [c for task, c in zip(tasks, n_right, strict=True) if task.family == family])
            for family in FAMILIES
        ),
    ]
