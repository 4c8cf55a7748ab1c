"""`verify` over a whole folder: green on whatever a run leaves behind, red on every damage to verdicts and files."""

import json
import re
import sqlite3
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copytree
from threading import Thread
from typing import Any, ClassVar

import pytest

from prefsmith.cli import main
from prefsmith.folder import Folder
from prefsmith.handoff import export_job
from prefsmith.job import run_job
from prefsmith.ledger.ledger import NAME, Ledger
from prefsmith.recheck import Report, verify_folder
from prefsmith.recipe import Pairing, Recipe

KILLED = "UPDATE session SET t_end = NULL, exit = NULL WHERE id = 2"
JUDGES = [{"use": "rubric-help", "model": "fake:j"}, {"confirm": "pairwise-help", "model": "fake:j"}]


def recipe(folder: Path, n: int = 12, script: dict[str, Any] | None = None, **more: Any) -> Recipe:
    prompts = folder / "p.jsonl"
    rows = ({"prompt": f"Say {i}.", "reference": f"quality={i % 9}", "id": str(i)} for i in range(n))
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = {
        "prompts": {"path": str(prompts)},
        "endpoints": {"fake": {"script": {"chars": 120, **(script or {})}, "n_per_request": 2}},
        "sample": {"model": "fake:m", "temperature": [0.5, 1.0], "n": 3},
        "judge": [{"use": "contains"}, *JUDGES],
        "max_no_verdict": 1,
        "export": ["trl", "openai", "trl-parquet", "parquet"],
    }
    return Recipe.model_validate({**given, **more})


def run(given: Recipe, folder: Path) -> int:
    return run_job(given, folder, say=lambda _: None)


def checked(folder: Path) -> Report:
    return verify_folder(folder, 1000)


def sql(folder: Path, *statements: str) -> None:
    with sqlite3.connect(folder / NAME, isolation_level=None) as db:
        for statement in statements:
            assert db.execute(statement).rowcount != 0, f"changes nothing: {statement}"
    db.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    script = {"duplicates": 0.2, "truncated": 0.2, "unparseable": 0.3}
    assert run(recipe(folder, 30, script), folder / "run") == 0
    return folder / "run"


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(copytree(whole, tmp_path / "run"))


def test_a_finished_run_is_whole_and_each_kind_of_check_looked_at_something(whole: Path) -> None:
    report = checked(whole)
    assert report.damages == ()
    told = "\n".join(report.lines)
    assert re.search(r"ledger: \d+ calls, 180 completions, \d+ verdicts checked", told)
    assert all(int(n) > 0 for n in re.findall(r"(\d+) (?:verdicts|rows) ", told))
    assert len(re.findall("rows read back", told)) == 4


CHANGED_VERDICTS = {
    "a grader's score": (
        "UPDATE verdict SET value = 1 - value WHERE judge = 1 AND prompt = 3",
        r"verdict of prompt 3 by contains on text \d+: kept Score\(value=.*graded again",
    ),
    "a grader's failure": (
        "UPDATE verdict SET value = NULL, reason = 'grader_error' WHERE judge = 1 AND prompt = 3",
        "counter no_verdict.grader_error",
    ),
    "a rubric's score": (
        "UPDATE verdict SET value = CASE value WHEN 0.0 THEN 1.0 ELSE 0.0 END WHERE judge = 2 AND value IS NOT NULL",
        r"verdict of prompt \d+ by judge 2 on text \d+: kept Score\(value=.*its reply says",
    ),
    "a choice": (
        "UPDATE verdict SET choice = CASE choice WHEN '0' THEN '1' ELSE '0' END WHERE choice IS NOT NULL",
        r"verdict of prompt \d+ by judge 3 on text \d+,\d+: kept Choice\(position=.*its reply says",
    ),
}


@pytest.mark.parametrize("what", CHANGED_VERDICTS)
def test_a_changed_verdict_is_found(copy: Path, what: str) -> None:
    statement, told = CHANGED_VERDICTS[what]
    sql(copy, statement)
    report = checked(copy)
    found = report.damages
    assert any(re.search(told, one) for one in found), found
    *of_grader, cure = report.cures
    assert bool(of_grader) == any("graded again" in one for one in found)
    assert cure.startswith(
        f"a damaged ledger cannot be mended: neither go on with {copy} nor export from it; put back a copy"
    )


def lines_of(place: Path) -> list[bytes]:
    return place.read_bytes().splitlines(keepends=True)


