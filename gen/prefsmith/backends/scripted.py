"""The shipped fake: a deterministic model, generator and judge in one, for trying recipes and for tests.

A text is a pure function of model, messages, sampling and seed + index, so n = 4 and four times n = 1 give the same
texts. Each text ends with a mark, `quality=D`; asked as a judge, the fake reads the marks and is right. Faults,
short replies, duplicates and unreadable verdicts come in the shares that the script asks for, drawn by hash.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from hashlib import blake2b
from itertools import accumulate

from prefsmith.endpoints import Endpoint, Script
from prefsmith.errors import CallFailed, MachineError
from prefsmith.reasons import Reason
from prefsmith.records import (
    CONCURRENCY,
    NEUTRAL,
    Capabilities,
    Generated,
    Json,
    Message,
    Reply,
    Request,
    Sampling,
    Usage,
    canonical,
)

KNOWS = frozenset({"temperature", "max_tokens", *NEUTRAL})
CHARS_PER_TOKEN = 4
_TALE = (
    "the river runs past an old stone mill where children fish on warm days and nobody counts the hours while "
    "bread cools at open windows a small boat waits under willows for those who would rather drift than walk each "
    "path leads back to the market square with its clock that has been five minutes late since anyone can remember"
)
_WORDS = tuple(_TALE.split())
_MARK = "quality="
_MASK = (1 << 64) - 1
# Constants of splitmix64 (Vigna, https://prng.di.unimi.it/splitmix64.c).
_GAMMA, _MIX = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9
_N_STARTS = 4096
_TAILS = tuple(f" {a} {b} quality={d}" for a in _WORDS[:16] for b in _WORDS[16:32] for d in range(10))
_N_TAILS = len(_TAILS)
_TAIL_CHARS = len(_TAILS[0])


def capabilities_of(endpoint: Endpoint) -> Capabilities:
    limits = endpoint.limits
    return Capabilities(
        KNOWS, endpoint.n_per_request, limits.concurrency or CONCURRENCY, rpm=limits.rpm, tpm=limits.tpm
    )


class Scripted:
    def __init__(self, *, target: str, endpoint: str, script: Script, capabilities: Capabilities) -> None:
        self.target = target
        self.endpoint = endpoint
        self._script = script
        self._capabilities = capabilities
        self._log: int | None = None
        self._attempts: dict[int, int] = {}
        self._prefixes: dict[tuple[str, Sampling], bytes] = {}
        self._n_body = max(1, script.chars - _TAIL_CHARS)
        self._corpus, self._starts = _corpus(self._n_body)

    async def open(self, longest: Sequence[tuple[Message, ...]], extra_tokens: int) -> None:
        del longest, extra_tokens
        if self._script.log is not None and self._log is None:
            try:
                self._log = os.open(self._script.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            except OSError as error:
                raise MachineError(
                    f"cannot write the script's log {str(self._script.log)!r}: {error.strerror}"
                ) from None

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def facts(self) -> Mapping[str, Json]:
        return {"script": self._script.model_dump(mode="json", exclude_defaults=True)}

    async def close(self) -> None:
        log, self._log = self._log, None
        if log is not None:
            os.close(log)

    async def send(self, request: Request) -> Reply:
        script = self._script
        said = canonical(request.messages)
        base = self._base(request, said)
        if self._log is not None:
            os.write(self._log, _logged(request, said))
        mean_s = script.latency_s
        if mean_s > 0:
            await asyncio.sleep(-mean_s * math.log(1 - _share(base, request.seed, b"latency")))
        else:
            await asyncio.sleep(0)
        if script.faults > 0:
            self._maybe_fail(base, request)
        n = 1 if script.n_ignored else request.n
        choices = (self._verdicts if request.labels else self._answers)(request, base, n)
        n_prompt, n_new = len(said) // CHARS_PER_TOKEN + 1, sum([c.n_tokens or 0 for c in choices])
        return Reply(tuple(choices), Usage(n_prompt, 0, n_new, 0), request.model, "scripted", None, 200)

    def _base(self, request: Request, said: bytes) -> int:
        """64 bits that stand for everything but seed, index and n."""
        known = (request.model, request.sampling)
        prefix = self._prefixes.get(known)
        if prefix is None:
            prefix = canonical([request.model, request.sampling.described()])
            self._prefixes[known] = prefix
        return int.from_bytes(blake2b(prefix + said, digest_size=8).digest(), "big")

    def _maybe_fail(self, base: int, request: Request) -> None:
        """Fail the first or the first two attempts of the chosen share of requests; the third always succeeds."""
        if _share(base, request.seed, b"fault") >= self._script.faults:
            return
        kind = _drawn(base, request.seed, b"kind")
        attempt = self._attempts.get(kind, 0)
        if attempt > kind % 2:
            return
        self._attempts[kind] = attempt + 1
        detail = f"scripted fault, attempt {attempt + 1}"
        match kind // 2 % 4:
            case 0:
                raise CallFailed(Reason.RATE_LIMITED, detail, http_status=429, retry_after_s=0.01)
            case 1:
                raise CallFailed(Reason.SERVER_ERROR, detail, http_status=500)
            case 2:
                raise CallFailed(Reason.TIMEOUT, detail, maybe_billed=True)
            case _:
                raise CallFailed(Reason.CONNECTION, detail, maybe_billed=True)

    def _verdicts(self, request: Request, base: int, n: int) -> list[Generated]:
        out = []
        for k, seed in enumerate(_seeds(request, n)):
            text = self._verdict(request, base, seed)
            out.append(Generated(k, {"role": "assistant", "content": text}, "stop", len(text) // CHARS_PER_TOKEN + 1))
        return out

    def _answers(self, request: Request, base: int, n: int) -> list[Generated]:
        """Texts made of a slice of the corpus and a tail: 11 million of them, so two indices are alike only when the
        script says so. One loop without calls: a fake that costs more than the engine would hide what that costs."""
        duplicates, truncated = self._script.duplicates, self._script.truncated
        corpus, starts, n_body = self._corpus, self._starts, self._n_body
        out = []
        for k, seed in enumerate(_seeds(request, n)):
            if duplicates > 0:
                seed = self._twin(base, seed)
            draw = (base + seed * _GAMMA) & _MASK
            draw = ((draw ^ (draw >> 30)) * _MIX) & _MASK
            start = starts[(draw >> 16) % _N_STARTS]
            text, finish_reason = corpus[start : start + n_body], "stop"
            if truncated > 0 and _share(base, seed, b"cut") < truncated:
                finish_reason = "length"
            else:
                text += _TAILS[(draw >> 40) % _N_TAILS]
            message: Message = {"role": "assistant", "content": text}
            out.append(Generated(k, message, finish_reason, len(text) // CHARS_PER_TOKEN + 1))
        return out

    def _twin(self, base: int, seed: int) -> int:
        """The seed whose text this one repeats: the index before, if that one is not itself a repetition."""
        for back in range(64):
            if _share(base, seed - back, b"twin") >= self._script.duplicates:
                return seed - back
        return 0

    def _verdict(self, request: Request, base: int, seed: int) -> str:
        if self._script.unparseable > 0 and _share(base, seed, b"unreadable") < self._script.unparseable:
            return "Both have their merits, and it would be hard to say more than that."
        label = _right_label(_last_user_text(request.messages), request.labels, partial(_drawn, base, seed, b"label"))
        return f"Read with care; the marks decide.\nVERDICT: {label}"


def _seeds(request: Request, n: int) -> range | tuple[int, ...]:
    """The seed of each index. A greedy answer has no draw in it: every index of every seed is the same text."""
    if request.sampling.temperature > 0:
        return range(request.seed, request.seed + n)
    return (0,) * n


def _right_label(text: str, labels: tuple[str, ...], drawn: Callable[[], int]) -> str:
    """The label that the marks in the text call for; without marks that fit, one by the draw."""
    marks, scale = _last_marks(text), _scale(labels)
    if marks and scale is not None:
        low, high = scale
        # A scale of nine or more takes the mark as it is; a shorter one is divided evenly.
        return str(low + (min(high - low, marks[-1]) if high - low >= 8 else marks[-1] * (high - low + 1) // 10))
    if len(marks) == 2 and "A" in labels and "B" in labels:
        first, second = marks
        if first != second:
            return "A" if first > second else "B"
        if "TIE" in labels:
            return "TIE"
    return labels[drawn() % len(labels)]


def _last_marks(text: str) -> list[int]:
    """The last two at most, from the end on: a judge's prompt is long, and this is done for every verdict."""
    out: list[int] = []
    at = len(text)
    while len(out) < 2 and (at := text.rfind(_MARK, 0, at)) >= 0:
        digit = text[at + len(_MARK) : at + len(_MARK) + 1]
        if digit.isdecimal():
            out.insert(0, int(digit))
    return out


