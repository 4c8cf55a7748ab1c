"""What the stub lets in, how it answers, and what that comes to: limits, faults, storms, tokens and money.

Each request is appended to the log before it is answered, so that no kill of a client hides what it has cost. It
knows no sockets.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson
from answers import is_question, n_tokens, number_of, text_of, verdict_of

FAULTS = (
    ("429", 0.05),
    ("500", 0.02),
    ("reset", 0.01),
    ("truncated", 0.01),
    ("hang", 0.005),
    ("content_type", 0.005),
    ("error_body", 0.005),
    ("no_choices", 0.005),
)
"""Shares of all requests. This 429 has no Retry-After: it says nothing about the next request."""
_LATENCIES = 4096
_JSON, _HTML = b"application/json", b"text/html"
ERROR = b'{"error":{"message":"%b","type":"%b","code":null}}'


@dataclass(frozen=True, slots=True)
class Settings:
    """All off by default. Pairs are (start, length) in seconds after the first request."""

    latency_s: float = 0.0
    """Mean; lognormal around it."""
    spread: float = 0.4
    """Sigma of the logarithm."""
    rpm: int | None = None
    """Requests a minute, told in headers."""
    tpm: int | None = None
    """Tokens a minute."""
    window_s: float = 60.0
    """Length of the sliding window; a short one lets less of a minute's quota through at once."""
    hidden: int | None = None
    """Most in flight, told by nothing but the 429 above it."""
    faults: int | None = None
    """Seed of the faults."""
    storm: tuple[float, float] | None = None
    """Nothing but 429."""
    outage: tuple[float, float] | None = None
    """Nobody listens, and what was connected is cut off."""
    retry_after_s: float | None = 1.0
    """What the 429 of `hidden` and of a storm asks for."""
    usd_in: float = 1.0
    """Price of a million tokens."""
    usd_out: float = 4.0
    log: str | None = None


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: bytes = b""
    fault: str = "-"
    kind: bytes = _JSON


def _refusal(retry_after_s: float | None, headers: bytes = b"", fault: str = "-") -> Answer:
    wait = b"" if retry_after_s is None else b"retry-after: %g\r\n" % round(retry_after_s, 3)
    return Answer(429, ERROR % (b"Rate limit reached", b"rate_limit_error"), headers + wait, fault)


class Window:
    """What was let in during the last so many seconds; `a_minute` is what the headers say."""

    def __init__(self, a_minute: int, length_s: float) -> None:
        self._a_minute, self._length_s, self._sum = a_minute, length_s, 0
        self._most = round(a_minute * length_s / 60)
        self._kept: deque[tuple[float, int]] = deque()

    def left(self, now: float) -> int:
        while self._kept and self._kept[0][0] <= now - self._length_s:
            self._sum -= self._kept.popleft()[1]
        return self._most - self._sum

    def take(self, now: float, n: int) -> None:
        self._kept.append((now, n))
        self._sum += n

    def room_at(self, n: int) -> float:
        """When there will be room for so much, by the clock of `left`."""
        room = self._most - self._sum
        for t, taken in self._kept:
            room += taken
            if room >= n:
                return t + self._length_s
        return self._length_s

    def headers(self, now: float, what: bytes) -> bytes:
        left = max(0, self.left(now))
        reset_s = self._kept[0][0] + self._length_s - now if self._kept else 0.0
        values = (what, self._a_minute, what, left, what, reset_s)
        return b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %.3fs\r\n" % values


