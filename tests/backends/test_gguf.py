"""Headers written here byte by byte, as the format says."""

from __future__ import annotations

import struct

import pytest

from prefsmith.backends.gguf import read_gguf
from prefsmith.errors import UsageError


def string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def array(kind, values):
    body = b"".join(string(v) for v in values) if kind == 8 else struct.pack(f"<{len(values)}i", *values)
    return struct.pack("<IIQ", 9, kind, len(values)) + body


def key(name, raw):
    return string(name) + raw


TEXT = struct.pack("<I", 8)
KEYS = [
    key("general.architecture", TEXT + string("llama")),
    key("llama.context_length", struct.pack("<II", 4, 512)),
    key("llama.rope.freq_base", struct.pack("<If", 6, 1000.0)),
    key("tokenizer.chat_template", TEXT + string("{{ messages }}")),
    key("tokenizer.ggml.tokens", array(8, ["a", "<|end|>", "b", "<|user|>"])),
    key("tokenizer.ggml.token_type", array(5, [1, 3, 1, 3])),
]


def header(keys=KEYS, version=3):
    """A file with one F32 tensor of eight values."""
    tensor = string("weights") + struct.pack("<IQIQ", 1, 8, 0, 0)
    head = b"GGUF" + struct.pack("<IQQ", version, 1, len(keys)) + b"".join(keys) + tensor
    return head + b"\0" * (-len(head) % 32) + b"\0" * 32


def test_context_template_and_control_tokens_are_read(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(header())
    gguf = read_gguf(path)
    assert (gguf.n_ctx_train, gguf.has_template) == (512, True)
    assert gguf.control_tokens == ("<|end|>", "<|user|>")


def test_a_file_without_a_template_says_so(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(header([k for k in KEYS if b"chat_template" not in k]))
    assert not read_gguf(path).has_template


@pytest.mark.parametrize("missing", [b"context_length", b"ggml.tokens"])
def test_a_file_that_is_no_language_model_is_refused(tmp_path, missing):
    path = tmp_path / "m.gguf"
    path.write_bytes(header([k for k in KEYS if missing not in k]))
    with pytest.raises(UsageError, match="not a language model"):
        read_gguf(path)


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    path = tmp_path / "m.gguf"
    whole = header()
    for size in [*range(0, len(whole), 7), len(whole) - 1]:
        path.write_bytes(whole[:size])
        with pytest.raises(UsageError, match=r"cut off|no GGUF"):
            read_gguf(path)


def test_a_foreign_missing_or_newer_file_is_refused_by_name(tmp_path):
    path = tmp_path / "m.gguf"
    with pytest.raises(UsageError, match=r"there is no file '.*m\.gguf'"):
        read_gguf(path)
    with pytest.raises(UsageError, match="is no file"):
        read_gguf(tmp_path)
    path.write_bytes(b"PK\3\4" + b"\0" * 99)
    with pytest.raises(UsageError, match="is no GGUF"):
        read_gguf(path)
    path.write_bytes(header(version=9))
    with pytest.raises(UsageError, match="version 9"):
        read_gguf(path)
