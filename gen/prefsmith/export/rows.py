"""A record's pairs and completions as the rows of each target: pure, one function per layout.

Invariant: every row of a layout has every key with the same JSON type, so that `datasets` infers one schema whatever
comes later; completions never repeat the prompt. It knows no files and takes pairs as the guards left them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import blake2b
from operator import itemgetter
from typing import TypeAlias

import orjson

from prefsmith.errors import PrefsmithError
from prefsmith.export.guards import core
from prefsmith.export.naming import Naming
from prefsmith.outcomes import Key, Pair, Record, Sample
from prefsmith.reasons import Reason
from prefsmith.records import Json, Message, canonical

Row: TypeAlias = dict[str, Json]


def pair_id(record: Record, pair: Pair) -> str:
    """The item's hash, and eight digits of what was chosen and rejected: the same in every run that makes the pair."""
    sides = [core(record.sample(key).message) for key in (pair.chosen, pair.rejected)]
    return f"{record.id}-{blake2b(canonical(sides), digest_size=4).hexdigest()}"


def trl_rows(record: Record, pairs: Sequence[Pair], names: Naming) -> Iterator[Row]:
    """TRL's explicit preference rows (trainers page 3.1); `tools` is a column only where some prompt offers them."""
    prompt = record.item.prompt
    if prompt.tools and not names.has_tools:
        raise PrefsmithError(f"item {record.id} offers tools, but export was told that no prompt does")
    for pair in pairs:
        row: Row = {
            "id": pair_id(record, pair),
            "prompt": [hugging_face(m) for m in prompt.messages],
            "chosen": [hugging_face(record.sample(pair.chosen).message)],
            "rejected": [hugging_face(record.sample(pair.rejected).message)],
        }
        if names.has_tools:
            row["tools"] = _as_given(list(prompt.tools)) if prompt.tools else None
        row |= {
            "margin": float(pair.margin),
            "score_chosen": float(pair.chosen_score),
            "score_rejected": float(pair.rejected_score),
            "reference": record.item.reference or "",
            "category": record.item.category or "",
            "metadata": _json(_metadata(record, pair, names)),
        }
        yield row


def hugging_face(message: Message) -> Row:
    """Arguments stay objects and content is a string: of the templates that ship with TRL, 20 mangle or refuse
    string arguments and 9 raise on null content (traps 11, 12). An empty list of calls is not no calls (trap 27)."""
    out: Row = {"role": message["role"], "content": message.get("content") or ""}
    if message.get("tool_calls"):
        out["tool_calls"] = message["tool_calls"]
    if message["role"] == "tool":
        out |= {key: value for key in ("tool_call_id", "name") if (value := message.get(key)) is not None}
    return out


def openai_rows(record: Record, pairs: Sequence[Pair], names: Naming) -> Iterator[Row]:
    """OpenAI's preference rows, which allow no other key; ids and scores go into the sidecar."""
    prompt = record.item.prompt
    for pair in pairs:
        yield {
            "input": {
                "messages": [openai(m) for m in prompt.messages],
                "tools": list(prompt.tools or ()),
                "parallel_tool_calls": prompt.parallel_tool_calls is not False,
            },
            "preferred_output": [openai(record.sample(pair.chosen).message)],
            "non_preferred_output": [openai(record.sample(pair.rejected).message)],
        }


def openai(message: Message) -> Row:
    """Arguments are a JSON text here, and content is null beside calls that have no text."""
    calls = message.get("tool_calls")
    out: Row = {"role": message["role"], "content": (message.get("content") or None) if calls else message["content"]}
    if calls:
        out["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["function"]["name"], "arguments": _as_given(call["function"]["arguments"])},
            }
            for call in calls
        ]
    if message["role"] == "tool":
        out["tool_call_id"] = message.get("tool_call_id")
    elif message.get("name") is not None:
        out["name"] = message["name"]
    return out


