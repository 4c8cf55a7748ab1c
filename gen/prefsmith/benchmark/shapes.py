"""What one row of each known format means. Columns and codes are those of the published files.

A reader raises Misfit for a value that it does not know; it never guesses a label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from math import isnan
from typing import Final

from prefsmith.benchmark.contest import Contest
from prefsmith.records import Json, Message
from prefsmith.sources.messages import SetAside, conversation

Row = dict[str, Json]
_OWN: Final = {"A": 1, "B": -1, "TIE": 0}
_FIRST_SECOND: Final[Mapping[Json, int]] = {1: 1, 2: -1, 0: 0}


class Misfit(Exception):
    """A value that its format does not allow: what, what was expected, what to do."""


def own(line: int, row: Row) -> Iterator[Contest]:
    """{id, prompt | messages, a, b, label | labels, category?, reference?, model_a?, model_b?}"""
    if row["id"] is None or row["id"] == "":
        raise Misfit("the id is blank; verdicts name their pair by it")
    labels = row["labels"] if "labels" in row else [row["label"]]
    if not isinstance(labels, list) or not labels:
        raise Misfit(f"labels is {labels!r}, expected a list such as ['A', 'B', null]")
    one_only = "labels" not in row
    ratings = tuple(None if said is None and not one_only else _own_label(said) for said in labels)
    prompt = _prompt(row["messages"] if "messages" in row else row["prompt"])
    yield Contest(
        str(row["id"]), line, prompt, _text(row, "a"), _text(row, "b"), ratings, _word(row, "category"),
        _word(row, "reference"), _word(row, "model_a"), _word(row, "model_b"), _word(row, "group"),
    )  # fmt: skip


def judge_bench(line: int, row: Row) -> Iterator[Contest]:
    """ScalerLab/JudgeBench: label A>B or B>A; one model wrote both answers."""
    label = {"A>B": 1, "B>A": -1, "A=B": 0}.get(row["label"])
    if label is None:
        raise Misfit(f"label is {row['label']!r}, expected 'A>B', 'B>A' or 'A=B'")
    yield Contest(
        str(row["pair_id"]), line, _prompt(row["question"]), _text(row, "response_A"), _text(row, "response_B"),
        (label,), _word(row, "source"),
    )  # fmt: skip


def llmbar(line: int, row: Row) -> Iterator[Contest]:
    """princeton-nlp/LLMBar: label 1 or 2 names the better output. Its rows have no id: the place is one."""
    yield Contest(
        str(row.get("id", line)), line, _prompt(row["input"]), _text(row, "output_1"), _text(row, "output_2"),
        (_coded(row, "label"),), _word(row, "category"),
    )  # fmt: skip


def panda_lm(line: int, row: Row) -> Iterator[Contest]:
    """WeOpenML/PandaLM testset-v1: 1 or 2 names the better response, 0 a tie; three annotators."""
    names = [f"annotator{i}" for i in range(1, 10) if row.get(f"annotator{i}") is not None]
    if not names:
        raise Misfit("no annotator said anything; remove the row")
    yield Contest(
        str(row.get("idx", line)), line, _prompt(_instruction(row)), _text(row, "response1"), _text(row, "response2"),
        tuple(_coded(row, name) for name in names), _word(row, "motivation_app"),
    )  # fmt: skip


def auto_j(line: int, row: Row) -> Iterator[Contest]:
    """GAIR-NLP/auto-j testdata_pairwise: label 0 the first response, 1 the second, 2 a tie."""
    label = {0: 1, 1: -1, 2: 0}.get(row["label"]) if not isinstance(row["label"], bool) else None
    if label is None:
        raise Misfit(f"label is {row['label']!r}, expected 0 (first), 1 (second) or 2 (tie)")
    yield Contest(
        str(row.get("id", line)), line, _prompt(row["prompt"]), _text(row, "response 1"), _text(row, "response 2"),
        (label,), _word(row, "scenario"),
    )  # fmt: skip


def mt_bench(line: int, row: Row) -> Iterator[Contest]:
    """lmsys/mt_bench_human_judgments: one row a rater. Of a second turn the answer is all that followed the prompt:
    the two conversations part after it."""
    winner = {"model_a": 1, "model_b": -1, "tie": 0}.get(str(row["winner"]).removesuffix(" (inconsistent)"))
    if winner is None:
        raise Misfit(f"winner is {row['winner']!r}, expected 'model_a', 'model_b' or 'tie'")
    upto = 2 * int(row["turn"])
    sides = []
    for name in ("conversation_a", "conversation_b"):
        turns = row[name]
        if not isinstance(turns, list) or len(turns) < upto:
            raise Misfit(f"{name} has fewer than {upto} messages, which turn {row['turn']} needs")
        sides.append((turns[0], _after(turns[1:upto])))
    models = sorted([str(row["model_a"]), str(row["model_b"])])
    yield Contest(
        f"{row['question_id']}:{row['turn']}:{models[0]}:{models[1]}", line, _prompt([sides[0][0]]), sides[0][1],
        sides[1][1], (winner,), f"turn {row['turn']}", None, str(row["model_a"]), str(row["model_b"]),
    )  # fmt: skip


def alpaca_eval(line: int, row: Row) -> Iterator[Contest]:
    """tatsu-lab/alpaca_eval annotations: preference 1 or 2, 1.5 or 0 a tie, else the nearer; one row a rater."""
    said, rating = row["preference"], None
    if said is not None and not (isinstance(said, float) and isnan(said)):
        if isinstance(said, bool) or not isinstance(said, int | float) or not (said == 0 or 1 <= said <= 2):
            raise Misfit(f"preference is {said!r}, expected a number from 1 (first) to 2 (second), or 0 (tie)")
        rating = 0 if said in (0, 1.5) else 1 if said < 1.5 else -1
    yield Contest(
        str(row.get("id", row["instruction"][:60])), line, _prompt(_instruction(row)), _text(row, "output_1"),
        _text(row, "output_2"), (rating,), _word(row, "dataset"), None, _word(row, "generator_1"),
        _word(row, "generator_2"),
    )  # fmt: skip


def chosen_rejected(line: int, row: Row) -> Iterator[Contest]:
    """RewardBench, TRL, UltraFeedback: the gold answer is `chosen`, a text or a conversation that ends in it."""
    lead, good = _conversation(row["chosen"])
    _, bad = _conversation(row["rejected"])
    prompt = row.get("prompt") or lead
    if not prompt:
        raise Misfit("there is no prompt: neither a `prompt` column nor turns before the chosen answer")
    yield Contest(
        str(row.get("id", line)), line, _prompt(prompt), good, bad, (1,),
        _word(row, "subset") or _word(row, "category"), _word(row, "reference"), _word(row, "chosen_model"),
        _word(row, "rejected_model"),
    )  # fmt: skip


def reward_bench_2(line: int, row: Row) -> Iterator[Contest]:
    """allenai/reward-bench-2: each good answer against each bad one; right is the prompt when all are (best of 4)."""
    of = str(row.get("id", line))
    good, bad = _texts(row, "chosen"), _texts(row, "rejected")
    for (i, one), (j, other) in product(enumerate(good, 1), enumerate(bad, 1)):
        yield Contest(f"{of}/{i}-{j}", line, _prompt(row["prompt"]), one, other, (1,), _word(row, "subset"), group=of)


def rm_bench(line: int, row: Row) -> Iterator[Contest]:
    """THU-KEG/RM-Bench: three styles each, plainest first; a good answer in a plainer style than the bad one is hard,
    in a richer one easy."""
    good, bad = _texts(row, "chosen"), _texts(row, "rejected")
    for (i, one), (j, other) in product(enumerate(good, 1), enumerate(bad, 1)):
        level = "normal" if i == j else "hard" if i < j else "easy"
        category = f"{row['domain']}/{level}"
        yield Contest(f"{row.get('id', line)}/{i}-{j}", line, _prompt(row["prompt"]), one, other, (1,), category)


def _own_label(said: Json) -> int:
    label = _OWN.get(said.strip().upper()) if isinstance(said, str) else None
    if label is None:
        raise Misfit(f"label is {said!r}, expected 'A', 'B' or 'tie'")
    return label


def _coded(row: Row, name: str) -> int:
    said = row[name]
    label = _FIRST_SECOND.get(said) if isinstance(said, int) and not isinstance(said, bool) else None
    if label is None:
        raise Misfit(f"{name} is {said!r}, expected 1 (first), 2 (second) or 0 (tie)")
    return label


def _prompt(value: Json) -> tuple[Message, ...]:
    """A text, or messages that end with a user turn."""
    try:
        return conversation(value if isinstance(value, list) else [{"role": "user", "content": value}])
    except SetAside as error:
        raise Misfit(f"the prompt cannot be shown to a judge: {error.reason}: {error.detail}") from None


def _instruction(row: Row) -> str:
    """Alpaca's prompt: the instruction, then its input where there is one."""
    more = row.get("input")
    return f"{row['instruction']}\n\n{more}" if more else str(row["instruction"])


