"""Writes trained weights into a GGUF like that of the model they began as: its header to the letter, other numbers.

So tokens, chat template and everything that a wrong value would make quietly worse are the base's own. Llama
architecture only: names and the order of the rows of Q and K are translated from transformers' form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
_WHOLE = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_IN_BLOCK = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


def write_like(base: Path, weight: Callable[[str], Floats], config: Mapping[str, Any], path: Path, *, q8: bool) -> None:
    """`weight`: by its name in transformers. Matrices are fp16, or Q8_0, which a CPU computes faster; norms fp32."""
    read = gguf.GGUFReader(base)
    writer = gguf.GGUFWriter(path, "llama")
    for field in read.fields.values():
        if field.name == "general.architecture" or field.name.startswith("GGUF."):
            continue
        kind = field.types[0]
        value = field.contents()
        if field.name == "general.file_type":
            value = gguf.LlamaFileType.MOSTLY_Q8_0 if q8 else gguf.LlamaFileType.MOSTLY_F16
        writer.add_key_value(field.name, value, kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    for tensor in read.tensors:
        theirs, part = _named(tensor.name)
        numbers = weight(theirs)
        if part in heads:
            numbers = _interleaved(numbers, heads[part])
        if numbers.ndim == 1:
            writer.add_tensor(tensor.name, numbers)
        elif q8:
            kind8 = gguf.GGMLQuantizationType.Q8_0
            writer.add_tensor(tensor.name, gguf.quants.quantize(numbers, kind8), raw_dtype=kind8)
        else:
            writer.add_tensor(tensor.name, numbers.astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _named(name: str) -> tuple[str, str]:
    """The name in transformers' form, and the part of a block that it is."""
    if name in _WHOLE:
        return _WHOLE[name], ""
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{_IN_BLOCK[part]}.weight", part


def _interleaved(matrix: Floats, n_heads: int) -> Floats:
    """Rows of Q and K from transformers' halves to llama.cpp's pairs, head by head."""
    rows, columns = matrix.shape
    halves = matrix.reshape(n_heads, 2, rows // n_heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))
