"""Each damage that can be done to a ledger is found and named; a whole one has none."""

import json
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from shutil import copytree

import pytest

from prefsmith.job import run_job
from prefsmith.ledger.ledger import NAME, Ledger
from prefsmith.ledger.verify import verify
from prefsmith.recipe import Recipe


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with duplicates, rows set aside, truncated and equal texts, unreadable verdicts, three kinds of judges."""
    folder = tmp_path_factory.mktemp("whole")
    rows = [{"prompt": f"Say {i}.", "reference": f"quality={i % 9}", "id": str(i), "note": i} for i in range(20)]
    lines = [*map(json.dumps, rows), json.dumps(rows[0]), "{broken", json.dumps({**rows[1], "reference": "other"})]
    (folder / "p.jsonl").write_text("\n".join(lines) + "\n")
    script = {"duplicates": 0.2, "truncated": 0.2, "unparseable": 0.5, "chars": 120}
    recipe = Recipe.model_validate(
        {
            "prompts": {"path": str(folder / "p.jsonl")},
            "endpoints": {"fake": {"script": script, "n_per_request": 2}},
            "sample": {"model": "fake:m", "temperature": [0.5, 1.0], "n": 3},
            "judge": [
                {"use": "contains"},
                {"use": "rubric-help", "model": "fake:j"},
                {"confirm": "pairwise-help", "model": "fake:j"},
            ],
            "max_no_verdict": 1,
        }
    )
    assert run_job(recipe, folder / "run", say=lambda _: None) == 0
    return folder / "run"


def damages(folder: Path) -> list[str]:
    with Ledger.read(folder) as ledger:
        return list(verify(ledger))


def after(whole: Path, to: Path, *statements: str) -> list[str]:
    """The damages of a copy on which these statements were run, each of which must change something."""
    copytree(whole, to / "run")
    with sqlite3.connect(to / "run" / NAME, isolation_level=None) as db:
        for sql in statements:
            assert db.execute(sql).rowcount != 0, f"changes nothing: {sql}"
    db.close()
    return damages(to / "run")


def test_a_whole_ledger_has_no_damage_and_the_fixture_has_every_kind_of_row(whole: Path) -> None:
    assert damages(whole) == []
    with Ledger.read(whole) as ledger:

        def n(what: str) -> int:
            return int(ledger.db.execute(f"SELECT count(*) FROM {what}").fetchone()[0])

        assert n("completion WHERE finish_reason = 'length'") > 0
        assert n("(SELECT 1 FROM completion GROUP BY text HAVING count(*) > 1)") > 0
        assert n("call WHERE status = 'ok' AND reason = 'unparseable'") > 0
        assert n("verdict WHERE reason = 'unparseable'") > 0
        assert n("verdict WHERE kind = 'choice' AND choice IS NOT NULL") > 0
        assert n("verdict WHERE call IS NULL") > 0
        assert n("verdict WHERE call IS NOT NULL AND value IS NOT NULL") > 0
        assert n("row WHERE reason = 'duplicate'") == 1 == n("row WHERE reason = 'bad_json'")
        assert n("prompt") == 20 and n("item") == 21


FLIP = (
    "UPDATE {t} SET {c} = replace({c}, '{a}', '{b}') "
    "WHERE id = (SELECT id FROM {t} WHERE instr({c}, '{a}') ORDER BY id LIMIT 1)"
)
LONE = "text IN (SELECT text FROM completion GROUP BY text HAVING count(*) = 1)"
LAST_LONE = f"(SELECT max(text) FROM completion WHERE {LONE})"
ONE_LONE = f"(SELECT min(text) FROM completion WHERE {LONE})"
JUDGED = "judge = 2 AND call IS NOT NULL"
TABLE: dict[str, tuple[tuple[str, ...], str]] = {
    "a letter of a text": (
        (FLIP.format(t="text", c="body", a="quality", b="qualitY"),),
        r"text \d+: body does not match",
    ),
    "a letter of a reply": ((FLIP.format(t="call", c="reply", a="care", b="cure"),), r"call \d+: reply does not match"),
    "a letter of a prompt": ((FLIP.format(t="prompt", c="messages", a="Say", b="Pay"),), r"prompt \d+: its messages"),
    "a reference": (("UPDATE item SET reference = 'quality=0' WHERE id = 3",), "item 3: its columns do not match"),
    "a column": (("UPDATE item SET columns = '{\"note\":99}' WHERE id = 3",), "item 3: its columns do not match"),
    "an item's prompt": (("UPDATE item SET prompt = 5 WHERE id = 3",), "item 3: its columns do not match"),
    "a sampler": ((FLIP.format(t="sampler", c="json", a="0.5", b="0.6"),), r"sampler \d: json does not match"),
    "a judge": ((FLIP.format(t="judge", c="json", a="rubric", b="rubrik"),), r"judge 2: json does not match"),
    "a recipe": ((FLIP.format(t="recipe", c="json", a="contains", b="contain"),), r"recipe 1: json does not match"),
    "a hash": (("UPDATE text SET hash = x'00' WHERE id = 7",), "text 7: body does not match"),
    "a completion lost": ((f"DELETE FROM completion WHERE text = {ONE_LONE}",), r"call \d+ of prompt \d+: bought comp"),
    "a completion lost, told by its text": (
        (f"DELETE FROM completion WHERE text = {ONE_LONE}",),
        r"no completion holds",
    ),
    "a grader's verdict lost": (("DELETE FROM verdict WHERE prompt = 2 AND judge = 1",), "counter verdicts: "),
    "a judge's verdict lost": ((f"DELETE FROM verdict WHERE {JUDGED}",), "its verdict is missing"),
    "a sampling call lost": (
        ("DELETE FROM call WHERE id = (SELECT min(call) FROM completion)",),
        r"names call \d+, which",
    ),
    "an unreadable call lost": (("DELETE FROM call WHERE reason = 'unparseable'",), "counter calls.ok: "),
    "a text lost": ((f"DELETE FROM text WHERE id = {ONE_LONE}",), r"names text \d+, which is missing"),
    "a text glued to another prompt": (
        ("UPDATE completion SET text = (SELECT max(text) FROM completion) WHERE prompt = 1 AND idx = 0",),
        r"text \d+: stands under prompts \d+ and \d+",
    ),
    "texts of two prompts that changed places": (
        (
            f"UPDATE completion SET text = CASE text WHEN {ONE_LONE} THEN {LAST_LONE} ELSE {ONE_LONE} END "
            f"WHERE text IN ({ONE_LONE}, {LAST_LONE})",
        ),
        r"text \d+ of prompt \d+: held by call \d+, but texts before it came with call",
    ),
    "a completion moved to another prompt": (
        (f"UPDATE completion SET prompt = 999 WHERE text = {ONE_LONE}",),
        r"completion of prompt 999 sampler \d index \d: its call \d+ was made for prompt",
    ),
    "a completion moved to another sampler": (
        (f"UPDATE completion SET sampler = 3 - sampler, idx = 9 WHERE text = {ONE_LONE}",),
        r"its call \d+ was made for prompt \d+ sampler",
    ),
    "a completion moved to another index": (
        (f"UPDATE completion SET idx = 9 WHERE text = {ONE_LONE}",),
        r"bought completions \[[\d, ]+\], \[[\d, ]*9\] are here",
    ),
    "a verdict moved to another prompt": (
        (
            "UPDATE verdict SET prompt = 999 "
            f"WHERE {JUDGED} AND prompt = (SELECT min(prompt) FROM verdict WHERE {JUDGED})",
        ),
        r"verdict of prompt 999 by judge 2",
    ),
    "a verdict moved to another text of its prompt": (
        (
            "UPDATE OR IGNORE verdict SET shown = (SELECT max(text) FROM completion c WHERE c.prompt = verdict.prompt "
            f"AND finish_reason = 'length') WHERE {JUDGED}",
        ),
        r"verdict of prompt \d+ by judge 2 on text \d+: its call \d+ asked otherwise",
    ),
    "a grader's verdict moved to a text of another prompt": (
        ("UPDATE OR IGNORE verdict SET shown = (SELECT max(text) FROM completion) WHERE prompt = 1 AND judge = 1",),
        r"verdict of prompt 1 by judge 1: text \d+ is no completion of that prompt",
    ),
    "a verdict of another judge": (
        (f"UPDATE verdict SET judge = 3 WHERE {JUDGED}",),
        r"verdict of prompt \d+ by judge 3 on text \d+: its call \d+ asked otherwise",
    ),
    "a reason that is none": (("UPDATE verdict SET reason = 'tired' WHERE reason = 'unparseable'",), "reason 'tired'"),
    "a result beside its reason": (
        ("UPDATE verdict SET value = 0.5 WHERE reason IS NOT NULL AND kind = 'score'",),
        "not exactly one of a result that fits its kind and a reason",
    ),
    "neither result nor reason": (("UPDATE verdict SET value = NULL WHERE judge = 1",), "not exactly one of a result"),
    "a choice that is none": (("UPDATE verdict SET choice = '2' WHERE choice = '1'",), "not exactly one of a result"),
    "a kind that is none": (("UPDATE verdict SET kind = 'mood' WHERE judge = 1",), "not exactly one of a result"),
    "a status that is none": (("UPDATE call SET status = 'maybe' WHERE id = 1",), "call 1: its status is 'maybe'"),
    "a call of two kinds": (("UPDATE call SET judge = 1 WHERE id = 1",), "call 1: names both a sampler and a judge"),
    "an origin that is none": (("UPDATE completion SET origin = 'x' WHERE prompt = 1",), "its origin is 'x'"),
    "a counter": (
        ("UPDATE counter SET value = value + 1 WHERE name = 'completions'",),
        "counter completions: 121 were",
    ),
    "a counter of tokens": (
        ("UPDATE counter SET value = 1 WHERE name = 'tokens.prompt'",),
        r"counter tokens.prompt: 1 ",
    ),
    "a counter lost": (("DELETE FROM counter WHERE name = 'verdicts'",), "counter verdicts: 0 were written"),
    "a reason that was never counted": (
        ("UPDATE counter SET name = 'no_verdict.refused' WHERE name = 'no_verdict.unparseable'",),
        r"counter no_verdict.refused: \d+ were written, 0 are here",
    ),
    "tokens of a call": (("UPDATE call SET n_prompt_tokens = 0 WHERE id = 1",), "counter tokens.prompt: "),
    "n_chars": (
        ("UPDATE completion SET n_chars = 5 WHERE prompt = 1",),
        r"text \d+: 5 characters by its completion's row",
    ),
    "a row lost": (("DELETE FROM row WHERE line = 5",), "item 5: no row holds it"),
    "a row of another item": (("UPDATE row SET item = 7 WHERE line = 5",), "its item 7 stands 2 times"),
    "a duplicate without its item": (
        ("UPDATE row SET reason = 'duplicate' WHERE line = 5",),
        "its item 5 stands 0 times",
    ),
    "a row without anything": (("UPDATE row SET reason = NULL WHERE item IS NULL",), "1 rows are neither an item nor"),
    "the last row lost": (("DELETE FROM row WHERE line = 23",), "23 lines were read, its last row is 22"),
    "a prompt lost": (("DELETE FROM prompt WHERE id = 4",), "names prompt 4, which is missing"),
    "an item lost": (("DELETE FROM item WHERE id = 4",), "names item 4, which is missing"),
    "a session lost": (("DELETE FROM session",), "call 1: names session 1, which is missing"),
}


@pytest.mark.parametrize("what", TABLE)
def test_a_damage_is_found_and_named(whole: Path, tmp_path: Path, what: str) -> None:
    statements, told = TABLE[what]
    found = after(whole, tmp_path, *statements)
    assert any(re.search(told, one) for one in found), found


def test_a_text_that_is_no_longer_utf8_is_named_and_the_rest_is_still_checked(whole: Path, tmp_path: Path) -> None:
    found = after(
        whole,
        tmp_path,
        "UPDATE text SET body = CAST(x'7bff7d' AS TEXT) WHERE id = 3",
        "UPDATE item SET reference = CAST(x'ff' AS TEXT) WHERE id = 3",
        "UPDATE counter SET value = 0 WHERE name = 'verdicts'",
    )
    assert "text 3: body does not match its hash" in found
    assert "item 3: its columns do not match its hash" in found
    assert any(one.startswith("counter verdicts: 0 were written") for one in found)


def test_many_damages_of_a_kind_are_told_as_a_number(whole: Path, tmp_path: Path) -> None:
    found = after(whole, tmp_path, "UPDATE text SET hash = x'00'")
    assert len(found) == 21
    assert re.fullmatch(r"texts: and \d+ more", found[-1])


def test_a_text_with_a_nul_is_as_long_as_it_is(tmp_path: Path, whole: Path) -> None:
    """SQLite's length() stops at a NUL; a model may well write one."""
    from prefsmith.ledger.ids import text_hash

    body = json.dumps({"content": "a\0b", "role": "assistant"}, separators=(",", ":")).encode()
    found = after(
        whole,
        tmp_path,
        f"UPDATE completion SET n_chars = 3 WHERE text = {ONE_LONE}",
        f"UPDATE text SET body = '{body.decode()}', hash = x'{text_hash(body).hex()}' WHERE id = {ONE_LONE}",
    )
    assert found == []


