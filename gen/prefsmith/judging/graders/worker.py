"""The worker process: grades texts with one regex or one file of the user's, one text at a time.

Run as a script by `pool`, which speaks JSON lines with it: first what to load, then batches in; one answer per text
out, so that the pool knows which text hung or killed the process. It imports the standard library and orjson only,
nothing of prefsmith, which keeps its start quick. Before any of the user's code runs, stdin and stdout are /dev/null
and the pipes stand on other descriptors: neither input() nor print() can reach them. A text's time limit is a timer of
the kernel whose signal ends the process, as a regex that backtracks for ever lets no Python code run.
"""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import orjson

Grade = Callable[[str, Any], object]
Answer = dict[str, object]
MAX_ERROR_CHARS = 500
"""Keeps an answer below PIPE_BUF, so that it is written whole or not at all."""


def main(answers_fd: int) -> None:
    batches_fd = os.dup(0)
    null = os.open(os.devnull, os.O_RDWR)
    for taken in (0, 1):
        os.dup2(null, taken)
    os.set_inheritable(answers_fd, False)
    pid = os.getpid()

    def answer(what: Answer) -> None:
        if os.getpid() != pid:  # a grader forked and came back twice
            os._exit(1)
        os.write(answers_fd, orjson.dumps(what) + b"\n")

    with open(batches_fd, "rb") as lines:
        work = orjson.loads(lines.readline() or b"{}")
        limit(work["load_limit_s"])
        try:
            grade = load(work)
        except BaseException as error:
            answer({"error": told(error)})
            os._exit(0)
        limit(0)
        answer({})
        for line in lines:
            batch = orjson.loads(line)
            for text in batch["texts"]:
                # Each text gets its own copy of the columns: what a grader writes into them is gone with it.
                columns = orjson.loads(batch["columns"])
                limit(work["timeout_s"])
                result = graded(grade, text, columns)
                limit(0)
                answer(result)
    os._exit(0)  # threads that a grader left behind hold nothing up


def limit(seconds: float) -> None:
    """End this process after so many seconds; 0 calls it off. Set anew each time, as graders use the timer too."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def load(work: Mapping[str, Any]) -> Grade:
    if "pattern" in work:
        search = re.compile(work["pattern"], work["flags"]).search
        return lambda text, columns: search(text) is not None
    path = work["path"]
    module = ModuleType("prefsmith_own_grader")
    module.__file__ = path
    sys.modules[module.__name__] = module
    sys.path.insert(0, os.path.dirname(path))
    sys.argv = [path]
    exec(compile(work["source"], path, "exec"), module.__dict__)
    grade: Grade | None = getattr(module, work["function"], None)
    if not callable(grade):
        raise TypeError(f"{work['function']!r} is {grade!r}, not a function")
    return grade


def graded(grade: Grade, text: str, columns: object) -> Answer:
    """{"value": in [0, 1]} or {"error": one line}; whatever the grader raises ends there."""
    try:
        value = grade(text, columns)
        if value is None:
            return {"error": "returned None"}
        if not isinstance(value, bool | int | float):
            return {"error": f"returned a {type(value).__name__}, expected a float from 0 to 1"}
        if not 0 <= value <= 1:
            return {"error": f"returned {value!r}, expected a float from 0 to 1"[:MAX_ERROR_CHARS]}
        return {"value": float(value)}
    except BaseException as error:
        return {"error": told(error)}


def told(error: BaseException) -> str:
    try:
        said = str(error)
    except Exception:
        said = "(its message cannot be printed)"
    # A lone surrogate cannot be sent.
    return f"{type(error).__name__}: {said}"[:MAX_ERROR_CHARS].encode(errors="replace").decode()


if __name__ == "__main__":
    main(int(sys.argv[1]))
