"""The stage of a benchmark: which questions it finds missing, whatever is known already and in whatever order."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from prefsmith.ledger.ids import NO_READS, text_hash
from prefsmith.ledger.known import Known, OpenItem
from prefsmith.outcomes import Choice, Score
from prefsmith.records import Item, Prompt
from prefsmith.stages.calls import Asked, Graded, Leaf, Stage
from prefsmith.stages.contest import ANSWERS, answer_body, missing

PROMPT = Prompt(({"role": "user", "content": "q"},))
BODIES = {i: answer_body(f"answer {i}") for i in range(1, 5)}
TWO = Leaf(1, b"1", "two", "judge", (), gives="choice")
ONE = Leaf(2, b"2", "one", "judge", ())
FREE = Leaf(3, b"3", "free", "grader", ())


def known(*done: tuple[int, tuple[int, ...]]) -> Known:
    out = Known(bodies=dict(BODIES))
    for judge, shown in done:
        out.verdicts[judge, NO_READS, shown, 0] = Choice(0) if len(shown) == 2 else Score(1.0)
    return out


def item(line: int, a: int, b: int, **columns: object) -> OpenItem:
    named = [text_hash(BODIES[i]).hex() for i in (a, b)]
    return OpenItem(line, b"%d" % line, line, None, Item(PROMPT, columns={ANSWERS: named, **columns}))


def asked(leaves: list[Leaf], items: list[OpenItem], of: Known) -> set[tuple[int, tuple[int, ...]]]:
    out: set[tuple[int, tuple[int, ...]]] = set()
    for call in missing([Stage.of(leaf) for leaf in leaves], items, of, 1.0):
        if isinstance(call, Graded):
            out |= {(call.leaf.judge, (text,)) for text in call.texts}
        elif isinstance(call, Asked):
            out.add((call.leaf.judge, call.shown))
    return out


ITEMS = [item(1, 1, 2), item(2, 3, 1), item(3, 4, 4)]
ALL = (
    {(1, shown) for shown in [(1, 2), (2, 1), (3, 1), (1, 3), (4, 4)]}
    | {(2, (text,)) for text in BODIES}
    | {(3, (text,)) for text in BODIES}
)


@settings(deadline=None)
@given(st.sets(st.sampled_from(sorted(ALL))), st.permutations(ITEMS), st.permutations([TWO, ONE, FREE]))
def test_what_is_missing_is_all_that_is_not_known(
    done: set[tuple[int, tuple[int, ...]]], items: list[OpenItem], leaves: list[Leaf]
) -> None:
    assert asked(leaves, items, known(*done)) == ALL - done
    calls = missing([Stage.of(leaf) for leaf in leaves], items, known(*done), 1.0)
    assert len({call.name for call in calls}) == len(calls)


def test_a_judge_is_not_asked_about_an_item_that_lacks_its_column() -> None:
    needy = Leaf(4, b"4", "needy", "judge", (), needs=("reference",))
    assert asked([needy], ITEMS, known()) == set()


def test_a_judge_that_reads_a_column_is_asked_for_each_value_of_it() -> None:
    reader = Leaf(5, b"5", "reader", "judge", ("rubric",))
    items = [item(1, 1, 2, rubric="x"), item(2, 1, 2, rubric="y"), item(3, 1, 2, rubric="x")]
    assert len(missing([Stage.of(reader)], items, known(), 1.0)) == 4
