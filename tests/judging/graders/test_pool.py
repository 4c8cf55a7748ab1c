"""The worker process: real processes, real hangs and deaths."""

from __future__ import annotations

import asyncio
import os
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from prefsmith.judging.graders import Grader, GraderPool, make_grader
from prefsmith.outcomes import Score
from prefsmith.reasons import Reason
from prefsmith.recipe import Judge
from prefsmith.records import Item, Json, Prompt

HOSTILE = "a" * 40 + "b"


def item(**columns: Json) -> Item:
    return Item(Prompt(({"role": "user", "content": "?"},)), None, None, columns)


def own(tmp_path: Path, source: str, timeout_s: float = 5.0) -> Grader:
    (tmp_path / "g.py").write_text(source)
    return make_grader(Judge(use=f"{tmp_path / 'g.py'}:grade", timeout_s=timeout_s))


def graded(grader: Grader, *batches: Sequence[str], of: Item | None = None) -> list[Score]:
    """Scores of the batches, one after the other in one pool."""

    async def run() -> list[Score]:
        async with GraderPool() as pool:
            return [score for batch in batches for score in await pool.grade(grader, batch, of or item())]

    return asyncio.run(run())


def values(scores: Sequence[Score]) -> list[float | None]:
    return [score.value for score in scores]


def error(score: Score) -> str:
    assert score.parts is not None
    return str(score.parts["error"])


def test_a_regex_is_searched_for_anywhere() -> None:
    regex = make_grader(Judge(use="regex", pattern=r"^answer: \w+$|\bno\b"))
    assert values(graded(regex, ["answer: yes", "Answer: yes", "so no.", "nothing"])) == [1, 0, 1, 0]
    folded = make_grader(Judge(use="regex", pattern="^answer", ignore_case=True))
    assert values(graded(folded, ["Answer: yes"])) == [1]


def test_a_regex_that_backtracks_for_ever_loses_only_its_own_text() -> None:
    regex = make_grader(Judge(use="regex", pattern="(a+)+$", timeout_s=0.2))
    start = time.monotonic()
    scores = graded(regex, ["aaa", HOSTILE, "zzz", HOSTILE, "aa"], ["a"])
    assert values(scores) == [1, None, 0, None, 1, 1]
    assert [scores[1].reason, scores[3].reason] == [Reason.GRADER_TIMEOUT] * 2
    assert "0.2 s" in error(scores[1])
    assert time.monotonic() - start < 5


def test_a_grader_that_takes_the_timer_is_killed_all_the_same(tmp_path: Path) -> None:
    source = """
import signal, time
def grade(text, item):
    if text == "hang":
        signal.setitimer(signal.ITIMER_REAL, 0)
        while True:
            time.sleep(1)
    return 1.0
"""
    scores = graded(own(tmp_path, source, timeout_s=0.1), ["x", "hang", "y"])
    assert [score.reason for score in scores] == [None, Reason.GRADER_TIMEOUT, None]


def test_prints_and_reads_reach_no_pipe(tmp_path: Path) -> None:
    source = """
import os, sys
def grade(text, item):
    print('{"value": 1.0}', flush=True)
    os.write(1, b'{"value": 1.0}\\n')
    os.system("echo '{\\"value\\": 1.0}'")
    sys.stderr.write('{"value": 1.0}\\n')
    assert sys.stdin.read() == ""
    return 0.25
"""
    assert values(graded(own(tmp_path, source), ["a", "b"], ["c"])) == [0.25, 0.25, 0.25]


def test_a_grader_that_forks_and_returns_twice_answers_once(tmp_path: Path) -> None:
    source = """
import os
def grade(text, item):
    child = os.fork()
    if child == 0:
        return 1.0
    os.waitpid(child, 0)
    return 0.0
"""
    assert values(graded(own(tmp_path, source), ["a", "b"])) == [0, 0]


