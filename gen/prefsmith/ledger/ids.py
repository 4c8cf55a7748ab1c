"""What is hashed, and how: the one place where a key is made.

A key names what can change an answer, and nothing else. All hashes are blake2b of 16 bytes over a kind word and the
canonical JSON of the value, so that two kinds never meet. Never hashed: n, addresses, keys, time-outs, cache hints.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from prefsmith.records import Item, Json, Prompt, Sampler, canonical

SIZE = 16


def digest(kind: str, value: Json) -> bytes:
    return begun(kind, canonical(value)).digest()


def begun(kind: str, body: bytes) -> blake2b:
    """A digest whose value's canonical JSON begins so: what goes on differently from here is hashed from its copies."""
    return blake2b(body, digest_size=SIZE, person=kind.encode())


def text_hash(body: bytes) -> bytes:
    """Hash of a stored text, reply or artifact: over its bytes as they are."""
    return blake2b(body, digest_size=SIZE).digest()


def prompt_hash(prompt: Prompt) -> bytes:
    return digest("prompt", [prompt.messages, prompt.tools, prompt.parallel_tool_calls])


def item_hash(item: Item, of_prompt: bytes) -> bytes:
    return digest("item", [of_prompt.hex(), item.reference, item.category, dict(item.columns)])


def sampler_hash(sampler: Sampler) -> bytes:
    return digest("sampler", sampler.described())


def judge_hash(described: Json) -> bytes:
    """`described`: a judge's ask half: kind, ask version, prompt text, criteria, choices, scale, model, sampling."""
    return digest("judge", described)


NO_READS = digest("reads", {})
"""Hash of what a judge reads that names no column, or none that the item has."""


def reads_hash(item: Item, names: Sequence[str] | None) -> bytes:
    """Hash of the columns that a judge names; a judge that reads none has the same one everywhere."""
    if names is not None and not names:
        return NO_READS
    return digest("reads", item.read(names))


def base_seed(run_seed: int, of_prompt: bytes, of_sampler: bytes) -> int:
    """31 bits, so that base + index stays below what llama.cpp keeps (32 bits, the highest meaning random).

    vLLM and llama.cpp give choice k of one request the seed base + k: n=4 and four times n=1 are the same work.
    """
    of_both = blake2b(run_seed.to_bytes(16, "big", signed=True) + of_prompt + of_sampler, digest_size=8, person=b"seed")
    return int.from_bytes(of_both.digest(), "big") >> 33


def draw(seed: int, *parts: bytes | int) -> int:
    """A reproducible 64-bit draw: ties and random picks come from here, never from a position."""
    told = [b"%d" % seed, *[part if isinstance(part, bytes) else b"%d" % part for part in parts]]
    return int.from_bytes(blake2b(b"\x1f".join(told), digest_size=8, person=b"draw").digest(), "big")
