"""What the models of a session can do, settled before anything is sent: declared, known from the ledger, or asked.

A finding shapes requests and nothing that is hashed: a view stays the view that it is, whatever its servers can do. It
does not know how a model is asked, nor what its answers will be for.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final, NamedTuple

from prefsmith.backends.can import Can
from prefsmith.backends.openai_compatible import OpenAICompatible
from prefsmith.backends.probe import LARGEST, N_ANSWERED
from prefsmith.errors import CallFailed, ProviderError, UsageError
from prefsmith.ledger.done import Done
from prefsmith.ledger.ledger import Ledger
from prefsmith.ledger.read import knowns, lines_of, works
from prefsmith.prices import FREE, Price
from prefsmith.purse import Purse, counter
from prefsmith.reasons import Reason
from prefsmith.records import Backend, Json, Sampling
from prefsmith.stages.calls import Graded, Plan
from prefsmith.stages.plan import needed
from prefsmith.stages.view import View

FEW: Final = 8
"""A model that gets no more requests than this is not asked: two more were a quarter of all, and what is wrong shows
with the first of them as well."""
LONGEST_S: Final = 60.0
"""A server that takes longer for 16 tokens is busy or gone; the run finds out which, the probe need not."""
Say = Callable[[str], None]
_BLOCK: Final = 16
_LOOKED_AT: Final = 1_000
"""Unfinished prompts that are looked at before a model without requests among them is taken to have few."""
PROBES: Final = "probes"
"""The ledger's counter of models that were asked: at most two small paid requests each, which have no call row."""


class Pool(NamedTuple):
    """The endpoints of one model with their weights, and its price, None when that is not known."""

    members: tuple[tuple[Backend, float], ...]
    price: Price | None = FREE


class Use(NamedTuple):
    """What a recipe asks of a model: by whom (`sample`, `judge NAME`), how tokens are to be drawn, and whether it is of
    no use without their probabilities."""

    who: str
    sampling: Sampling
    logprobs: bool = False


class _Model(NamedTuple):
    """`lane`: as a recipe writes it."""

    lane: str
    name: str
    members: tuple[OpenAICompatible, ...]
    price: Price | None
    uses: tuple[Use, ...]

    @property
    def can(self) -> Can:
        return self.members[0].can

    @property
    def fact(self) -> str:
        return f"can.{self.members[0].target}.{self.name}"

    @property
    def premises(self) -> Json:
        return [member.premises for member in self.members]

    @property
    def refusal(self) -> str | None:
        return refusal(self.lane, self.members[0], self.uses)

    def adopt(self, can: Can) -> None:
        for member in self.members:
            member.adopt(can)


async def fitted(
    ledger: Ledger, view: View, pools: Mapping[str, Pool], *, probe: bool, purse: Purse | None, say: Say
) -> View:
    """The view with its requests cut as its models take them; every backend is told what its model can do.

    Asks what is not known, when enough requests are to follow. Raises UsageError for a recipe that asks what a model
    refuses, ProviderError for a model that cannot be used at all: nothing else has been asked then, so everything is
    owed, and whoever began the run is still there to hear it.
    """
    models = _models(view.plan, pools)
    known = {model.lane for model in models if _remembered(ledger, model)}
    doubtful = [model for model in models if model.refusal or (probe and model.lane not in known)]
    owed = _owed(ledger, view, {model.lane for model in doubtful}) if doubtful else Counter[str]()
    if probe:
        # A finding that would end the run may be of an older server: it is never the last word.
        asked = [m for m in doubtful if owed[m.lane] > (0 if m.lane in known else FEW)]
        for model, found in zip(asked, await asyncio.gather(*(_found(ledger, m, purse) for m in asked)), strict=True):
            _learn(ledger, model, found, say)
    for model in doubtful:
        if owed[model.lane] and (told := model.refusal):
            raise UsageError(told if probe else f"{told}; without --no-probe it is asked again")
    return _cut(view, models)


def remembered(ledger: Ledger, view: View, pools: Mapping[str, Pool]) -> tuple[View, dict[str, str]]:
    """The view as `fitted` would make it without asking, and what the ledger knows of each model, in words."""
    models = _models(view.plan, pools)
    told = {model.lane: model.can.told() for model in models if _remembered(ledger, model)}
    return _cut(view, models), told


def refusal(lane: str, backend: Backend, uses: Sequence[Use]) -> str | None:
    """Why a recipe cannot use a model, as far as is known of it."""
    if not isinstance(backend, OpenAICompatible):
        return None
    for use in uses:
        if why := backend.refusal(use.sampling):
            place = "in the judge's file" if use.who.startswith("judge") else "in its row of `sample:`"
            return f"{use.who}: {lane} cannot be asked so: {why} {place}, or take another model"
        if use.logprobs and not (backend.can.logprobs or backend.can.decisions):
            return (
                f"{use.who} needs the log-probabilities of tokens, which {lane} does not give; take another model, or "
                'a judge whose file does without: needs = ["logprobs"]'
            )
    return None


