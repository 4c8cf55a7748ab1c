"""SmolLM2-135M as trainers and llama.cpp take it, of the same numbers: made once from the shipped Q4_1 GGUF.

The base of the comparison is written as the tuned models are (eight bits), so that only the training differs.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from base import Base

os.environ["HF_HUB_OFFLINE"] = "1"


def made(folder: Path) -> Base:
    """Fetches the model when it is not in the cache."""
    from prefsmith.backends.smollm2 import fetched

    home, gguf = made = Base(folder / "base", folder / "base.gguf")
    if gguf.exists():
        return made
    import torch
    from gguf_like import write_like
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = fetched()
    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(home)
    # Else transformers refuses to save what was read from a GGUF.
    model.hf_quantizer, model.is_quantized = None, False
    del model.config.quantization_config
    model.save_pretrained(home)
    weights = model.state_dict()
    config = json.loads((home / "config.json").read_text(encoding="utf-8"))
    write_like(source, lambda name: weights[name].float().numpy(), config, folder / "base.part", q8=True)
    (folder / "base.part").rename(gguf)
    return made
