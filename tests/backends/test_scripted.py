from __future__ import annotations

import asyncio
import json
import re
import time

import pytest

from prefsmith.backends import resolve
from prefsmith.endpoints import Endpoint, Script
from prefsmith.errors import CallFailed
from prefsmith.reasons import Reason
from prefsmith.records import Request, Sampling

ASK = Request("m", ({"role": "user", "content": "Tell me something."},), Sampling(), 1, 100)
DIGITS = tuple("123456789")


def asked(*requests, **script):
    """The replies, or failures, of one fake to these requests, one after another."""

    async def main():
        backend = resolve("fake:m", {"fake": Endpoint(script=Script(**script))}).make()[0].backend
        await backend.open((), 0)
        out = []
        for request in requests:
            try:
                out.append(await backend.send(request))
            except CallFailed as failed:
                out.append(failed)
        await backend.close()
        return out

    return asyncio.run(main())


def texts(*replies):
    return [c.message["content"] for r in replies for c in r.choices]


def judged(text, labels, seed=0, **script):
    (reply,) = asked(Request("m", ({"role": "user", "content": text},), Sampling(), 1, seed, labels=labels), **script)
    return texts(reply)[0]


def test_four_at_once_are_four_times_one():
    (four,) = asked(ASK._replace(n=4))
    ones = asked(*(ASK._replace(seed=100 + k) for k in range(4)))
    assert texts(four) == texts(*ones)
    assert len(set(texts(four))) == 4


def test_a_text_hangs_on_model_messages_sampling_and_seed_and_on_nothing_else():
    others = [
        ASK._replace(model="other"),
        ASK._replace(messages=({"role": "user", "content": "Tell me nothing."},)),
        ASK._replace(sampling=Sampling(temperature=0.5)),
        ASK._replace(seed=101),
    ]
    assert len(set(texts(*asked(ASK, *others)))) == 5
    assert texts(*asked(ASK)) == texts(*asked(ASK)) == texts(*asked(ASK._replace(tools=())))


def test_texts_have_the_length_asked_for_and_a_mark_of_every_quality():
    (reply,) = asked(ASK._replace(n=128), chars=300)
    found = [re.search(r" quality=(\d)$", t) for t in texts(reply)]
    assert all(280 <= len(t) <= 310 for t in texts(reply))
    assert {m.group(1) for m in found} == set("0123456789")


def test_greedy_answers_are_one_text():
    (reply,) = asked(ASK._replace(n=4, sampling=Sampling(temperature=0)))
    assert len(set(texts(reply))) == 1


def test_usage_adds_up():
    (reply,) = asked(ASK._replace(n=5))
    assert reply.usage.n_completion_tokens == sum(c.n_tokens for c in reply.choices)
    assert reply.usage.n_prompt_tokens > 0


def test_marks_are_read_as_scores_on_the_scale_of_the_labels():
    for quality, score in ((0, 1), (4, 5), (8, 9), (9, 9)):
        assert judged(f"An answer quality={quality}", DIGITS).endswith(f"\nVERDICT: {score}")
    assert judged("An answer quality=9", tuple("12345")).endswith("\nVERDICT: 5")
    assert judged("An answer quality=0", tuple("12345")).endswith("\nVERDICT: 1")


def test_the_better_of_two_wins_in_either_order():
    labels = ("A", "B", "TIE")
    assert judged("one quality=7 two quality=3", labels).endswith("VERDICT: A")
    assert judged("one quality=3 two quality=7", labels).endswith("VERDICT: B")
    assert judged("one quality=5 two quality=5", labels).endswith("VERDICT: TIE")
    assert judged("one quality=5 two quality=5", ("A", "B"))[-1] in "AB"


def test_without_marks_the_verdict_is_some_label_and_the_same_each_time():
    said = {judged(f"answer {i}", ("A", "B")) for i in range(30)}
    assert {s[-1] for s in said} == {"A", "B"}
    assert judged("answer 1", ("A", "B")) == judged("answer 1", ("A", "B"))