@lru_cache(maxsize=64)
def _scale(labels: tuple[str, ...]) -> tuple[int, int] | None:
    """Lowest and highest of labels that are all numbers."""
    if not all(label.isdigit() for label in labels):
        return None
    numbers = [int(label) for label in labels]
    return min(numbers), max(numbers)


def _last_user_text(messages: Sequence[Message]) -> str:
    for message in reversed(messages):
        if message["role"] == "user":
            return message["content"] or ""
    return ""


def _drawn(base: int, seed: int, what: bytes) -> int:
    raw = blake2b(b"%x:%x:%s" % (base, seed, what), digest_size=8).digest()
    return int.from_bytes(raw, "big")


def _share(base: int, seed: int, what: bytes) -> float:
    """A draw in [0, 1) for one question about one index."""
    return _drawn(base, seed, what) / 2**64


def _logged(request: Request, said: bytes) -> bytes:
    """One line, written at once and before the answer: what was asked is known even if the asker is killed."""
    line = {
        "model": request.model,
        "messages": blake2b(said, digest_size=16).hexdigest(),
        "sampling": request.sampling.described(),
        "seed": request.seed,
        "n": request.n,
        "labels": list(request.labels),
    }
    return canonical(line) + b"\n"


def _corpus(n_chars: int) -> tuple[str, tuple[int, ...]]:
    """A long text of plain words, and the places where its words begin, each with `n_chars` characters after it."""
    words = [_WORDS[_drawn(i, 0, b"corpus") % len(_WORDS)] for i in range(_N_STARTS + n_chars)]
    starts = tuple(accumulate((len(word) + 1 for word in words[: _N_STARTS - 1]), initial=0))
    return " ".join(words), starts
