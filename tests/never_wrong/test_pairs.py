"""Rows of the gallery that belong to gates and pairing: what another tool got wrong, and cannot happen here."""

from __future__ import annotations

from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefsmith.gates import Gates, gated
from prefsmith.ledger.known import Completion, Known, OpenItem, Work
from prefsmith.outcomes import Key, Pair, Score
from prefsmith.pairing import Rule, Scored, pairs
from prefsmith.reasons import Reason
from prefsmith.records import Item, Prompt
from prefsmith.stages.calls import Cell, Leaf, Plan, Stage
from prefsmith.stages.plan import gates_of, settle

ITEM = b"item of 16 bytes"
COLD, HOT, MILD = (c.encode() * 16 for c in "chm")


def told(found: tuple[Pair, ...] | Reason, of: dict[Key, str]) -> object:
    """Pairs by the candidates' own names; a reason as it is."""
    if isinstance(found, Reason):
        return found
    return [(of[p.chosen], of[p.rejected], p.chosen_score, p.rejected_score) for p in found]


def by_name(scores: list[int], ids: list[int]) -> tuple[list[Scored], dict[Key, str]]:
    """Candidates of three samplers, whose integers in this ledger are `ids`."""
    samplers = list(zip(ids, (COLD, HOT, MILD), strict=True))
    made = [Scored((samplers[i % 3][0], i // 3), samplers[i % 3][1], score) for i, score in enumerate(scores)]
    return made, {c.key: f"{c.of_sampler[:1]!r}{c.key[1]}" for c in made}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=9),
    st.sampled_from(["best_worst", "correct_incorrect"]),
    st.permutations([1, 2, 3]),
    st.randoms(use_true_random=False),
)
def test_neither_the_order_of_candidates_nor_the_ledgers_integers_decide(
    scores: list[int], strategy: str, ids: list[int], random: object
) -> None:
    """1: chosen was always the first completion. Here it has the strictly better score, in every order."""
    rule = Rule(strategy, correct=2, max_per_prompt=3)  # type: ignore[arg-type]
    first, names = by_name(scores, [1, 2, 3])
    expected = told(pairs(rule, first, 1, ITEM), names)
    shuffled, names = by_name(scores, ids)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert told(pairs(rule, shuffled, 1, ITEM), names) == expected
    assert isinstance(expected, Reason) or all(better > worse for _, _, better, worse in expected)


def test_all_orders_of_five_candidates_with_ties_give_one_result() -> None:
    """1: over all orders."""
    candidates, names = by_name([2, 0, 2, 1, 0], [1, 2, 3])
    results = {repr(told(pairs(Rule(), order, 1, ITEM), names)) for order in permutations(candidates)}
    assert len(results) == 1


ONE = Leaf(1, b"j" * 16, "one", "judge", ())
CELLS = (Cell(1, COLD, None, "m", 2, "", 2), Cell(2, HOT, None, "m", 2, "", 2))
PLAN = Plan(CELLS, (Stage.of(ONE),), None, Gates(), Rule(), 0)
NO_COLUMNS = Item(Prompt(({"role": "user", "content": "q"},)))


def prompt(texts: list[str], verdicts: list[Score | None], n: int = 0) -> tuple[Work, Known]:
    """A prompt with two completions under each of two temperatures; equal texts are one text."""
    from prefsmith.ledger.ids import reads_hash

    ids = {text: 10 * n + i + 1 for i, text in enumerate(dict.fromkeys(texts))}
    known = Known(bodies={i: b'{"content":"%s","role":"assistant"}' % t.encode() for t, i in ids.items()})
    reads = reads_hash(NO_COLUMNS, ())
    for k, (text, verdict) in enumerate(zip(texts, verdicts, strict=True)):
        known.completions[1 + k // 2, k % 2] = Completion(ids[text], len(text), "stop", 3, 0, None)
        if verdict is not None:
            known.verdicts[1, reads, (ids[text],), 0] = verdict
    of = n.to_bytes(16, "big")
    return Work(n, of, NO_COLUMNS.prompt, (OpenItem(n, of, n + 1, None, NO_COLUMNS),)), known


def outcome(work: Work, known: Known) -> tuple[tuple[Pair, ...], Reason | None]:
    (settled,) = settle(PLAN, work, known, gates_of(PLAN, work, known)).values()
    return settled.pairs, settled.reason


MISSING = Score(reason=Reason.UNPARSEABLE)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=4, max_size=4), min_size=2, max_size=6), st.data())
def test_verdicts_that_failed_leave_every_other_items_pairs_as_they_were(
    table: list[list[int]], data: st.DataObject
) -> None:
    """2: one failed judge row shifted every later prompt onto its neighbour's answers."""
    texts = ["red", "green", "blue", "white"]
    whole = [outcome(*prompt(texts, [Score(float(s)) for s in row], n)) for n, row in enumerate(table)]
    hit = data.draw(st.sets(st.tuples(st.integers(0, len(table) - 1), st.integers(0, 3)), min_size=1))
    for n, row in enumerate(table):
        found = outcome(*prompt(texts, [MISSING if (n, k) in hit else Score(float(s)) for k, s in enumerate(row)], n))
        lost = {k for m, k in hit if m == n}
        if not lost:
            assert found == whole[n]
        else:
            used = {key for p in found[0] for key in (p.chosen, p.rejected)}
            assert not used & {(1 + k // 2, k % 2) for k in lost}


@pytest.mark.parametrize(
    ("texts", "verdicts", "reason"),
    [
        (["a", "b", "c", "d"], [Score(0.5)] * 4, Reason.TIE),
        (["a", "a", "a", "a"], [Score(0.5)] * 4, Reason.TOO_FEW),
        (["a", "b", "c", "d"], [Score(0.5), MISSING, MISSING, MISSING], Reason.NO_VERDICT),
        (["a", "b", "c", "d"], [MISSING] * 4, Reason.NO_VERDICT),
        (["a", "b", "c", "d"], [Score(0.1), Score(0.9), Score(0.2), None], Reason.INCOMPLETE),
    ],
)
def test_ties_identical_texts_and_missing_verdicts_give_no_pair_and_a_reason(
    texts: list[str], verdicts: list[Score | None], reason: Reason
) -> None:
    """3: on a tie the same completion became chosen and rejected; a missing rating raised."""
    assert outcome(*prompt(texts, verdicts)) == ((), reason)


def test_identical_texts_never_face_each_other_however_they_are_scored() -> None:
    """3: of identical texts one takes part."""
    (pair,), reason = outcome(*prompt(["a", "a", "b", "b"], [Score(1.0), Score(1.0), Score(0.0), Score(0.0)]))
    assert reason is None and {pair.chosen[0], pair.rejected[0]} == {1, 2}


@pytest.mark.parametrize("finish", ["length", "abort", "error", "content_filter", "", "STOP", "max_tokens", "eos"])
def test_only_a_natural_stop_passes_the_gates(finish: str) -> None:
    """20: aborted and truncated outputs arrive as normal completions."""
    _, known = prompt(["a", "b", "c", "d"], [None] * 4)
    known.completions[1, 0] = known.completions[1, 0]._replace(finish_reason=finish)
    held = gated(Gates(), known, {1: COLD, 2: HOT}, 0, ITEM)
    assert held[1, 0] in (Reason.TRUNCATED, Reason.ABORTED)
    assert [why for key, why in held.items() if key != (1, 0)] == [None] * 3


N_DRAWS = 3000
_LOW, _HIGH = 900, 1100
"""1,000 expected of each of three; the standard deviation is 26, so this is a little under 4 of them."""


def test_of_identical_texts_every_temperature_stays_equally_often() -> None:
    """20, 22: the one that stays is drawn, so the gate favours no temperature."""
    stays: Counter[Key] = Counter()
    known = Known({(s, 0): Completion(1, 100, "stop", 9, 0, None) for s in (1, 2, 3)})
    for n in range(N_DRAWS):
        held = gated(Gates(), known, {1: COLD, 2: HOT, 3: MILD}, 0, n.to_bytes(16, "big"))
        assert sorted(map(str, held.values())) == ["None", "identical", "identical"]
        stays.update(key for key, why in held.items() if why is None)
    assert all(_LOW < stays[s, 0] < _HIGH for s in (1, 2, 3)), stays


@pytest.mark.parametrize("strategy", ["best_worst", "correct_incorrect"])
def test_among_equal_scores_every_temperature_is_chosen_and_rejected_equally_often(strategy: str) -> None:
    """22: ties resolved by position make the lowest temperature win."""
    chosen: Counter[int] = Counter()
    rejected: Counter[int] = Counter()
    candidates = [Scored((s, i), of, float(i)) for s, of in ((1, COLD), (2, HOT), (3, MILD)) for i in (0, 1)]
    for n in range(N_DRAWS):
        found = pairs(Rule(strategy), candidates, 1, n.to_bytes(16, "big"))  # type: ignore[arg-type]
        assert not isinstance(found, Reason)
        chosen[found[0].chosen[0]] += 1
        rejected[found[0].rejected[0]] += 1
    for counted in (chosen, rejected):
        assert all(_LOW < counted[s] < _HIGH for s in (1, 2, 3)), counted
