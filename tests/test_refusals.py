"""Endpoints that refuse, and errors that end a run: what is closed, what stays owed, what is told."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest
from runs import RUBRIC, count, described_run, directed, logged, recipe, rows

from prefsmith.errors import CallFailed
from prefsmith.job import run_job
from prefsmith.ledger.ledger import Ledger
from prefsmith.ledger.verify import verify
from prefsmith.reasons import Reason
from prefsmith.recipe import Recipe
from prefsmith.records import Request


def test_a_bug_ends_the_run_and_replies_on_their_way_are_kept(tmp_path: Path) -> None:
    n_seen = 0

    def break_once(request: Request) -> None:
        nonlocal n_seen
        n_seen += bool(request.labels)
        if n_seen == 30:
            n_seen += 1
            raise ZeroDivisionError("a bug")

    what = recipe(tmp_path, 40, RUBRIC, jury={"latency_s": 0.01}, farm={"latency_s": 0.01})
    with pytest.raises(ZeroDivisionError):
        directed(tmp_path, what, break_once)
    assert count(tmp_path, "call WHERE status = 'ok'") == len(logged(tmp_path)) - 1
    with Ledger.read(tmp_path / "out") as ledger:
        assert list(verify(ledger)) == []
    assert directed(tmp_path, what, lambda _: None) == 0
    assert count(tmp_path, "verdict") == 160


def test_an_endpoint_that_refuses_everything_closes_nothing_and_tells_why(tmp_path: Path) -> None:
    def refuse(request: Request) -> None:
        raise CallFailed(Reason.BAD_REQUEST, "unknown parameter min_p", http_status=400)

    what, said = recipe(tmp_path, 8, RUBRIC, attempts=2), list[str]()
    assert directed(tmp_path, what, refuse, said) == 5
    assert any("unknown parameter min_p" in remark for remark in said)
    assert count(tmp_path, "call WHERE reason = 'bad_request'") == 0
    assert directed(tmp_path, what, lambda _: None) == 0
    assert count(tmp_path, "verdict") == 32


def test_a_400_of_an_endpoint_that_works_is_final_and_not_asked_again(tmp_path: Path) -> None:
    n_seen = 0

    def refuse_later_ones(request: Request) -> None:
        nonlocal n_seen
        n_seen += not request.labels
        if n_seen > 100 and n_seen % 2 and not request.labels:
            raise CallFailed(Reason.BAD_REQUEST, "no", http_status=400)

    what = recipe(tmp_path, 100, RUBRIC, farm={"latency_s": 0.002})
    assert directed(tmp_path, what, refuse_later_ones) == 0
    assert count(tmp_path, "call WHERE status = 'failed' AND reason = 'bad_request'") == 50
    n_asked = len(logged(tmp_path))
    assert directed(tmp_path, what, refuse_later_ones) == 0
    assert len(logged(tmp_path)) == n_asked


def test_a_server_that_suddenly_refuses_everything_closes_a_few_calls_and_the_rest_stays_owed(tmp_path: Path) -> None:
    n_seen = 0

    def refuse_from_now_on(request: Request) -> None:
        nonlocal n_seen
        n_seen += 1
        if n_seen > 100:
            raise CallFailed(Reason.BAD_REQUEST, "no such model any more", http_status=400)

    what, said = recipe(tmp_path, 200, patience_s=1), list[str]()
    assert directed(tmp_path, what, refuse_from_now_on, said) == 5
    assert any("no such model any more" in remark for remark in said)
    assert 20 <= count(tmp_path, "call WHERE status = 'failed' AND reason = 'bad_request'") <= 28
    assert directed(tmp_path, what, lambda _: None) == 0
    assert count(tmp_path, "completion") >= 800 - 2 * 28


def test_a_prompt_that_was_given_up_is_not_tried_again_at_its_next_line(tmp_path: Path) -> None:
    what, tried = recipe(tmp_path, judge="contains", window=4, attempts=1), Counter[tuple[float, int]]()
    lines = ({"question": "Say it." if i % 16 == 0 else f"Say {i}.", "answer": str(i)} for i in range(64))
    (tmp_path / "prompts.jsonl").write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))

    def lose_one_prompt(request: Request) -> None:
        if request.messages[-1]["content"] == "Say it.":
            tried[request.sampling.temperature, request.seed] += 1
            raise CallFailed(Reason.TIMEOUT, "slow")

    assert directed(tmp_path, what, lose_one_prompt) == 5
    assert set(tried.values()) == {1} and len(tried) == 2
    assert directed(tmp_path, what, lose_one_prompt) == 5
    assert set(tried.values()) == {2}


def test_a_final_reason_of_a_judge_closes_its_verdict_and_no_other(tmp_path: Path) -> None:
    n_seen = 0

    def filter_one(request: Request) -> None:
        nonlocal n_seen
        n_seen += bool(request.labels)
        if request.labels and n_seen == 5:
            raise CallFailed(Reason.CONTENT_FILTER, "no")

    assert directed(tmp_path, recipe(tmp_path, 10, RUBRIC), filter_one) == 0
    assert Counter(rows(tmp_path, "SELECT reason FROM verdict")) == {(None,): 39, ("content_filter",): 1}


@pytest.mark.parametrize("which", ["farm", "jury"])
def test_an_endpoint_that_refuses_us_is_asked_no_more_and_the_other_goes_on(which: str, tmp_path: Path) -> None:
    def refuse(request: Request) -> None:
        if bool(request.labels) == (which == "jury"):
            raise CallFailed(Reason.AUTH, "HTTP 401, the key", http_status=401, stops_endpoint=True)

    what, said = recipe(tmp_path, 400, RUBRIC), list[str]()
    assert directed(tmp_path, what, refuse, said) == 5
    assert any(f"{which} was given up: HTTP 401, the key" in remark for remark in said)
    assert f"{which} is asked no more: HTTP 401, the key" in said[0]
    refused = [line for line in logged(tmp_path) if bool(line["labels"]) == (which == "jury")]
    assert 1 <= len(refused) <= 8
    assert count(tmp_path, "call WHERE status = 'failed' AND reason = 'auth'") == len(refused)
    assert count(tmp_path, "completion") == (0 if which == "farm" else 1600)
    assert directed(tmp_path, what, lambda _: None) == 0
    assert count(tmp_path, "verdict") == 1600


def test_with_every_endpoint_gone_no_further_prompt_is_opened(tmp_path: Path) -> None:
    def refuse(request: Request) -> None:
        raise CallFailed(Reason.QUOTA, "gone", stops_endpoint=True)

    said: list[str] = []
    assert directed(tmp_path, recipe(tmp_path, 5000, window=8), refuse, said) == 5
    assert "; not begun: " in said[-1] and len(logged(tmp_path)) <= 8


class Server(ThreadingHTTPServer):
    """Answers every chat completion with one status, after a while, and counts."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, status: int, wait_s: float) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.status, self.wait_s = status, wait_s
        self.n_asked = self.n_now = self.n_peak = 0
        self.lock = threading.Lock()