def pages(spoil: Callable[[bytearray, int], None], place: Path, n: int) -> None:
    raw = bytearray(place.read_bytes())
    spoil(raw, n * 8192)
    place.write_bytes(raw)


def zeroed(raw: bytearray, at: int) -> None:
    raw[at : at + 8192] = bytes(8192)


def test_any_page_of_the_file_that_was_zeroed_is_found(whole: Path, tmp_path: Path) -> None:
    from prefsmith.recheck import verify_folder

    copytree(whole, tmp_path / "run")
    place = tmp_path / "run" / NAME
    good = place.read_bytes()
    for n in range(len(good) // 8192):
        place.write_bytes(good)
        pages(zeroed, place, n)
        assert verify_folder(tmp_path / "run", 0).damages, f"page {n} of {len(good) // 8192}"


def test_any_byte_of_any_text_that_was_flipped_is_found(whole: Path, tmp_path: Path) -> None:
    copytree(whole, tmp_path / "run")
    place = tmp_path / "run" / NAME
    good = place.read_bytes()
    marks = [m.start() for m in re.finditer(rb"quality=\d", good)]
    assert len(marks) > 100
    for at in marks[::7]:
        bad = bytearray(good)
        bad[at + 8] ^= 1
        place.write_bytes(bad)
        assert damages(tmp_path / "run"), f"at {at}"
