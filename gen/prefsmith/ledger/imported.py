"""Completions that nobody sampled here: texts of a file, under a sampler that only says where they come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import orjson

from prefsmith.ledger.ids import prompt_hash, text_hash
from prefsmith.ledger.ledger import Ledger
from prefsmith.records import Prompt

IMPORTED: Final = {"origin": "imported"}
_BATCH: Final = 2_000


def import_bodies(ledger: Ledger, answers: Iterable[tuple[Prompt, tuple[bytes, ...]]]) -> tuple[int, bytes, int]:
    """Keep every text that its prompt lacks; ids and hash of the sampler, and the most texts of one prompt.

    `answers`: prompts of the ledger, each with assistant messages as canonical JSON.
    """
    sampler, of = ledger.identity("sampler", IMPORTED)
    coming: Iterator[tuple[Prompt, tuple[bytes, ...]]] = iter(answers)
    while batch := list(islice(coming, _BATCH)):
        with ledger.transaction():
            for prompt, bodies in batch:
                _import(ledger, sampler, prompt, bodies)
    most = "SELECT coalesce(max(idx), -1) + 1 FROM completion WHERE sampler = ?"
    return sampler, of, int(ledger.db.execute(most, (sampler,)).fetchone()[0])


def _import(ledger: Ledger, sampler: int, prompt: Prompt, bodies: tuple[bytes, ...]) -> None:
    db = ledger.db
    p = db.execute("SELECT id FROM prompt WHERE hash = ?", (prompt_hash(prompt),)).fetchone()[0]
    held = db.execute(
        "SELECT t.hash, c.text, c.sampler FROM completion c JOIN text t ON t.id = c.text WHERE c.prompt = ?", (p,)
    ).fetchall()
    texts = {of: text for of, text, _ in held}
    here = {of for of, _, by in held if by == sampler}
    for body in bodies:
        of = text_hash(body)
        if of in here:
            continue
        if of not in texts:
            texts[of] = ledger.take_id("text")
            db.execute("INSERT INTO text VALUES(?, ?, ?)", (texts[of], of, body.decode()))
        n_chars = len(orjson.loads(body).get("content") or "")
        db.execute(
            "INSERT INTO completion VALUES(?, ?, ?, ?, ?, NULL, NULL, 'stop', NULL, NULL, 'imported', NULL, NULL)",
            (p, sampler, len(here), texts[of], n_chars),
        )
        here.add(of)