@pytest.mark.parametrize(
    ("does", "says"),
    [
        ("os._exit(3)", "ended with exit status 3"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by signal SIGSEGV"),
        ("os.closerange(3, 256)", "worker process"),
    ],
)
def test_a_text_that_kills_the_worker_loses_only_its_own_score(tmp_path: Path, does: str, says: str) -> None:
    source = f"import os, signal\ndef grade(text, item):\n    if text == 'die':\n        {does}\n    return 1.0\n"
    scores = graded(own(tmp_path, source), ["a", "die", "b"], ["c"])
    assert values(scores) == [1, None, 1, 1]
    assert scores[1].reason is Reason.GRADER_ERROR
    assert says in error(scores[1])


def test_columns_are_those_that_reads_names_and_fresh_for_each_text(tmp_path: Path) -> None:
    source = """
READS = ("wanted",)
def grade(text, item):
    ok = item == {"wanted": [1, 2]}
    item["wanted"].append(3)
    return ok
"""
    assert values(graded(own(tmp_path, source), ["a", "b"], of=item(wanted=[1, 2], other=5))) == [1, 1]


def test_the_worker_runs_the_source_that_was_hashed(tmp_path: Path) -> None:
    grader = own(tmp_path, "def grade(text, item): return 0.5\n")
    (tmp_path / "g.py").write_text("def grade(text, item): return 1.0\n")
    assert values(graded(grader, ["a"])) == [0.5]


def test_a_file_imports_its_neighbours_and_two_files_never_share_them(tmp_path: Path) -> None:
    graders = []
    for name, value in (("one", 0.25), ("two", 0.75)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "neighbour.py").write_text(f"VALUE = {value}\n")
        graders.append(own(tmp_path / name, "from neighbour import VALUE\ndef grade(text, item): return VALUE\n"))

    async def run() -> list[float | None]:
        async with GraderPool() as pool:
            both = await asyncio.gather(*(pool.grade(grader, ["x"], item()) for grader in graders))
        return [score.value for scores in both for score in scores]

    assert asyncio.run(run()) == [0.25, 0.75]


def test_a_file_that_cannot_be_loaded_says_why_for_every_text(tmp_path: Path) -> None:
    scores = graded(own(tmp_path, "import no_such_module_here\ndef grade(text, item): return 1\n"), ["a", "b"], ["c"])
    assert [score.reason for score in scores] == [Reason.GRADER_ERROR] * 3
    assert {error(score) for score in scores} == {"ModuleNotFoundError: No module named 'no_such_module_here'"}


def test_concurrent_batches_keep_their_own_scores(tmp_path: Path) -> None:
    grader = own(tmp_path, "def grade(text, item): return int(text) / 100\n")

    async def run() -> list[list[Score]]:
        async with GraderPool() as pool:
            batches = ([str(i), str(i + 1)] for i in range(60))
            return await asyncio.gather(*(pool.grade(grader, batch, item()) for batch in batches))

    assert [values(scores) for scores in asyncio.run(run())] == [[i / 100, (i + 1) / 100] for i in range(60)]


def test_a_cancelled_batch_leaves_no_answers_for_the_next(tmp_path: Path) -> None:
    source = "import time\ndef grade(text, item):\n    time.sleep(0.2)\n    return float(text)\n"
    grader = own(tmp_path, source)

    async def run() -> list[Score]:
        async with GraderPool() as pool:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(pool.grade(grader, ["1", "1", "1"], item()), 0.3)
            return await pool.grade(grader, ["0", "0"], item())

    assert values(asyncio.run(run())) == [0, 0]


def test_a_stalled_run_makes_no_time_out(tmp_path: Path) -> None:
    """The limit is on the grader, not on this process: an answer that lay unread is still an answer."""
    grader = own(tmp_path, "def grade(text, item): return 1.0\n", timeout_s=0.1)

    async def run() -> list[Score]:
        async with GraderPool() as pool:
            await pool.grade(grader, ["warm"], item())
            batch = asyncio.ensure_future(pool.grade(grader, ["a", "b"], item()))
            asyncio.get_running_loop().call_soon(time.sleep, 1.3)
            return await batch

    assert values(asyncio.run(run())) == [1, 1]


def test_large_batches_pass_the_pipes(tmp_path: Path) -> None:
    grader = own(tmp_path, "def grade(text, item): return len(text) == item['n']\n")
    assert values(graded(grader, ["é\n" * 100_000] * 5, of=item(n=200_000))) == [1] * 5


def test_no_process_is_left_behind(tmp_path: Path) -> None:
    source = f"""
import os, subprocess
def grade(text, item):
    child = subprocess.Popen(["sleep", "60"])
    with open({str(tmp_path / "pids")!r}, "a") as file:
        file.write(f"{{os.getpid()}} {{child.pid}} ")
    return 1.0
"""
    assert values(graded(own(tmp_path, source), ["a"])) == [1]
    deadline = time.monotonic() + 5
    alive = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(alive) == 2
    while alive and time.monotonic() < deadline:
        alive = [pid for pid in alive if _runs(pid)]
        time.sleep(0.01)
    assert not alive


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    # An orphan that nobody has reaped yet is dead all the same.
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_a_worker_starts_for_less_than_150_milliseconds_of_cpu() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert values(graded(make_grader(Judge(use="regex", pattern="a")), ["a"])) == [1]
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.15


def test_inline_graders_start_no_process() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    scores = graded(make_grader(Judge(use="constraints")), ["One."], of=item(check={"sentences": 1}))
    assert values(scores) == [1]
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime == before