def _models(plan: Plan, pools: Mapping[str, Pool]) -> list[_Model]:
    """The models of servers, with all that the plan asks of each."""
    names: dict[str, str] = {}
    uses: dict[str, dict[Use, None]] = {}
    for cell in plan.cells:
        if cell.value is not None:
            names[cell.lane] = cell.wire_model
            uses.setdefault(cell.lane, {})[Use("sample", cell.value.sampling)] = None
    for leaf in plan.leaves:
        # A classifier has no chat to be asked about.
        if leaf.asks is not None and leaf.asks.chats:
            names[leaf.lane] = leaf.asks.wire_model
            uses.setdefault(leaf.lane, {})[
                Use(f"judge {leaf.name!r}", leaf.asks.sampling, leaf.asks.needs_logprobs)
            ] = None
    out = []
    for lane, pool in pools.items():
        members = tuple(backend for backend, _ in pool.members if isinstance(backend, OpenAICompatible))
        if members and lane in names:
            out.append(_Model(lane, names[lane], members, pool.price, tuple(uses[lane])))
    return out


def _remembered(ledger: Ledger, model: _Model) -> bool:
    """Everything is declared, or was found out under what holds today."""
    if model.members[0].declared.whole:
        return True
    kept = ledger.fact(model.fact)
    if not isinstance(kept, dict) or kept.get("premises") != model.premises:
        return False
    model.adopt(Can.from_json(kept))
    return True


async def _found(ledger: Ledger, model: _Model, purse: Purse | None) -> Can | CallFailed:
    """What the first member that answers says; else why not, which ends the run only when all of them refuse us."""
    failed: CallFailed | None = None
    for member in model.members:
        most = N_ANSWERED * purse.most(LARGEST, model.price) if purse else 0
        if not _hold(ledger, purse, most):
            return CallFailed(Reason.BUDGET, "the budget has no room for it")
        ledger.add({PROBES: 1})
        try:
            async with asyncio.timeout(LONGEST_S):
                can, usage = await member.probe(model.name)
            cost = purse.cost(usage, model.price) if purse else 0
            _hold(ledger, purse, 0 if cost is None else cost - most)
            return can
        except TimeoutError:
            error = CallFailed(Reason.TIMEOUT, f"no answer in {LONGEST_S:.0f} s", maybe_billed=True)
        except CallFailed as e:
            error = e
        if not error.maybe_billed:
            _hold(ledger, purse, -most)
        if failed is None or failed.stops_endpoint:
            failed = error
    assert failed is not None
    return failed


def _hold(ledger: Ledger, purse: Purse | None, n: int) -> bool:
    """Count it in the budget, on disk before anything is sent; a negative sum is given back."""
    if purse is None or not n:
        return True
    if not purse.hold(n):
        return False
    ledger.add({counter(purse.unit): n})
    return True


def _learn(ledger: Ledger, model: _Model, found: Can | CallFailed, say: Say) -> None:
    if isinstance(found, CallFailed):
        if found.stops_endpoint:
            raise ProviderError(f"{model.lane}: {found.detail}; nothing was asked yet: mend it and run again")
        say(f"{model.lane} could not be asked what it can do, so it is taken at what is declared: {found.detail}")
        return
    ledger.learn({model.fact: {**found.to_json(), "premises": model.premises}})
    model.adopt(found)
    # Nobody asks for log-probabilities yet.
    told = replace(found, logprobs=True).lacks()
    if not found.seed:
        told.append("so this recipe run again elsewhere gets other answers")
    if found.reasoning:
        told.append(f"its thoughts ({found.reasoning}) are kept apart from its answers")
    if told:
        say(f"{model.lane} was asked what it can do: {', '.join(told)}")


def _cut(view: View, models: Sequence[_Model]) -> View:
    """One choice a request where a model takes no more."""
    single = {model.lane for model in models if not model.can.n}
    if not any(cell.lane in single and cell.chunk > 1 for cell in view.plan.cells):
        return view
    cells = tuple(replace(cell, chunk=1) if cell.lane in single else cell for cell in view.plan.cells)
    return replace(view, plan=replace(view.plan, cells=cells))


def _owed(ledger: Ledger, view: View, lanes: Collection[str]) -> Counter[str]:
    """About how many requests each of these models will get, counted until it is enough for all of them. A judge that a
    prompt has not come to yet is taken to be asked once."""
    plan, out = view.plan, Counter[str]()
    asking = [leaf.lane for leaf in plan.leaves if leaf.asks is not None]
    for block in islice(_unfinished(ledger, view), _LOOKED_AT // _BLOCK):
        held = knowns(ledger.db, block, plan.samplers, plan.judges, bodies=plan.contests)
        for work in works(ledger.db, view.selection, block):
            calls = needed(plan, work, held[work.id])
            named = [call.lane for call in calls if not isinstance(call, Graded)]
            out.update(named)
            out.update(lane for lane in asking if calls and lane not in named)
        if all(out[lane] > FEW for lane in lanes):
            break
    return out


def _unfinished(ledger: Ledger, view: View) -> Iterator[list[int]]:
    """Blocks of the prompts that no session has finished."""
    done = Done(ledger.db, view.hash)
    seen: set[int] = set()
    coming = (prompt for line, prompt in lines_of(ledger.db, view.selection) if line not in done)
    while block := list(islice(coming, _BLOCK)):
        if fresh := [prompt for prompt in dict.fromkeys(block) if prompt not in seen]:
            yield fresh
        seen.update(block)