def flipped(rows: list[bytes]) -> list[bytes]:
    i = next(i for i, row in enumerate(rows) if b"quality" in row)
    return [*rows[:i], rows[i].replace(b"quality", b"qualitz", 1), *rows[i + 1 :]]


def glued(rows: list[bytes]) -> list[bytes]:
    first, second = json.loads(rows[0]), json.loads(rows[1])
    key = "chosen" if "chosen" in first else "preferred_output"
    return [json.dumps({**first, key: second[key]}).encode() + b"\n", *rows[1:]]


def swapped(rows: list[bytes]) -> list[bytes]:
    row = json.loads(rows[0])
    a, b = ("chosen", "rejected") if "chosen" in row else ("preferred_output", "non_preferred_output")
    return [json.dumps({**row, a: row[b], b: row[a]}).encode() + b"\n", *rows[1:]]


CHANGED_FILES = {
    "a letter flipped": (flipped, "text is not a completion of its prompt"),
    "a row glued to another prompt": (glued, "is not a completion of its prompt"),
    "a row lost": (lambda rows: rows[1:], "is missing"),
    "a row twice": (lambda rows: [*rows, rows[0]], "repeats line 1"),
    "chosen and rejected swapped": (swapped, "chosen and rejected are swapped"),
}


@pytest.mark.parametrize("corrected", [False, True], ids=["sum told", "sum mended"])
@pytest.mark.parametrize("form", ["trl/train.jsonl", "openai/preferences.jsonl"])
@pytest.mark.parametrize("what", CHANGED_FILES)
def test_a_changed_file_is_found_whether_or_not_its_sum_was_mended(
    copy: Path, what: str, form: str, corrected: bool
) -> None:
    change, told = CHANGED_FILES[what]
    place = copy / "export" / form
    place.write_bytes(b"".join(change(lines_of(place))))
    if corrected:
        new = sha256(place.read_bytes()).hexdigest()
        sql(copy, f"UPDATE export SET sha256 = '{new}' WHERE path = 'export/{form}'")
    found = checked(copy).damages
    assert any(one.startswith(form) and told in one for one in found), found
    assert any("sha256" in one for one in found) != corrected


def test_a_lost_file_is_found(copy: Path) -> None:
    (copy / "export/trl/train.jsonl").unlink()
    assert checked(copy).damages == ("export/trl/train.jsonl: the file is missing",)