class Answer(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        server = self.server
        asked = orjson.loads(self.rfile.read(int(self.headers["content-length"])))
        with server.lock:
            server.n_asked += 1
            server.n_now += 1
            server.n_peak = max(server.n_peak, server.n_now)
        time.sleep(server.wait_s)
        with server.lock:
            server.n_now -= 1
        choice = {"message": {"role": "assistant", "content": f"It is {asked['seed']}."}, "finish_reason": "stop"}
        choices = [{**choice, "index": i} for i in range(asked.get("n", 1))]
        body = orjson.dumps(
            {"choices": choices, "model": "m"} if server.status == 200 else {"error": {"message": "no"}}
        )
        self.send_response(server.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(status: int, wait_s: float = 0.0) -> Iterator[tuple[Server, dict[str, Any]]]:
    server = Server(status, wait_s)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server, {"urls": f"http://127.0.0.1:{server.server_address[1]}/v1", "n_per_request": 1}
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def over_http(folder: Path, endpoint: dict[str, Any], n: int, concurrency: int) -> Recipe:
    whole = described_run(folder, n)
    whole |= {"probe": False}  # every request is one of the work
    whole["endpoints"]["farm"] = {**endpoint, "limits": {"concurrency": concurrency}}
    return Recipe.model_validate(whole)


@pytest.mark.parametrize(("status", "words"), [(401, "HTTP 401, the key in"), (404, "HTTP 404 for model")])
def test_a_server_that_refuses_us_is_left_alone_and_all_work_is_owed(status: int, words: str, tmp_path: Path) -> None:
    said: list[str] = []
    with serving(status) as (server, endpoint):
        assert run_job(over_http(tmp_path, endpoint, 30, 4), tmp_path / "out", say=said.append) == 5
    assert 1 <= server.n_asked <= 4
    assert any("farm was given up" in line and words in line for line in said)
    assert rows(tmp_path, "SELECT exit FROM session") == [(5,)]
    with serving(200) as (_, endpoint):
        assert run_job(over_http(tmp_path, endpoint, 30, 4), tmp_path / "out", say=said.append) == 0
    assert count(tmp_path, "completion") == 120


def test_as_many_requests_are_in_flight_as_the_endpoint_allows(tmp_path: Path) -> None:
    """10: "concurrent" requests were awaited one by one."""
    with serving(200, 0.15) as (server, endpoint):
        started = time.monotonic()
        assert run_job(over_http(tmp_path, endpoint, 60, 12), tmp_path / "out") == 0
    assert server.n_asked == 240 and server.n_peak in (11, 12)
    assert time.monotonic() - started < 240 * 0.15 / 4