class Account:
    """One stretch of time under one set of settings: who is let in, and what it comes to."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        draws = random.Random(11)
        mu = -(settings.spread**2) / 2
        self._latencies = [
            settings.latency_s and settings.latency_s * draws.lognormvariate(mu, settings.spread)
            for _ in range(_LATENCIES)
        ]
        self._faults = None if settings.faults is None else random.Random(settings.faults)
        self._rpm = None if settings.rpm is None else Window(settings.rpm, settings.window_s)
        self._tpm = None if settings.tpm is None else Window(settings.tpm, settings.window_s)
        self._log = None if settings.log is None else os.open(settings.log, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        self.n_requests = self.n_prompt_tokens = self.n_completion_tokens = self.nanousd = 0
        self.statuses, self.faulted = Counter[int](), Counter[str]()
        self.in_flight = self.peak = 0
        self._area = 0.0
        self._first = self._changed = self._last = 0.0
        self._cpu_s = time.process_time()

    def move(self, by: int) -> None:
        """So many more in flight."""
        now = time.monotonic()
        self._area += self.in_flight * (now - self._changed)
        self._changed = self._last = now
        self.in_flight += by
        self.peak = max(self.peak, self.in_flight)

    def take(self, body: bytes) -> tuple[Answer, float]:
        """The answer to a request, and after how many seconds; a hang is never answered."""
        now = time.monotonic()
        if self.n_requests == 0:
            self._first = self._changed = now
        self.n_requests += 1
        asked = orjson.loads(body)
        content = asked["messages"][-1]["content"]
        n_prompt = sum(n_tokens(m["content"]) + 4 for m in asked["messages"])
        texts = _texts(asked, content)
        n_completion = sum(map(n_tokens, texts))
        answer = self._refused(now, n_prompt + n_completion)
        latency_s = 0.0 if answer else self._latencies[self.n_requests % _LATENCIES]
        if answer is None:
            answer = self._faulted(self._answered(now, asked["model"], texts, n_prompt, n_completion))
        if answer.status == 200:
            self.n_prompt_tokens += n_prompt
            self.n_completion_tokens += n_completion
            self.nanousd += round(1000 * (n_prompt * self.settings.usd_in + n_completion * self.settings.usd_out))
        self.statuses[answer.status] += 1
        self.faulted[answer.fault] += 1
        if self._log is not None:
            counted = (n_prompt, n_completion, self.in_flight + (answer.status != 429))
            place = (self.n_requests, time.time(), latency_s, answer.status, answer.fault.encode(), *counted)
            what = b"verdict" if is_question(content) else b"sample"
            os.write(self._log, b"%d %.4f %.4f %d %b %d %d %d %b %d\n" % (*place, what, number_of(content)))
        return answer, 0.0 if answer.status == 429 else latency_s

    def _refused(self, now: float, n: int) -> Answer | None:
        settings = self.settings
        if settings.storm and settings.storm[0] <= now - self._first < sum(settings.storm):
            return _refusal(settings.retry_after_s)
        if settings.hidden is not None and self.in_flight >= settings.hidden:
            return _refusal(settings.retry_after_s)
        for window, wanted in ((self._rpm, 1), (self._tpm, n)):
            if window is not None and window.left(now) < wanted:
                return _refusal(max(0.0, window.room_at(wanted) - now) + 0.001, self._headers(now))
        for window, wanted in ((self._rpm, 1), (self._tpm, n)):
            if window is not None:
                window.take(now, wanted)
        return None

    def _headers(self, now: float) -> bytes:
        out = b"" if self._rpm is None else self._rpm.headers(now, b"requests")
        return out if self._tpm is None else out + self._tpm.headers(now, b"tokens")

    def _answered(self, now: float, model: str, texts: list[str], n_prompt: int, n_completion: int) -> Answer:
        one = b'{"index":%d,"finish_reason":"stop","message":{"role":"assistant","content":%b}}'
        body = (
            b'{"id":"chatcmpl-%d","object":"chat.completion","created":1,"model":%b,"choices":[%b],'
            b'"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}'
        ) % (
            self.n_requests,
            orjson.dumps(model),
            b",".join([one % (i, orjson.dumps(text)) for i, text in enumerate(texts)]),
            n_prompt,
            n_completion,
            n_prompt + n_completion,
        )
        return Answer(200, body, self._headers(now) + b"x-request-id: req-%d\r\n" % self.n_requests)

    def _faulted(self, answer: Answer) -> Answer:
        if self._faults is None:
            return answer
        drawn = self._faults.random()
        for fault, share in FAULTS:
            drawn -= share
            if drawn < 0:
                return _FAULTY[fault](answer)._replace(fault=fault)
        return answer

    def stats(self) -> dict[str, Any]:
        """`mean_in_flight` is over the time from the first request to the last answer."""
        wall_s = self._last - self._first
        return {
            "n_requests": self.n_requests,
            "n_prompt_tokens": self.n_prompt_tokens,
            "n_completion_tokens": self.n_completion_tokens,
            "usd": self.nanousd / 1e9,
            "statuses": {str(k): n for k, n in self.statuses.items()},
            "faults": {k: n for k, n in self.faulted.items() if k != "-"},
            "peak_in_flight": self.peak,
            "mean_in_flight": self._area / wall_s if wall_s else 0.0,
            "wall_s": wall_s,
            "cpu_s": time.process_time() - self._cpu_s,
        }

    def close(self) -> None:
        if self._log is not None:
            os.close(self._log)


def _texts(asked: dict[str, Any], content: str) -> list[str]:
    n = asked.get("n") or 1
    if is_question(content):
        return [verdict_of(content)] * n
    temperature, seed = asked.get("temperature", 1.0), asked.get("seed") or 0
    return [text_of(content, temperature, seed, i) for i in range(n)]


_FAULTY: dict[str, Callable[[Answer], Answer]] = {
    "429": lambda a: _refusal(None),
    "500": lambda a: a._replace(status=500, body=ERROR % (b"The server had an error", b"server_error")),
    "reset": lambda a: a,
    "hang": lambda a: a,
    "truncated": lambda a: a._replace(body=a.body[: len(a.body) // 2]),
    "content_type": lambda a: a._replace(body=b"<html><body>Please sign in.</body></html>", kind=_HTML),
    "error_body": lambda a: a._replace(body=ERROR % (b"The engine is overloaded", b"overloaded_error")),
    "no_choices": lambda a: a._replace(body=b'{"id":"x","object":"chat.completion","choices":[]}'),
}
