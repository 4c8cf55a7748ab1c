"""What came of each judge's verdicts in a view: a result, none, still owed, or never asked for, each with its reason.

Of a judge that scores each text by itself these add up to the texts that passed, where no earlier judge has decided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from prefsmith.ledger.ids import reads_hash
from prefsmith.ledger.known import OpenItem, VerdictKey
from prefsmith.outcomes import Artifact, Pair
from prefsmith.reasons import Reason
from prefsmith.records import Json
from prefsmith.stages import confirm, rivals
from prefsmith.stages.calls import Leaf, Plan, Stage
from prefsmith.stages.decide import scores, wants
from prefsmith.stages.entrants import Entrants
from prefsmith.stages.grid import is_open
from prefsmith.stages.plan import entrants
from prefsmith.stages.score import asks, lacking, paired
from prefsmith.stages.view import Seen

_Asked = dict[VerdictKey, str]
_Unasked = dict[VerdictKey, tuple[str, str]]
"""The judge's name, and why."""


@dataclass(slots=True)
class Tally:
    """By judge's name, then by reason; verdicts with a score or a choice stand under "scored"."""

    verdicts: dict[str, Counter[str]] = field(default_factory=dict)
    not_asked: dict[str, Counter[str]] = field(default_factory=dict)
    owed: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, plan: Plan) -> Tally:
        """Rules ask nothing, and lists of questions are no verdicts: a row of theirs would tell of none."""
        listers = {leaf.lister.judge for leaf in plan.leaves if leaf.lister}
        return cls({leaf.name: Counter() for leaf in plan.leaves if leaf.judge not in listers})

    def as_json(self) -> dict[str, Json]:
        return {
            "verdicts": {name: dict(c.most_common()) for name, c in self.verdicts.items()},
            "not_asked": {name: dict(c.most_common()) for name, c in self.not_asked.items()},
            "verdicts_owed": dict(self.owed),
        }

    def add(self, plan: Plan, one: Seen) -> None:
        """Each verdict that the view asks for once: equal texts share theirs, and so do items that a judge reads
        alike."""
        of = entrants(plan, one.work, one.gates, one.known)
        asked, unasked = _Asked(), _Unasked()
        for item in one.work.items:
            found = _by_stages(plan, one, of, item, asked, unasked)
            if plan.confirm and not isinstance(found, Reason):
                _confirming(plan.confirm, one, of, item, found, asked, unasked)
        for key, name in asked.items():
            held = one.known.verdicts.get(key)
            if held is None:
                self.owed[name] += 1
            elif not isinstance(held, Artifact) or held.reason is not None:
                tally = self.verdicts.setdefault(name, Counter())  # a lister has a row when it failed
                tally["scored" if held.reason is None else held.reason.value] += 1
        for name, why in unasked.values():
            self.not_asked.setdefault(name, Counter())[why] += 1


def _by_stages(
    plan: Plan, one: Seen, of: Entrants, item: OpenItem, asked: _Asked, unasked: _Unasked
) -> tuple[Pair, ...] | Reason:
    """The stages that an item gets to, and the pairs that came of them."""
    known, correct = one.known, plan.rule.correct
    found: tuple[Pair, ...] | Reason = Reason.TIE
    owes, sampling = False, is_open(plan, known)
    for stage in plan.stages:
        verdicts = scores(stage, of, item, known, correct)
        for want in wants(stage, of, item, known, correct):
            # Behind a stage that is owed something nobody knows yet what will be asked.
            if not owes or want.key in known.verdicts:
                asked[want.key] = want.leaf.name
        owes = owes or verdicts is None
        for key, name, why in _not_asked(stage, item, of.texts, arms=bool(plan.arms)):
            if sampling and why == Reason.TOO_FEW.value:
                asked[key] = name  # it will not stay alone
            else:
                unasked[key] = (name, why)
        if not plan.arms:
            found = paired(plan, stage.judge, item, of.alive, verdicts or {})
            if not isinstance(found, Reason):
                break
    return rivals.pairs(plan, one.gates, known) if plan.arms else found


def _confirming(
    leaf: Leaf, one: Seen, of: Entrants, item: OpenItem, found: tuple[Pair, ...], asked: _Asked, unasked: _Unasked
) -> None:
    asked.update({want.key: want.leaf.name for want in confirm.wants(leaf, of, [(item, found)], one.known)})
    if why := lacking(leaf, item.item):
        for pair in found:
            shown = tuple(one.known.completions[key].text for key in (pair.chosen, pair.rejected))
            unasked[leaf.judge, reads_hash(item.item, leaf.reads), shown, 0] = (leaf.name, why)


def _not_asked(
    stage: Stage, item: OpenItem, texts: Sequence[int], *, arms: bool
) -> Iterator[tuple[VerdictKey, str, str]]:
    """Judges of this stage that the item is not shown to, and why: by text where they score each text, else once."""
    for leaf in (part.leaf for part in stage.whole if part.leaf is not None and texts):
        if why := lacking(leaf, item.item) or ("" if arms or asks(leaf, texts) else Reason.TOO_FEW.value):
            each = leaf.gives == "score" and leaf.lister is None
            for shown in [(t,) for t in texts] if each else [()]:
                yield (leaf.judge, reads_hash(item.item, leaf.reads), shown, 0), leaf.name, why
