"""A view: what a recipe selects of the ledger, and the records that every reader gets of it.

A folder with a history gives the same records as a fresh one: integers of the ledger decide nothing, rows outside
the view are left alone.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import orjson

from prefsmith.ledger.ingest import Selection
from prefsmith.ledger.known import Known, OpenItem, Work
from prefsmith.ledger.read import knowns, prompts_of, works
from prefsmith.outcomes import Key, Pair, Record, Sample
from prefsmith.pairing import quantile_cut
from prefsmith.reasons import Reason
from prefsmith.records import Message
from prefsmith.stages.calls import Plan
from prefsmith.stages.plan import Settled, gates_of, settle


@dataclass(frozen=True, slots=True)
class View:
    selection: Selection
    plan: Plan
    hash: bytes


class Seen(NamedTuple):
    """A prompt of the view with all that came of its items, by item id."""

    work: Work
    known: Known
    gates: dict[Key, Reason | None]
    settled: dict[int, Settled]


def seen(db: sqlite3.Connection, view: View, *, bodies: bool, cut: float | None = None) -> Iterator[Seen]:
    """Every prompt of the view in the order of its first line, pairs below `cut` left out."""
    for block in prompts_of(db, view.selection):
        held = knowns(db, block, view.plan.samplers, view.plan.judges, bodies=bodies)
        for work in works(db, view.selection, block):
            yield look(view, work, held[work.id], cut)


def look(view: View, work: Work, known: Known, cut: float | None = None) -> Seen:
    """One prompt settled; of items with the same pair the first keeps it."""
    gates = gates_of(view.plan, work, known)
    settled = {i: after_cut(one, cut) for i, one in settle(view.plan, work, known, gates).items()}
    taken: set[tuple[int, int]] = set()
    for item in work.items if len(work.items) > 1 else ():
        one = settled[item.id]
        kept = tuple(p for p in one.pairs if _texts(known, p) not in taken)
        taken.update(_texts(known, p) for p in kept)
        if one.pairs and not kept:
            settled[item.id] = one._replace(pairs=(), reason=Reason.SAME_PAIR)
        elif len(kept) < len(one.pairs):
            settled[item.id] = one._replace(pairs=kept)
    return Seen(work, known, gates, settled)


def records(db: sqlite3.Connection, view: View, shift: int = 0) -> Iterator[Record]:
    """The view, item by item, texts included; `shift` is added to every ledger integer in them, so that records of
    several ledgers can be told apart."""
    cut = margin_cut(db, view)
    silent = {cell.sampler for cell in view.plan.cells if not cell.keeps_reasoning}
    for one in seen(db, view, bodies=True, cut=cut):
        keys = [key for key in view.plan.keys if key in one.known.completions]
        messages = {t: orjson.loads(body) for t, body in one.known.bodies.items()}
        for item in one.work.items:
            record = _record(one, item, keys, messages, silent)
            yield _shifted(record, shift) if shift else record


def margin_cut(db: sqlite3.Connection, view: View) -> float | None:
    """The margin below which pairs are dropped when the recipe asks for a quantile of this run."""
    q = view.plan.rule.quantile
    if q is None:
        return None
    return quantile_cut(
        [p.margin for s in seen(db, view, bodies=False) for o in s.settled.values() for p in o.pairs], q
    )


def after_cut(settled: Settled, cut: float | None) -> Settled:
    if cut is None or not settled.pairs:
        return settled
    kept = tuple(p for p in settled.pairs if p.margin >= cut)
    return settled._replace(pairs=kept, reason=None if kept else Reason.BELOW_MARGIN)


def _texts(known: Known, pair: Pair) -> tuple[int, int]:
    return known.completions[pair.chosen].text, known.completions[pair.rejected].text


def _record(one: Seen, item: OpenItem, keys: Iterable[Key], messages: dict[int, Message], silent: set[int]) -> Record:
    """`silent`: samplers whose thoughts the recipe drops."""
    settled = one.settled[item.id]
    samples = []
    for key in keys:
        c = one.known.completions[key]
        samples.append(
            Sample(
                key,
                messages[c.text],
                c.finish_reason,
                c.n_chars,
                c.n_tokens,
                c.seed,
                None if key[0] in silent else c.reasoning,
                one.gates[key],
                settled.scores.get(key, {}),
                c.text in one.known.damaged,
            )
        )
    return Record(
        item.hash.hex(),
        one.work.hash.hex(),
        item.item,
        item.source_id,
        tuple(samples),
        settled.pairs,
        settled.reason,
    )


def _shifted(record: Record, by: int) -> Record:
    def key(k: Key) -> Key:
        return (k[0] + by, k[1])

    samples = (s._replace(key=key(s.key), scores={j + by: v for j, v in s.scores.items()}) for s in record.samples)
    pairs = (p._replace(chosen=key(p.chosen), rejected=key(p.rejected), judge=p.judge + by) for p in record.pairs)
    return replace(record, samples=tuple(samples), pairs=tuple(pairs))
