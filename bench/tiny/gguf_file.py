"""Writes a trained Llama folder as one GGUF file that llama.cpp tokenises and computes alike.

Needs `gguf`, `numpy` and `safetensors`; neither torch nor a checkout of llama.cpp. Of the four settings marked
TRAP a wrong one does not fail: it makes the model quietly worse. The parity test in tests/bench guards them.
"""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from safetensors.numpy import load_file

Matrix = npt.NDArray[np.float16]

_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write_gguf(folder: Path, path: Path, name: str, licence: str) -> None:
    """Write the model of `folder` (fp16 safetensors, fast tokenizer, chat template) to `path`."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_license(licence)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    _add_shape(writer, config)
    _add_tokenizer(writer, folder, config)
    for key, tensor in load_file(folder / "model.safetensors").items():
        _add_tensor(writer, key, tensor, config["num_attention_heads"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_shape(writer: gguf.GGUFWriter, config: dict[str, Any]) -> None:
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // config["num_attention_heads"])
    # TRAP: llama.cpp assumes 10000 where the file is silent.
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])


def _add_tokenizer(writer: gguf.GGUFWriter, folder: Path, config: dict[str, Any]) -> None:
    spec = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    n = config["vocab_size"]
    tokens = [f"<|unused_{i}|>" for i in range(n)]
    kinds = [gguf.TokenType.UNUSED] * n
    for token, i in spec["model"]["vocab"].items():
        tokens[i], kinds[i] = token, gguf.TokenType.NORMAL
    for special in spec["added_tokens"]:
        tokens[special["id"]], kinds[special["id"]] = special["content"], gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    # TRAP: it names the split expression; ours is Llama 3's. Another one gives other ids to two-digit numbers.
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in spec["model"]["merges"]])
    writer.add_eos_token_id(config["eos_token_id"])
    writer.add_pad_token_id(config["pad_token_id"])
    # TRAP: `llama-bpe` puts a stray token in front of every prompt unless told not to.
    writer.add_add_bos_token(False)
    writer.add_chat_template((folder / "chat_template.jinja").read_text(encoding="utf-8"))


def _add_tensor(writer: gguf.GGUFWriter, key: str, tensor: Matrix, n_heads: int) -> None:
    if key == "model.embed_tokens.weight":  # also the output matrix: llama.cpp ties them where none is given
        writer.add_tensor("token_embd.weight", tensor)
    elif key == "model.norm.weight":
        writer.add_tensor("output_norm.weight", tensor.astype(np.float32))
    else:
        _, _, layer, *module, _ = key.split(".")
        theirs = _NAMES[".".join(module)]
        if theirs in ("attn_q", "attn_k"):
            tensor = _interleave(tensor, n_heads)
        writer.add_tensor(f"blk.{layer}.{theirs}.weight", tensor.astype(np.float32) if tensor.ndim == 1 else tensor)


def _interleave(matrix: Matrix, n_heads: int) -> Matrix:
    """TRAP: rows of Q and K from the half-split order of transformers to the interleaved order of llama.cpp."""
    rows, columns = matrix.shape
    halves = matrix.reshape(n_heads, 2, rows // n_heads // 2, columns)
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(rows, columns))
