"""The bundled model, served for real inside this process."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from prefsmith.backends import resolve
from prefsmith.backends.embedded import lacking, n_slots, n_threads
from prefsmith.errors import CallFailed, UsageError
from prefsmith.judging.expect import TOP
from prefsmith.judging.parse import read_choice, verdict_schema
from prefsmith.reasons import Reason
from prefsmith.records import Request, Sampling

QUESTION = ({"role": "user", "content": "Tom has 3 apples and buys 4 more. How many apples has Tom?"},)


def asked(*requests, extra_tokens=40, longest=(QUESTION,)):
    """The replies (or failures) to requests that are all in flight at once."""

    async def main():
        resolved = resolve("embedded:tiny", {})
        backend = resolved.make()[0].backend
        await backend.open(longest, extra_tokens)
        try:
            named = [r._replace(model=resolved.wire_model) for r in requests]
            return await asyncio.gather(*map(backend.send, named), return_exceptions=True), backend.capabilities()
        finally:
            await backend.close()

    return asyncio.run(main())


def request(seed, **sampling):
    return Request("", QUESTION, Sampling(max_tokens=24, **sampling), 1, seed)


def text(reply):
    return reply.choices[0].message["content"]


def test_a_seed_gives_the_same_text_alone_and_among_twenty_in_flight():
    (alone,), _ = asked(request(7))
    together, _ = asked(*(request(seed) for seed in range(20)))
    assert text(together[7]) == text(alone)
    assert len({text(r) for r in together}) > 5, "other seeds give other texts"


def test_a_reply_names_no_path_and_counts_its_tokens():
    (reply,), capabilities = asked(request(1))
    assert reply.model_reported == resolve("embedded:tiny", {}).identity.model
    assert reply.usage.n_completion_tokens == reply.choices[0].n_tokens > 0
    assert reply.usage.n_prompt_tokens > 10
    assert capabilities.n_per_request == 1, "llama.cpp counts the tokens of one choice of n"
    assert capabilities.concurrency == 20


def test_a_slot_is_as_long_as_the_longest_prompt_and_its_answer_need():
    long = ({"role": "user", "content": "7 " * 150},)
    _, short = asked(request(1))
    (reply,), grown = asked(request(1)._replace(messages=long), longest=(QUESTION, long))
    assert short.n_ctx_tokens == 256
    assert grown.n_ctx_tokens == 512
    assert reply.usage.n_prompt_tokens > 256


def test_more_than_the_model_holds_is_refused_before_anything_is_sampled():
    with pytest.raises(UsageError, match=r"holds 512 tokens.*lower max_tokens to \d+"):
        asked(extra_tokens=512)
    with pytest.raises(UsageError, match=r"holds 512 tokens.*; the longest prompt has \d+.*leave out the longest"):
        asked(longest=(({"role": "user", "content": "word " * 600},),))


def test_a_prompt_longer_than_its_slot_is_too_long_and_not_asked_again():
    (failed,), _ = asked(request(1)._replace(messages=({"role": "user", "content": "7 " * 300},)))
    assert isinstance(failed, CallFailed)
    assert failed.reason is Reason.CONTEXT_TOO_LONG
    assert not failed.reason.owed


def test_the_server_takes_no_requests_of_others_and_is_gone_after_close():
    async def main():
        backend = resolve("embedded:tiny", {}).make()[0].backend
        await backend.open((QUESTION,), 16)
        url = backend._client.facts()["url"] + "/chat/completions"
        call = urllib.request.Request(url, b'{"messages": []}', {"Content-Type": "application/json"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            await asyncio.to_thread(urllib.request.urlopen, call, timeout=10)
        refused.value.close()
        await backend.close()
        with pytest.raises(urllib.error.URLError, match="refused"):
            await asyncio.to_thread(urllib.request.urlopen, call, timeout=10)
        return refused.value.code

    assert asyncio.run(main()) == 401


ON_ONE_CORE = """
import asyncio, os
from prefsmith.backends import resolve
from prefsmith.errors import UsageError
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
async def main():
    for _ in range(3):
        backend = resolve("embedded:tiny", {}).make()[0].backend
        try:
            await backend.open((), 600)
        except UsageError:
            await backend.close()
asyncio.run(main())
"""


def test_a_server_stopped_right_after_its_start_does_not_hang():
    """llama.cpp waits for ever for a task loop that was told to end before it began: on one core, each time."""
    subprocess.run([sys.executable, "-c", ON_ONE_CORE], timeout=30, check=True)


def test_control_tokens_and_context_are_known_before_opening():
    capabilities = resolve("embedded:tiny", {}).capabilities
    assert "<|user|>" in capabilities.control_tokens
    assert capabilities.n_ctx_tokens == 512


def test_a_cpu_without_avx2_is_told_by_name():
    flags = "processor : 0\nflags\t\t: fpu sse4_2 {}\n"
    assert lacking("x86_64", flags.format("fma f16c")) == ("avx2",)
    assert lacking("x86_64", flags.format("avx2 fma f16c")) == ()
    assert lacking("aarch64", "Features : asimd") == ()


def test_slots_and_threads_follow_size_and_load():
    assert (n_slots(2_000_000), n_slots(98_000_000)) == (16, 8)
    assert n_threads(0.1, 16, 2_000_000) == 1
    assert n_threads(9.0, 16, 98_000_000) == 1
    assert n_threads(0.1, 4, 98_000_000) == 4
    assert n_threads(0.1, 64, 98_000_000) == 8


def test_a_judges_request_brings_alternatives_of_each_token_or_a_verdict_within_its_schema():
    """What `logprobs` and `structured` judges ask of a real server."""
    likely = Request("", QUESTION, Sampling(0.0, 8), top_logprobs=TOP)
    bound = Request("", QUESTION, Sampling(0.0, 60), schema=verdict_schema(("A", "B")))
    (told, held), _ = asked(likely, bound, extra_tokens=64)
    tokens = told.choices[0].tokens
    assert "".join(token.text for token in tokens) == text(told)
    assert all(len(token.top) == TOP and token.text == token.top[0][0] for token in tokens)
    assert read_choice(held.choices[0], ("A", "B")).position in (0, 1)
