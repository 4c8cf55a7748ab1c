"""The stub that the benches measure against: what it promises about limits, faults, money and its log."""

from __future__ import annotations

import importlib
import json
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"
MODULES = ("account", "answers", "audit", "farm", "measure", "stub")


@pytest.fixture(scope="module")
def bench() -> Iterator[Any]:
    """Imports a module of bench/, a folder of programs and not a package; its plain names are forgotten after."""
    sys.path.insert(0, str(BENCH))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(BENCH))
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def served(bench: Any) -> Iterator[Any]:
    with bench("measure").Served() as served:
        yield served


def account(bench: Any, **settings: Any) -> Any:
    module = bench("account")
    return module.Account(module.Settings(**settings))


def body(content: str = "Tell me.", **fields: Any) -> bytes:
    return json.dumps({"model": "fake-1", "messages": [{"role": "user", "content": content}], **fields}).encode()


def asked(served: Any, path: str = "/chat/completions", raw: bytes | None = None) -> tuple[HTTPResponse, bytes]:
    port = int(served.url.split(":")[2].partition("/")[0])
    with closing(HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("POST" if raw else "GET", f"/v1{path}", raw)
        response = connection.getresponse()
        return response, response.read()


def test_the_same_request_has_the_same_answer_and_another_seed_another(served: Any) -> None:
    served.begin()
    texts = [
        json.loads(asked(served, raw=body(temperature=0.7, seed=seed, n=2))[1])["choices"][i]["message"]["content"]
        for seed, i in ((1, 0), (1, 0), (1, 1), (2, 0))
    ]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_the_models_are_listed_and_other_paths_are_not_found(served: Any) -> None:
    assert json.loads(asked(served, "/models")[1])["data"][0]["id"] == "fake-1"
    assert asked(served, "/embeddings", b"{}")[0].status == 404


def test_usage_is_what_the_account_counts_and_charges(served: Any) -> None:
    served.begin(usd_in=1.0, usd_out=4.0)
    usage = json.loads(asked(served, raw=body())[1])["usage"]
    stats = served.stats()
    assert (stats["n_prompt_tokens"], stats["n_completion_tokens"]) == (6, usage["completion_tokens"])
    assert stats["usd"] == pytest.approx((6 + 4 * usage["completion_tokens"]) / 1e6)


def test_a_known_rate_is_told_in_headers_and_refused_above(served: Any) -> None:
    served.begin(rpm=120, window_s=1.0)
    first, second, third = (asked(served, raw=body())[0] for _ in range(3))
    assert (first.status, second.status, third.status) == (200, 200, 429)
    assert first.headers["x-ratelimit-limit-requests"] == "120"
    assert [r.headers["x-ratelimit-remaining-requests"] for r in (first, second)] == ["1", "0"]
    wait_s = float(third.headers["retry-after"])
    assert 0 < wait_s <= 1.01
    time.sleep(wait_s)
    assert asked(served, raw=body())[0].status == 200


def test_tokens_a_minute_say_when_there_is_room_for_so_many(bench: Any) -> None:
    window = bench("account").Window(600, 10.0)  # 100 in ten seconds
    for t, n in ((0.0, 40), (3.0, 50)):
        assert window.left(t) >= n
        window.take(t, n)
    assert window.left(4.0) == 10
    assert (window.room_at(50), window.room_at(51)) == (10.0, 13.0)
    assert window.left(10.5) == 50


def test_above_the_hidden_limit_is_a_429_that_asks_for_a_second(bench: Any) -> None:
    counted = account(bench, hidden=2)
    for status in (200, 200, 429):
        answer, _ = counted.take(body())
        assert answer.status == status
        counted.move(status == 200)
    assert b"retry-after: 1\r\n" in answer.headers
    assert counted.stats()["peak_in_flight"] == 2


def test_faults_come_as_often_as_said_and_the_same_for_one_seed(bench: Any) -> None:
    def found(seed: int) -> dict[str, int]:
        counted = account(bench, faults=seed)
        for _ in range(4000):
            counted.take(body())
        faults: dict[str, int] = counted.stats()["faults"]
        return faults

    first = found(1)
    assert first == found(1) != found(2)
    assert first.keys() == {name for name, _ in bench("account").FAULTS}
    assert sum(first.values()) / 4000 == pytest.approx(0.11, abs=0.02)


def test_a_storm_refuses_everything_for_its_time(bench: Any) -> None:
    counted = account(bench, storm=(0.0, 0.05), retry_after_s=None)
    answer, _ = counted.take(body())
    assert (answer.status, answer.headers) == (429, b"")
    time.sleep(0.06)
    assert counted.take(body())[0].status == 200


def test_an_outage_closes_the_door_and_comes_back_at_the_same_address(served: Any) -> None:
    served.begin(outage=(0.1, 0.4))
    assert asked(served, raw=body())[0].status == 200
    time.sleep(0.25)
    with pytest.raises(ConnectionRefusedError):
        asked(served, raw=body())
    assert served.stats()["n_requests"] == 1  # which waits until somebody listens again
    assert asked(served, raw=body())[0].status == 200


def test_a_request_is_logged_and_charged_before_it_is_answered(served: Any, bench: Any, tmp_path: Path) -> None:
    served.begin(latency_s=30.0, log=str(tmp_path / "log"))
    port = int(served.url.split(":")[2].partition("/")[0])
    raw = body(bench("answers").prompt_of(7))
    with closing(socket.create_connection(("127.0.0.1", port))) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(raw), raw))
        time.sleep(0.2)
    (entry,) = bench("audit").entries(tmp_path / "log")
    assert (entry.status, entry.in_flight, entry.kind, entry.prompt) == (200, 1, "sample", 7)
    assert entry.n_completion_tokens > 0
    assert served.stats()["usd"] > 0


