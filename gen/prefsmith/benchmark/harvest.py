"""The verdicts that a ledger holds on a benchmark's pairs, written as recorded ones: a live bench and a recorded one
are then told by the same code. Asks nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from prefsmith.benchmark.source import Pairs, hash_of
from prefsmith.folder import Folder
from prefsmith.ledger.known import Known, OpenItem
from prefsmith.ledger.read import knowns, prompts_of, works
from prefsmith.outcomes import Choice, Judged
from prefsmith.prices import NANO
from prefsmith.records import Json
from prefsmith.stages.calls import Stage
from prefsmith.stages.contest import Contested, by_hash, contested, scores, wants
from prefsmith.stages.score import lacks

_SAID: Final = {0: "A", 1: "B", -1: "TIE"}
_SCALE: Final = "[0, 1]"
_LOGIT: Final = "logit"

Question = tuple[int, int, tuple[int, ...]]
"""(judge, reads, texts in the order shown), as ledger integers."""
_Costs = dict[Question, Json]


def harvested(folder: Folder, pairs: Pairs) -> Iterator[bytes]:
    """One JSON line a verdict, prompt by prompt; pairs that are equal share theirs, and its cost is told once."""
    ids: dict[bytes, list[str]] = {}
    for one in pairs.contests():
        ids.setdefault(hash_of(one), []).append(one.id)
    db, view, plan = folder.ledger.db, folder.view, folder.view.plan
    scales = _scales(db, plan.stages)
    for block in prompts_of(db, view.selection):
        held = knowns(db, block, plan.samplers, plan.judges, bodies=True)
        costs = _costs(db, block)
        for work in works(db, view.selection, block):
            known, of_prompt = held[work.id], costs.get(work.id, {})
            texts = by_hash(known)
            for item in work.items:
                for of in ids.get(item.hash, ()):
                    pair = contested(item.item, known, texts)
                    for stage in plan.stages:
                        scale = scales[stage.judge]
                        for row in _rows(stage, pair, item, known, plan.rule.correct, of_prompt, scale):
                            yield orjson.dumps({"id": of, "judge": stage.name, **row}) + b"\n"


def _rows(
    stage: Stage, pair: Contested, item: OpenItem, known: Known, correct: float, costs: _Costs, scale: str
) -> Iterator[dict[str, Json]]:
    leaf = stage.leaf
    if leaf is not None and lacks(leaf, item.item):
        missing: dict[str, Json] = {"reason": f"lacks {', '.join(n for n in leaf.needs if not item.item.has(n))}"}
        yield from (
            [{"order": order, "verdict": None, **missing} for order in ("AB", "BA")]
            if leaf.gives == "choice"
            else [{"scores": [None, None], "scale": scale, **missing}]
        )
        return
    wanted = [want.key for want in wants(stage, pair, item, known, correct)]
    spent = [_taken(costs, known, key) for key in dict.fromkeys(key[:3] for key in wanted)]
    if leaf is not None and leaf.gives == "choice":
        found = [known.verdicts.get(key) for key in wanted]
        for order, verdict, usage in zip(("AB", "BA"), found, [*spent, None][:2], strict=True):
            if isinstance(verdict, Choice):
                yield {"order": order, **_choice(verdict), **_told(usage)}
    elif (by_text := scores(stage, pair, item, known, correct)) is not None:
        both = [by_text.get(text) for text in (pair.a, pair.b)]
        yield {"scores": [one and one.value for one in both], "scale": scale, **_reason(both), **_told(*spent)}


def _taken(costs: _Costs, known: Known, asked: tuple[int, bytes, tuple[int, ...]]) -> Json:
    judge, of, texts = asked
    reads = known.reads.get(of)
    return None if reads is None else costs.pop((judge, reads, texts), None)


def _scales(db: sqlite3.Connection, stages: Sequence[Stage]) -> dict[int, str]:
    """By stage: that of scores from 0 to 1, or a reward model's own numbers."""
    kinds = {i: orjson.loads(raw)["kind"] for i, raw in db.execute("SELECT id, json FROM judge")}
    return {one.judge: _LOGIT if kinds[one.judge] == "reward" else _SCALE for one in stages}


def _choice(verdict: Choice) -> dict[str, Json]:
    out: dict[str, Json] = {"verdict": None if verdict.position is None else _SAID[verdict.position]}
    if verdict.p is not None:
        out["p"] = verdict.p
    return {**out, **_reason([verdict])}


def _reason(found: Sequence[Judged | None]) -> dict[str, Json]:
    """The first answer's before the second's."""
    reason = next((one.reason for one in found if one is not None and one.reason is not None), None)
    return {} if reason is None else {"reason": reason.value}


def _told(*costs: Json) -> dict[str, Json]:
    """What the calls of one row took together; a sum only where each part is told."""
    told = [one for one in costs if one is not None]
    if not told:
        return {}
    out: dict[str, Json] = {"calls": sum(one["calls"] for one in told)}
    for name in ("prompt_tokens", "completion_tokens", "seconds", "usd"):
        parts = [one[name] for one in told]
        if None not in parts:
            out[name] = sum(parts)
    return {"usage": out}


def _costs(db: sqlite3.Connection, block: Sequence[int]) -> dict[int, _Costs]:
    """By prompt and question, all of its steps and attempts together."""
    sql = (
        "SELECT prompt, judge, unit, n_prompt_tokens, n_completion_tokens, wall_s, cost_nanousd, status FROM call "
        "WHERE judge IS NOT NULL AND prompt IN (SELECT value FROM json_each(?))"
    )
    out: dict[int, _Costs] = {}
    for prompt, judge, raw, *took, status in db.execute(sql, (orjson.dumps(list(block)).decode(),)):
        unit: Mapping[str, Any] = orjson.loads(raw)
        question = (judge, unit["reads"], tuple(unit["shown"]))
        one = out.setdefault(prompt, {}).setdefault(
            question, {"calls": 0, "prompt_tokens": 0, "completion_tokens": 0, "seconds": 0.0, "usd": 0.0}
        )
        one["calls"] += 1
        n_in, n_out, wall_s, nanousd = took
        parts = {"prompt_tokens": n_in, "completion_tokens": n_out, "seconds": wall_s}
        parts["usd"] = None if nanousd is None else nanousd / NANO
        for name, value in parts.items():
            if status == "ok" or value is not None:
                one[name] = None if value is None or one[name] is None else one[name] + value
    return out
