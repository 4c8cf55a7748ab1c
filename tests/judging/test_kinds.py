"""Listwise, checklist and schema-bound replies: what is asked, and how it is read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest

from prefsmith.backends.constraint import MISMATCH, holds
from prefsmith.judging.leaf import MOST_LISTED, reader_of
from prefsmith.judging.load import load_judge
from prefsmith.judging.parse import read_list, read_ranking, read_score, verdict_schema
from prefsmith.judging.verdicts import Step
from prefsmith.outcomes import Artifact, Ranking, Score
from prefsmith.reasons import Reason
from prefsmith.records import Generated, Item, Prompt

ITEM = Item(Prompt(({"role": "user", "content": "Name a river."},)), columns={"question": "Is it a river?"})
LISTWISE = load_judge("listwise-help", ("t", "m"), "m", [])
CHECK = load_judge("checklist-help", ("t", "m"), "m", [])
DIGITS = tuple("123456789")


def reply(text: str, finish_reason: str = "stop", **more: Any) -> Generated:
    return Generated(0, {"role": "assistant", "content": text, **more}, finish_reason)


@pytest.mark.parametrize(
    ("said", "order"),
    [
        ("B > A = C", ((1,), (0, 2))),
        ("**B > A > C**", ((1,), (0,), (2,))),
        ("C=B=A", ((0, 1, 2),)),
        ("`A > B = C`.", ((0,), (1, 2))),
        ("[B > C > A]", ((1,), (2,), (0,))),
        ("B > A > C (the first was the clearest)", ((1,), (0,), (2,))),
    ],
)
def test_a_ranking_is_read_from_the_last_line(said: str, order: Any) -> None:
    assert read_ranking(reply(f"A is short.\nVERDICT: {said}"), 3) == Ranking(order)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("VERDICT: B > A", Reason.UNPARSEABLE),
        ("VERDICT: B > A > A", Reason.UNPARSEABLE),
        ("VERDICT: B > A > C > D", Reason.UNPARSEABLE),
        ("VERDICT: B > A > C (but A is close)", Reason.UNPARSEABLE),
        ("VERDICT: B, A, C", Reason.UNPARSEABLE),
        ("VERDICT: b > a > c", Reason.UNPARSEABLE),
        ("VERDICT: B > A > Cat", Reason.UNPARSEABLE),
        ("B > A > C", Reason.UNPARSEABLE),
        ("VERDICT: B > A > C\nI hope this helps.", Reason.UNPARSEABLE),
        ("VERDICT: A > B > C\nNo:\nVERDICT: B > A > C", Reason.AMBIGUOUS),
        ("<think>VERDICT: A > B > C", Reason.UNPARSEABLE),
        ("", Reason.UNPARSEABLE),
    ],
)
def test_a_ranking_that_does_not_name_every_answer_once_is_none(text: str, reason: Reason) -> None:
    assert read_ranking(reply(text), 3) == Ranking(reason=reason)


def test_a_ranking_that_was_cut_off_or_refused_is_never_read() -> None:
    assert read_ranking(reply("VERDICT: A > B", "length"), 2).reason is Reason.REPLY_TRUNCATED
    assert read_ranking(reply("VERDICT: A > B", refusal="no"), 2).reason is Reason.REFUSED


def test_a_listwise_judge_shows_each_answer_behind_its_letter_and_nothing_after_them() -> None:
    request = LISTWISE.ask(ITEM, ["Rhine", "Oder {first}", "Elbe"], 1)
    text = request.messages[0]["content"] or ""
    at = [text.index(f"BEGIN ANSWER {letter} ") for letter in "ABC"]
    assert at == sorted(at) and "BEGIN ANSWER D" not in text and "Oder {first}" in text
    assert text.index("THE CONVERSATION") < at[0]
    assert request.labels == ("A", "B", "C", ">", "=")
    again = LISTWISE.ask(ITEM, ["x", "y"], 1, Step.REPAIR, reply("hm")).messages
    assert again[1]["content"] == "hm" and "VERDICT: A > B\n" in (again[2]["content"] or "")


def test_every_answer_of_a_listwise_judge_has_the_same_chance_to_hold_the_fence() -> None:
    one, two = (LISTWISE.ask(ITEM, texts, 1).messages[0]["content"] for texts in (["a", "b"], ["b", "a"]))
    assert one != two  # the mark is of all that is shown, in its order


def test_a_list_is_the_lines_that_look_like_one() -> None:
    said = "Here is the list:\n\n- Is it a river?\n* Is it in Europe?\n3. Is it long?\n- Is it a river?\nThat is all."
    assert read_list(reply(said), MOST_LISTED) == Artifact(("Is it a river?", "Is it in Europe?", "Is it long?"))
    assert read_list(reply("Is it a river?"), MOST_LISTED) == Artifact(reason=Reason.UNPARSEABLE)
    long = "\n".join(f"- Is it {i}?" for i in range(MOST_LISTED + 1))
    assert read_list(reply(long), MOST_LISTED) == Artifact(reason=Reason.UNPARSEABLE)
    assert read_list(reply("- Is it", "length"), MOST_LISTED).reason is Reason.REPLY_TRUNCATED
    assert read_list(reply("- ***\n- ?"), MOST_LISTED).reason is Reason.UNPARSEABLE


def test_the_questions_of_one_answer_share_everything_before_the_question() -> None:
    first, second = (
        CHECK.ask(replace(ITEM, columns={"question": q}), ["Rhine"], 1).messages[0]["content"] or ""
        for q in ("A?", "B?")
    )
    assert first[: first.index("A?")] == second[: second.index("B?")]
    assert first.index("Rhine") < first.index("A?")


def test_the_list_is_asked_of_the_prompt_alone() -> None:
    assert CHECK.lister is not None
    request = CHECK.lister.ask(ITEM, [], 1)
    assert "Name a river." in (request.messages[0]["content"] or "") and request.labels == ("-",)
    assert "Is it a river?" not in (request.messages[0]["content"] or "")
    again = CHECK.lister.ask(ITEM, [], 1, Step.REPAIR, reply("no list")).messages
    assert "VERDICT" not in (again[2]["content"] or "")


def test_a_reply_that_holds_to_its_schema_is_its_verdict() -> None:
    text = orjson.dumps({"reasons": "VERDICT: 9, one could say", "verdict": "3"}).decode()
    assert holds(text, verdict_schema(DIGITS))
    assert read_score(reply(text), DIGITS) == Score(0.25, parts={"raw": 3})


def test_a_schema_bound_reply_that_is_not_valid_is_read_as_free_text() -> None:
    assert read_score(reply("Fine.\nVERDICT: 7", MISMATCH), DIGITS) == Score(0.75, parts={"raw": 7})
    for text in ('{"verdict": "7"', '{"verdict": 7}', '{"verdict": "10"}', '{"reasons": "7"}', "7"):
        assert read_score(reply(text, MISMATCH), DIGITS) == Score(reason=Reason.UNPARSEABLE)


def test_a_stored_reply_is_read_by_what_the_ledger_keeps_of_its_judge() -> None:
    for name, text, n in (("listwise-help", "VERDICT: B > A", 2), ("rubric-help", "VERDICT: 7", 1)):
        judge = load_judge(name, ("t", "m"), "m", [])
        read = reader_of(orjson.loads(orjson.dumps(judge.described())))
        assert read is not None and read(reply(text), n) == judge.read(reply(text), n)
    assert reader_of({"kind": "panel"}) is None
