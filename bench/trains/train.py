"""Trains one model by one method with TRL, and writes it: a process of its own, so that its CPU can be told.

    python bench/trains/train.py --model DIR --pairs FILE.jsonl --method dpo|sft --out DIR [settings]

It is written as GGUF (tuned.gguf) where the base has one, else in transformers' form (tuned/). On a GPU where there is
one, else on one thread.

DPO as published (sigmoid loss, no term of its own for the chosen side); SFT sees the chosen side alone, in the same
order, by the same optimiser, for as many steps. Prints one line of JSON: settings, steps, loss, CPU-seconds, versions.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
MAX_LENGTH = 512


def arguments(args: argparse.Namespace) -> dict[str, Any]:
    """What both trainers are told."""
    import torch

    on_gpu = torch.cuda.is_available()
    return {
        "learning_rate": args.lr,
        "num_train_epochs": args.epochs,
        "per_device_train_batch_size": args.batch,
        "gradient_accumulation_steps": 1,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.1,
        "adam_beta2": 0.98,
        "max_grad_norm": 1.0,
        "max_length": MAX_LENGTH,
        "use_cpu": not on_gpu,
        "bf16": on_gpu,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "logging_steps": 1,
        "seed": args.seed,
        "output_dir": str(args.out / "checkpoints"),
    }


def trained(args: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    import torch
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils.logging import disable_progress_bar
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    torch.set_num_threads(1)
    disable_progress_bars()
    disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    torch.manual_seed(args.seed)
    if args.lora:
        adapted(model, *args.lora)
    rows = [json.loads(line) for line in args.pairs.read_text(encoding="utf-8").split("\n") if line]
    began = time.process_time()
    if args.method == "dpo":
        config = DPOConfig(
            beta=args.beta, precompute_ref_log_probs=True, precompute_ref_batch_size=128, **arguments(args)
        )
        trainer: Any = DPOTrainer(
            model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer
        )
    else:
        chosen = Dataset.from_list([{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows])
        trainer = SFTTrainer(
            model=model, args=SFTConfig(**arguments(args)), train_dataset=chosen, processing_class=tokenizer
        )
    done = trainer.train()
    merged(model)
    return model, {
        "method": args.method,
        "pairs": len(rows),
        "lr": args.lr,
        "beta": args.beta if args.method == "dpo" else None,
        "epochs": args.epochs,
        "batch": args.batch,
        "lora": args.lora,
        "seed": args.seed,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU, one thread",
        "steps": done.global_step,
        "loss": done.training_loss,
        "cpu_s_trainer": time.process_time() - began,
    }


def adapted(model: Any, rank: int, n_blocks: int) -> None:
    """LoRA (Hu et al., 2106.09685) on all matrices of the upper blocks, everything else frozen: W + 2 B A, B zero at
    the start, as peft's `lora_alpha = 2 r`."""
    import torch
    from torch.nn.utils import parametrize

    class Low(torch.nn.Module):
        def __init__(self, rows: int, columns: int) -> None:
            super().__init__()
            self.a = torch.nn.Parameter(torch.randn(rank, columns) / columns**0.5)
            self.b = torch.nn.Parameter(torch.zeros(rows, rank))

        def forward(self, weight: Any) -> Any:
            return weight + 2 * self.b @ self.a

    model.requires_grad_(False)
    for block in model.model.layers[-n_blocks:]:
        for part in [m for m in block.modules() if isinstance(m, torch.nn.Linear)]:
            parametrize.register_parametrization(part, "weight", Low(*part.weight.shape))


def merged(model: Any) -> None:
    from torch.nn.utils import parametrize

    for part in model.modules():
        if parametrize.is_parametrized(part):
            parametrize.remove_parametrizations(part, "weight", leave_parametrized=True)


def written(model: Any, base: Path, gguf: Path | None, out: Path) -> None:
    """One GGUF, like the base's, small enough to be read as it is or in eight bits; or a folder for vLLM."""
    if gguf is None:
        from transformers import AutoTokenizer

        model.save_pretrained(out / "tuned")
        AutoTokenizer.from_pretrained(base).save_pretrained(out / "tuned")
        return
    from gguf_like import write_like

    weights = model.state_dict()
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    eight_bits = config["hidden_size"] > 256
    write_like(gguf, lambda name: weights[name].float().cpu().numpy(), config, out / "tuned.gguf", q8=eight_bits)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="the base's folder in transformers' form")
    add("--gguf", type=Path, help="the base as GGUF, whose header the tuned one gets")
    add("--pairs", type=Path, required=True)
    add("--method", choices=("dpo", "sft"), required=True)
    add("--out", type=Path, required=True)
    add("--beta", type=float, default=0.1)
    add("--lr", type=float, default=5e-4)
    add("--epochs", type=int, default=1)
    add("--batch", type=int, default=32)
    add("--lora", type=int, nargs=2, metavar=("RANK", "BLOCKS"), help="train low ranks of the upper blocks only")
    add("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model, told = trained(args)
    written(model, args.model, args.gguf, args.out)
    shutil.rmtree(args.out / "checkpoints", ignore_errors=True)
    names = ("torch", "trl", "transformers", "datasets", "gguf")
    print(json.dumps({**told, "cpu_s": time.process_time(), "versions": {n: version(n) for n in names}}))


if __name__ == "__main__":
    main()