def test_the_judge_grades_one_text_and_names_the_ends_of_several(bench: Any) -> None:
    answers = bench("answers")
    prompt = answers.prompt_of(3)
    texts = [answers.text_of(prompt, t, 0, 0) for t in answers.TEMPERATURES]
    best, worst = answers.ends_of(texts)
    assert answers.verdict_of(answers.question(prompt, texts)).endswith(f"VERDICT: {best + 1} {worst + 1}")
    one = f"VERDICT: N\nBEGIN ANSWER 0a1b\n{texts[0]}\nEND ANSWER 0a1b\n"
    assert answers.verdict_of(one).endswith(f"VERDICT: {answers.grade_of(texts[0])}")


def test_a_quarter_of_the_prompts_ties_so_that_a_prompt_has_one_verdict_in_the_mean(bench: Any) -> None:
    answers, prompts = bench("answers"), [bench("answers").prompt_of(i) for i in range(2000)]
    n_tied = sum(map(answers.is_tied, prompts))
    assert bench("audit").needed(prompts, ours=True) / 2000 == pytest.approx(5.0, abs=0.2)
    assert bench("audit").needed(prompts, ours=False) == 10_000
    for prompt in prompts[:40]:
        with_word = [answers.WORD in answers.text_of(prompt, t, 1, 0) for t in answers.TEMPERATURES]
        assert with_word == ([False] * 4 if answers.is_tied(prompt) else [True, True, False, False])
    assert n_tied > 0


def test_a_heavy_prompt_and_its_answers_are_ten_times_as_long(bench: Any) -> None:
    answers = bench("answers")
    light, heavy = (answers.prompt_of(5, heavy=h) for h in (False, True))
    assert 9 < len(heavy) / len(light) < 12
    lengths = [[len(answers.text_of(p, 0.7, seed, 0)) for seed in range(200)] for p in (light, heavy)]
    assert 9 < sum(lengths[1]) / sum(lengths[0]) < 11
