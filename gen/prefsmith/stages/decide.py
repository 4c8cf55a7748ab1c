"""What a stage of `judge:` still wants to know, and what it says of each text when it knows: leaves, tournaments,
panels, cascades.

Pure, and blind to the order of arrival: a part that another one waits for is looked at only when it is complete. No
number of one judge is held against a number of another: a cascade's item is decided by one member, whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import chain

from prefsmith.ledger.known import Known, OpenItem
from prefsmith.outcomes import Score
from prefsmith.reasons import Reason
from prefsmith.stages import checklist, duel, listwise, score
from prefsmith.stages.calls import Call, Stage
from prefsmith.stages.entrants import Entrants
from prefsmith.stages.score import Want
from prefsmith.stages.tournament import Played, minmax, round_robin


def missing(stage: Stage, of: Entrants, items: Sequence[OpenItem], known: Known, correct: float) -> list[Call]:
    """The calls that this stage lacks for these items; equal ones are one. `correct`: from which score on a text is
    right, which is what a majority votes on."""
    if stage.leaf is not None and stage.leaf.gives == "score" and stage.leaf.lister is None:
        return score.missing(stage.leaf, items, of.texts, known)
    return score.calls_for(chain.from_iterable(wants(stage, of, item, known, correct) for item in items), known)


def wants(stage: Stage, of: Entrants, item: OpenItem, known: Known, correct: float) -> Iterator[Want]:
    """The verdicts that it decides by, as far as can be told from what is known."""
    if stage.leaf is not None:
        if stage.leaf.lister is not None:
            yield from checklist.wants(stage.leaf, item, of.texts, known)
        elif stage.leaf.gives == "ranking":
            yield from listwise.wants(stage.leaf, of, item)
        else:
            yield from score.wants(stage.leaf, item, of.texts, known)
        return
    if stage.kind == "tournament":
        for a, b in _played(stage, of, item, known).fought:
            yield from duel.wants(stage.members[0], of, item, a, b, known)
        return
    for member in stage.members:
        yield from wants(member, of, item, known, correct)
        if stage.kind == "cascade":
            found = scores(member, of, item, known, correct)
            if found is None or _sure(found, of, stage.below):
                return


def scores(stage: Stage, of: Entrants, item: OpenItem, known: Known, correct: float) -> dict[int, Score] | None:
    """The score of each text, None while something is owed."""
    if stage.leaf is not None:
        if stage.leaf.lister is not None:
            return checklist.scores(stage.leaf, item, of.texts, known)
        if stage.leaf.gives == "ranking":
            return listwise.scores(stage.leaf, of, item, known)
        return score.verdicts_of(stage.leaf, item, of.texts, known)
    if stage.kind == "tournament":
        played = _played(stage, of, item, known)
        return None if played.owed else played.scores
    if stage.kind == "cascade":
        found: dict[int, Score] | None = {}
        for member in stage.members:
            found = scores(member, of, item, known, correct)
            if found is None or _sure(found, of, stage.below):
                break
        return found
    told = [scores(member, of, item, known, correct) for member in stage.members]
    whole = [one for one in told if one is not None]
    if len(whole) < len(told):
        return None
    combine = mean if stage.rule == "mean" else partial(majority, correct=correct)
    return {t: combine([one[t] for one in whole]) for t in of.texts if all(t in one for one in whole)}


def told(
    stage: Stage, of: Entrants, item: OpenItem, known: Known, correct: float
) -> Iterator[tuple[int, Mapping[int, Score] | None]]:
    """The scores of a stage's members, as far as they were asked, and last its own, by judge id."""
    for part in stage.whole[:-1] if stage.kind in ("panel", "cascade") else ():
        if (found := scores(part, of, item, known, correct)) is not None:
            yield part.judge, found
    yield stage.judge, scores(stage, of, item, known, correct)


def mean(verdicts: Sequence[Score]) -> Score:
    """Of all members: where one has no verdict the others' mean would be on another scale."""
    values = [one.value for one in verdicts if one.value is not None]
    if len(values) < len(verdicts):
        return Score(reason=next(one.reason for one in verdicts if one.reason is not None))
    return Score(sum(values) / len(values))


def majority(verdicts: Sequence[Score], correct: float) -> Score:
    """1 when more than half of all members find it right, 0 when more than half find it wrong."""
    votes = [one.value >= correct for one in verdicts if one.value is not None]
    for side in (True, False):
        if 2 * votes.count(side) > len(verdicts):
            return Score(float(side))
    reasons = {one.reason for one in verdicts}
    (reason,) = reasons if len(reasons) == 1 else (None,)
    return Score(reason=reason or Reason.DISAGREEMENT)


def _sure(found: Mapping[int, Score], of: Entrants, below: float) -> bool:
    """Every text has a verdict, and none of them was a near thing."""
    return all(
        (one := found.get(t)) is not None
        and one.value is not None
        and (below == 0 or (one.p is not None and one.p >= below))
        for t in of.texts
    )


def _played(stage: Stage, of: Entrants, item: OpenItem, known: Known) -> Played:
    fight = partial(duel.result, stage.members[0], of, item, known=known)
    # By the judges alone: another rule over them asks no other duels.
    order = of.drawn(b"".join(leaf.hash for leaf in stage.leaves), b"bracket")
    return (minmax if stage.rule == "minmax" else round_robin)(order, fight)
