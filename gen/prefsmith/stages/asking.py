"""A call as the request that a backend sends: every sampling value in it, nothing left to a server's defaults."""

from __future__ import annotations

from functools import lru_cache

from prefsmith.ledger.ids import base_seed
from prefsmith.ledger.known import Known, Work
from prefsmith.records import Message, Prompt, Request
from prefsmith.stages.calls import Asked, Sampled

_judges_seed = lru_cache(maxsize=1024)(base_seed)
"""The same for all questions of a judge about a prompt, which come one after the other."""


def request(call: Sampled | Asked, work: Work, known: Known, run_seed: int) -> Request:
    """The same bytes at every attempt and in every session."""
    if isinstance(call, Sampled):
        cell, prompt = call.cell, work.prompt
        assert cell.value is not None
        return Request(
            model=cell.wire_model,
            messages=under_system(prompt, cell.value.system),
            sampling=cell.value.sampling,
            n=len(call.idx),
            seed=base_seed(run_seed, work.hash, cell.hash) + call.idx[0],
            tools=prompt.tools,
            parallel_tool_calls=prompt.parallel_tool_calls,
        )
    assert call.leaf.asks is not None
    # Not the run's seed: it is no part of a judge's key, and one key must ask one thing.
    seed = _judges_seed(0, work.hash, call.leaf.hash)
    return call.leaf.asks.ask(call.item, [known.text(t) for t in call.shown], seed, call.step, call.previous)


def under_system(prompt: Prompt, system: str | None) -> tuple[Message, ...]:
    """The conversation as it is sampled: a sampler's system text stands before the prompt's own."""
    if system is None:
        return prompt.messages
    first = prompt.messages[0]
    if first["role"] != "system":
        return ({"role": "system", "content": system}, *prompt.messages)
    return ({**first, "content": f"{system}\n\n{first['content']}"}, *prompt.messages[1:])