def index_row(record: Record, pair: Pair, line: int) -> Row:
    """What the OpenAI file has no room for: which pair a line is (1-based), and its scores."""
    return {
        "line": line,
        "id": pair_id(record, pair),
        "source_id": record.source_id,
        "score_chosen": float(pair.chosen_score),
        "score_rejected": float(pair.rejected_score),
        "margin": float(pair.margin),
    }


def completion_rows(record: Record, pairs: Sequence[Pair], names: Naming) -> Iterator[Row]:
    """Every completion with every verdict. `scores`: judge name -> number, or the reason why there is none."""
    described = [(_json(names.sampler(sample.key[0])), sample.key[1], sample) for sample in record.samples]
    # By description, not by the ledger's ids: those tell in which order its samplers came to be.
    for text, idx, sample in sorted(described, key=itemgetter(0, 1)):
        sampler = names.sampler(sample.key[0])
        yield {
            "item_id": record.id,
            "prompt_id": record.prompt_id,
            "source_id": record.source_id,
            "prompt": _as_given(_prompt(record)),
            "target": sampler.get("target"),
            "model": sampler.get("model"),
            "temperature": _real(sampler.get("temperature")),
            "sampler": text,
            "idx": idx,
            "text": sample.text,
            "message": _as_given(sample.message),
            "reasoning": sample.reasoning,
            "finish_reason": sample.finish_reason,
            "gate": _word(sample.gate),
            "damaged": sample.damaged,
            "n_chars": sample.n_chars,
            "n_tokens": sample.n_tokens,
            "seed": sample.seed,
            "scores": _json(_scores(record, sample, names)),
            "in_pair": _side(sample.key, pairs),
            "no_pair": _word(record.reason),
            "reference": record.item.reference,
            "category": record.item.category,
            "columns": _json(dict(record.item.columns)),
        }


def _prompt(record: Record) -> Row:
    prompt = record.item.prompt
    out: Row = {"messages": list(prompt.messages)}
    if prompt.tools is not None:
        out["tools"] = list(prompt.tools)
    if prompt.parallel_tool_calls is not None:
        out["parallel_tool_calls"] = prompt.parallel_tool_calls
    return out


def _metadata(record: Record, pair: Pair, names: Naming) -> Row:
    out: Row = {
        "item_id": record.id,
        "prompt_id": record.prompt_id,
        "source_id": record.source_id,
        "judge": names.judge(pair.judge),
        "rule": pair.rule,
        "confirmed": pair.confirmed,
        "chosen": _origin(record.sample(pair.chosen), names),
        "rejected": _origin(record.sample(pair.rejected), names),
        "columns": dict(record.item.columns),
    }
    if record.item.prompt.parallel_tool_calls is not None:
        out["parallel_tool_calls"] = record.item.prompt.parallel_tool_calls
    return out


def _origin(sample: Sample, names: Naming) -> Row:
    return {"sampler": names.sampler(sample.key[0]), "idx": sample.key[1], "seed": sample.seed}


def _scores(record: Record, sample: Sample, names: Naming) -> Row:
    out: Row = {}
    for judge, value in sample.scores.items():
        name = names.judge(judge)
        if name in out:
            raise PrefsmithError(f"item {record.id}: two judges are named {name!r}, so one score would hide the other")
        out[name] = str(value) if isinstance(value, Reason) else float(value)
    return out


def _side(key: Key, pairs: Sequence[Pair]) -> str | None:
    chosen, rejected = any(p.chosen == key for p in pairs), any(p.rejected == key for p in pairs)
    if chosen and rejected:
        return "both"
    return "chosen" if chosen else "rejected" if rejected else None


def _json(value: Json) -> str:
    return canonical(value).decode()


def _as_given(value: Json) -> str:
    """Keys in the order that the model was shown: templates print tools and arguments as they stand."""
    return orjson.dumps(value).decode()


def _word(reason: Reason | None) -> str | None:
    return None if reason is None else str(reason)


def _real(value: Json) -> float | None:
    return None if value is None else float(value)