def test_the_share_of_unreadable_verdicts_is_kept_and_a_repair_can_succeed():
    asks = [
        Request("m", ({"role": "user", "content": f"answer {i} quality=3"},), Sampling(), 1, i, labels=DIGITS)
        for i in range(400)
    ]
    readable = ["VERDICT:" in t for t in texts(*asked(*asks, unparseable=0.3))]
    assert 0.2 < readable.count(False) / 400 < 0.4
    again = [r._replace(messages=(*r.messages, {"role": "user", "content": "quality=3, verdict?"})) for r in asks]
    repaired = ["VERDICT:" in t for t in texts(*asked(*again, unparseable=0.3))]
    assert any(second and not first for first, second in zip(readable, repaired, strict=True))


def test_shares_of_truncated_and_duplicate_texts_are_kept():
    (reply,) = asked(ASK._replace(n=500), truncated=0.2)
    cut = [c for c in reply.choices if c.finish_reason == "length"]
    assert 60 < len(cut) < 140
    assert not any("quality=" in c.message["content"] for c in cut)
    (reply,) = asked(ASK._replace(n=500), duplicates=0.3)
    shared = [t for t in texts(reply) if texts(reply).count(t) > 1]
    assert 100 < 500 - len(set(texts(reply))) < 200
    assert len(shared) > 200
    (reply,) = asked(ASK._replace(n=20), duplicates=1.0)
    assert len(set(texts(reply))) == 1


def test_faults_hit_first_attempts_only_and_are_of_all_four_kinds():
    asks = [ASK._replace(seed=s) for s in range(200)]
    rounds = asked(*asks, *asks, *asks, faults=0.5)
    first, second, third = rounds[:200], rounds[200:400], rounds[400:]
    failed = [r for r in first if isinstance(r, CallFailed)]
    assert 70 < len(failed) < 130
    assert 0 < sum(isinstance(r, CallFailed) for r in second) < len(failed)
    assert not any(isinstance(r, CallFailed) for r in third)
    assert {f.reason for f in failed} == {
        Reason.RATE_LIMITED,
        Reason.SERVER_ERROR,
        Reason.TIMEOUT,
        Reason.CONNECTION,
    }
    assert texts(*third) == texts(*asked(*asks)), "a fault changes no text"


def test_a_server_that_ignores_n_returns_the_first_choice():
    (four,) = asked(ASK._replace(n=4))
    (short,) = asked(ASK._replace(n=4), n_ignored=True)
    assert texts(short) == texts(four)[:1]


def test_each_request_is_logged_before_its_answer(tmp_path):
    log = tmp_path / "asked.jsonl"

    async def main():
        backend = resolve("fake:m", {"fake": Endpoint(script=Script(log=log, latency_s=60))}).make()[0].backend
        await backend.open((), 0)
        task = asyncio.create_task(backend.send(ASK._replace(n=3)))
        await asyncio.sleep(0.05)
        written = log.read_text()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await backend.close()
        return written

    (line,) = asyncio.run(main()).splitlines()
    assert json.loads(line)["seed"] == 100
    assert json.loads(line)["n"] == 3
    asked(ASK._replace(seed=7), log=log)
    assert [json.loads(x)["seed"] for x in log.read_text().splitlines()] == [100, 7]


def test_latencies_are_drawn_by_seed_around_their_mean():
    async def main():
        backend = resolve("fake:m", {"fake": Endpoint(script=Script(latency_s=0.02))}).make()[0].backend
        await backend.open((), 0)

        async def timed(seed):
            t = time.perf_counter()
            await backend.send(ASK._replace(seed=seed))
            return time.perf_counter() - t

        return await asyncio.gather(*(timed(s) for s in range(200)))

    waits = sorted(asyncio.run(main()))
    assert 0.012 < sum(waits) / 200 < 0.06
    assert waits[-1] > 3 * waits[100] > 0


@pytest.mark.parametrize("n", [1, 8])
def test_the_fake_is_cheap(n):
    """A bound for a loaded machine; idle it is about 7 microseconds for one choice and 19 for eight."""

    async def main():
        backend = resolve("scripted:m", {}).make()[0].backend
        await backend.open((), 0)
        t = time.process_time()
        for seed in range(1000):
            await backend.send(ASK._replace(n=n, seed=seed * n))
        return (time.process_time() - t) / 1000

    assert asyncio.run(main()) < 100e-6