def _conversation(value: Json) -> tuple[list[Json], str]:
    """The turns before the answer, and the answer."""
    if isinstance(value, str):
        return [], value
    if not isinstance(value, list) or not value or not isinstance(value[-1], dict):
        raise Misfit(f"an answer is {str(value)[:60]!r}, expected a text or messages")
    last = value[-1]
    if last.get("role") != "assistant" or not isinstance(last.get("content"), str):
        raise Misfit("a conversation does not end with an assistant's text")
    return value[:-1], last["content"]


def _after(turns: list[Json]) -> str:
    first, *rest = turns
    return "\n\n".join([first["content"], *(f"[{turn['role']}]\n{turn['content']}" for turn in rest)])


def _text(row: Row, name: str) -> str:
    value = row[name]
    if not isinstance(value, str):
        raise Misfit(f"{name} is {str(value)[:60]!r}, expected the answer's text")
    return value


def _texts(row: Row, name: str) -> list[str]:
    value = row[name]
    if not isinstance(value, list) or not value or not all(isinstance(one, str) for one in value):
        raise Misfit(f"{name} is {str(value)[:60]!r}, expected a list of texts")
    return value


def _word(row: Row, name: str) -> str | None:
    value = row.get(name)
    return None if value is None or value == "" else str(value)