def test_the_cure_of_a_damaged_file_mends_it(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form in ("trl", "openai"):
        place = copy / "export" / form / {"trl": "train.jsonl", "openai": "preferences.jsonl"}[form]
        place.write_bytes(b"".join(flipped(lines_of(place))))
    assert main(["verify", str(copy)]) == 4
    words = re.search(r"^what to do: `prefsmith ([^`]*)` writes these files anew", capsys.readouterr().out, re.M)
    assert words is not None and words[1] == f"export {copy} --to trl,openai"
    assert main(words[1].split()) == 0
    assert checked(copy) == Report((), checked(copy).lines)


def test_a_ledger_that_cannot_even_be_opened_is_a_damage(copy: Path) -> None:
    raw = bytearray((copy / NAME).read_bytes())
    raw[:100] = bytes(100)
    (copy / NAME).write_bytes(raw)
    assert "ledger.db cannot be read" in checked(copy).damages[0]


def test_what_is_noted_as_finished_and_is_not_is_found(tmp_path: Path) -> None:
    """A span too many would leave calls unasked for ever."""
    with served() as url:
        given = recipe(tmp_path, **over(url), attempts=1)
        Answers.broken = True
        assert run(given, tmp_path / "run") == 5
        Answers.broken = False
    assert checked(tmp_path / "run").damages == ()
    with Folder(tmp_path / "run") as folder:
        view = folder.view.hash.hex()
    sql(tmp_path / "run", f"INSERT OR REPLACE INTO done VALUES(x'{view}', 1, 12)")
    found = checked(tmp_path / "run").damages
    assert [one for one in found if re.search(r"\(line 6\): noted as finished, but something of it is missing", one)]


def test_an_item_that_a_recipe_took_and_that_is_gone_is_found(tmp_path: Path) -> None:
    """Its old source still holds it, so only the recipe's own count can tell."""
    assert run(recipe(tmp_path, 4), tmp_path / "run") == 0
    assert run(recipe(tmp_path, 5), tmp_path / "run") == 0
    sql(tmp_path / "run", "DELETE FROM row WHERE source = 2 AND line = 2")
    assert "source 2: the recipe took 5 items, 4 are here" in checked(tmp_path / "run").damages


class Answers(BaseHTTPRequestHandler):
    """A server that filters a choice of one prompt, cuts an emoji of another, and fails at a third for a while."""

    broken: ClassVar[bool] = False

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        said = asked["messages"][-1]["content"]
        if "Say 5." in said and Answers.broken:
            self._answer(500, b'{"error": {"message": "not now"}}')
            return
        choices = []
        for k in range(asked.get("n", 1)):
            text = f"{asked['seed'] + k} quality={(asked['seed'] + k) % 10}"
            filtered = "Say 3." in said and k == 1
            message = {"role": "assistant", "content": "" if filtered else text}
            choices.append({"index": k, "message": message, "finish_reason": "content_filter" if filtered else "stop"})
        usage = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
        reply = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": choices, "usage": usage}
        raw = json.dumps(reply)
        self._answer(200, (raw.replace(" quality", " \\ud83d quality") if "Say 7." in said else raw).encode())

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class served:
    def __enter__(self) -> str:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def over(url: str) -> dict[str, Any]:
    return {
        "endpoints": {"farm": {"urls": [url], "n_per_request": 3, "limits": {"concurrency": 4}}},
        "sample": {"model": "farm:m", "temperature": [0.5, 1.0], "n": 3},
        "judge": ["contains"],
    }


def test_filtered_damaged_failed_and_resumed_calls_leave_a_whole_folder(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with served() as url:
        given = recipe(tmp_path, **over(url), attempts=2)
        Answers.broken = True
        assert run(given, folder) == 5
        assert checked(folder).damages == ()
        Answers.broken = False
        assert run(given, folder) == 0
    assert checked(folder).damages == ()
    with Ledger.read(folder) as ledger:
        kinds = set(ledger.db.execute("SELECT DISTINCT status, reason FROM call"))
        assert kinds == {("ok", None), ("failed", "content_filter"), ("failed", "server_error")}
        assert ledger.db.execute("SELECT count(*) FROM call WHERE extra LIKE '%damaged%'").fetchone()[0] > 0
    assert b"\xef\xbf\xbd" not in (folder / "export/trl/train.jsonl").read_bytes()


def test_a_file_of_an_earlier_session_need_not_hold_what_a_killed_one_added(tmp_path: Path) -> None:
    """As if the second session had been killed before it wrote its files, and then just after."""
    folder, name = tmp_path / "run", "export/trl/train.jsonl"
    with served() as url:
        given = recipe(tmp_path, **over(url), attempts=1, export=["trl"])
        Answers.broken = True
        assert run(given, folder) == 5
        old = (folder / name).read_bytes()
        Answers.broken = False
        assert run(given, folder) == 0
    new = (folder / name).read_bytes()
    assert len(new) > len(old)
    sql(folder, f"UPDATE export SET session = 1, sha256 = '{sha256(old).hexdigest()}'", KILLED)
    (folder / name).write_bytes(old)
    report = checked(folder)
    assert report.damages == () and "written before the run went on" in report.lines[-1]
    (folder / name).write_bytes(new)
    report = checked(folder)
    assert report.damages == () and "rows read back" in report.lines[-1]
    (folder / name).write_bytes(b"".join(new.splitlines(keepends=True)[1:]))
    assert any("is missing" in one for one in checked(folder).damages)


def test_files_of_another_pairing_rule_are_checked_against_that_rule(copy: Path) -> None:
    export_job([copy], ["trl"], Pairing(min_margin=0.3, seed=5), None)
    export_job([copy], ["openai"], Pairing(strategy="correct_incorrect"), None)
    report = checked(copy)
    assert report.damages == ()
    assert len(re.findall("rows read back", "\n".join(report.lines))) == 4
    place = copy / "export/trl/train.jsonl"
    place.write_bytes(b"".join(swapped(lines_of(place))))
    assert any("swapped" in one for one in checked(copy).damages)


def test_files_of_an_earlier_recipe_are_checked_by_their_sum(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run(recipe(tmp_path), folder) == 0
    # The budget ends the second session before it has asked anything: it leaves the files as they were.
    assert run(recipe(tmp_path, seed=1, budget={"tokens": 1}), folder) == 3
    report = checked(folder)
    assert report.damages == ()
    stale = [line for line in report.lines if "written under an earlier recipe" in line]
    assert len(stale) == 4 and all("prefsmith export" in line for line in stale)
    place = folder / "export/openai/preferences.jsonl"
    place.write_bytes(b"".join(flipped(lines_of(place))))
    assert [one for one in checked(folder).damages if one.startswith("export/openai/preferences.jsonl: sha256 is")]
