"""Trains one model by one method with TRL, and writes it as GGUF: a process of its own, so that its CPU can be told.

    python bench/trains/train.py --model DIR --pairs FILE.jsonl --method dpo|sft --out DIR [settings]

DPO as published (sigmoid loss, no term of its own for the chosen side); SFT sees the chosen side alone, in the same
order, by the same optimiser, for as many steps. Prints one line of JSON: settings, steps, loss, CPU-seconds, versions.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tiny"))
MAX_LENGTH = 512
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json")


def arguments(args: argparse.Namespace) -> dict[str, Any]:
    """What both trainers are told."""
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
        "use_cpu": True,
        "bf16": False,
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
    return model, {
        "method": args.method,
        "pairs": len(rows),
        "lr": args.lr,
        "beta": args.beta if args.method == "dpo" else None,
        "epochs": args.epochs,
        "batch": args.batch,
        "seed": args.seed,
        "steps": done.global_step,
        "loss": done.training_loss,
        "cpu_s_trainer": time.process_time() - began,
    }


def saved(model: Any, base: Path, out: Path) -> None:
    """The folder in fp16 with the base's tokenizer beside it, and the GGUF of the same numbers."""
    from gguf_file import write_gguf

    model.half().save_pretrained(out)
    for name in TOKENIZER:
        if (base / name).exists():
            shutil.copy(base / name, out / name)
    write_gguf(out, out / "tuned.gguf", name=out.name, licence="apache-2.0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", type=Path, required=True, help="the base's folder in transformers' form")
    add("--pairs", type=Path, required=True)
    add("--method", choices=("dpo", "sft"), required=True)
    add("--out", type=Path, required=True)
    add("--beta", type=float, default=0.1)
    add("--lr", type=float, default=5e-4)
    add("--epochs", type=int, default=1)
    add("--batch", type=int, default=32)
    add("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    model, told = trained(args)
    saved(model, args.model, args.out)
    shutil.rmtree(args.out / "checkpoints", ignore_errors=True)
    names = ("torch", "trl", "transformers", "datasets", "gguf")
    print(json.dumps({**told, "cpu_s": time.process_time(), "versions": {n: version(n) for n in names}}))


if __name__ == "__main__":
    main()
