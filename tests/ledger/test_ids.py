"""Keys: what changes an answer changes the key, and nothing else does."""

from dataclasses import fields, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from prefsmith.ledger.ids import (
    base_seed,
    digest,
    draw,
    item_hash,
    judge_hash,
    prompt_hash,
    reads_hash,
    sampler_hash,
    text_hash,
)
from prefsmith.records import NEUTRAL, Item, Prompt, Sampler, Sampling

SAMPLER = Sampler("farm", "m", Sampling())
OTHER: dict[str, Any] = {
    "temperature": 0.7,
    "max_tokens": 1025,
    "top_p": 0.9,
    "top_k": 40,
    "min_p": 0.05,
    "presence_penalty": 0.5,
    "frequency_penalty": 0.5,
    "repetition_penalty": 1.1,
    "stop": ("END",),
    "target": "elsewhere",
    "model": "n",
    "revision": "abc",
    "system": "Be brief.",
    "run_seed": 1,
}
PROMPT = Prompt(({"role": "user", "content": "hi"},))
ITEM = Item(PROMPT, "42", "maths", {"note": "n"})


def test_every_field_of_a_sampler_is_in_its_key() -> None:
    """A field that is added without a value here fails: its author has to say what it does to the key."""
    keys = {sampler_hash(SAMPLER)}
    for field in fields(Sampling):
        keys.add(sampler_hash(replace(SAMPLER, sampling=replace(SAMPLER.sampling, **{field.name: OTHER[field.name]}))))
    for field in fields(Sampler):
        if field.name != "sampling":
            keys.add(sampler_hash(replace(SAMPLER, **{field.name: OTHER[field.name]})))
    assert len(keys) == 1 + len(fields(Sampling)) + len(fields(Sampler)) - 1


sampling = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 0.5, 1.0]),
    max_tokens=st.sampled_from([1, 2]),
    top_p=st.sampled_from([0.5, 1.0]),
    top_k=st.sampled_from([0, 1]),
    min_p=st.sampled_from([0.0, 0.1]),
    presence_penalty=st.sampled_from([0.0, 1.0]),
    frequency_penalty=st.sampled_from([0.0, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.2]),
    stop=st.sampled_from([(), ("a",), ("a", "b"), ("b", "a"), ("ab",)]),
)
samplers = st.builds(
    Sampler,
    target=st.sampled_from(["a", "b"]),
    model=st.sampled_from(["a", "b"]),
    sampling=sampling,
    revision=st.sampled_from([None, "", "a"]),
    system=st.sampled_from([None, "", "a"]),
    run_seed=st.sampled_from([0, 1, -1]),
)


@given(samplers, samplers)
def test_two_samplers_have_one_key_exactly_when_they_are_equal(a: Sampler, b: Sampler) -> None:
    assert (sampler_hash(a) == sampler_hash(b)) == (a == b)


@given(sampling)
def test_a_neutral_value_never_stands_in_what_is_hashed(one: Sampling) -> None:
    said = one.described()
    assert {name for name in NEUTRAL if getattr(one, name) == NEUTRAL[name]} & set(said) == set()
    assert {"temperature", "max_tokens"} <= set(said)


def test_a_whole_number_and_the_same_fraction_are_one_temperature() -> None:
    assert sampler_hash(replace(SAMPLER, sampling=Sampling(temperature=1))) == sampler_hash(SAMPLER)


def test_keys_of_today_are_those_of_every_later_version() -> None:
    """Golden: a folder written today must be understood by the next release."""
    assert (
        sampler_hash(SAMPLER).hex()
        == digest(
            "sampler", {"target": "farm", "model": "m", "run_seed": 0, "temperature": 1.0, "max_tokens": 1024}
        ).hex()
    )
    assert sampler_hash(SAMPLER).hex() == "725e704e6cbd4ee9c1828955bf7e7f3e"
    assert prompt_hash(PROMPT).hex() == "94300262c7b8a0c8474b8c3b5b00a7b0"
    assert item_hash(ITEM, prompt_hash(PROMPT)).hex() == "ea08adc00f7de3d6fe174dd5bb0666d2"
    assert reads_hash(ITEM, ("reference",)).hex() == "3fab90f615dcaa26f744e5108ebc284f"
    assert text_hash(b"text").hex() == "d732c6be860e019351f99173fa6ae612"
    assert base_seed(0, prompt_hash(PROMPT), sampler_hash(SAMPLER)) == 440654429


def test_every_part_of_a_prompt_is_in_its_key() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    variants = [
        PROMPT,
        Prompt(({"role": "user", "content": "hi "},)),
        Prompt(({"role": "system", "content": "hi"},)),
        Prompt(({"role": "user", "content": "hi", "name": "x"},)),
        replace(PROMPT, messages=PROMPT.messages * 2),
        replace(PROMPT, tools=(tool,)),
        replace(PROMPT, tools=(tool, tool)),
        replace(PROMPT, parallel_tool_calls=True),
        replace(PROMPT, parallel_tool_calls=False),
    ]
    assert len({prompt_hash(p) for p in variants}) == len(variants)


def test_every_column_of_an_item_is_in_its_key() -> None:
    of = prompt_hash(PROMPT)
    variants = [
        ITEM,
        replace(ITEM, reference="43"),
        replace(ITEM, reference=None),
        replace(ITEM, reference=""),
        replace(ITEM, category="art"),
        replace(ITEM, category=None),
        replace(ITEM, columns={"note": "m"}),
        replace(ITEM, columns={"note": "n", "more": None}),
        replace(ITEM, columns={}),
    ]
    keys = {item_hash(i, of) for i in variants} | {item_hash(ITEM, b"\0" * 16)}
    assert len(keys) == len(variants) + 1


@given(st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)), st.sampled_from("abc"), st.integers(0, 2))
def test_a_judge_reads_what_it_names_and_nothing_else(columns: dict[str, int], name: str, value: int) -> None:
    before, after = replace(ITEM, columns=columns), replace(ITEM, columns={**columns, name: value})
    changed = columns.get(name) != value
    assert (reads_hash(before, (name,)) != reads_hash(after, (name,))) == changed
    assert (reads_hash(before, None) != reads_hash(after, None)) == changed
    others = tuple(n for n in "abc" if n != name)
    assert reads_hash(before, others) == reads_hash(after, others)
    assert reads_hash(before, ()) == reads_hash(Item(PROMPT), ("a",))


def test_the_order_of_columns_and_keys_is_in_no_key() -> None:
    a, b = {"x": 1, "y": 2}, {"y": 2, "x": 1}
    assert judge_hash(a) == judge_hash(b)
    assert item_hash(replace(ITEM, columns=a), b"") == item_hash(replace(ITEM, columns=b), b"")


def test_two_kinds_of_thing_never_share_a_key() -> None:
    kinds = ("prompt", "item", "sampler", "judge", "reads", "recipe", "view", "mapping")
    assert len({digest(kind, {}) for kind in kinds}) == len(kinds)


@given(st.integers(-(2**63), 2**63 - 1), st.binary(min_size=16, max_size=16), st.integers(0, 2047))
def test_seeds_of_all_indices_stay_below_what_servers_keep(seed: int, of: bytes, index: int) -> None:
    assert 0 <= base_seed(seed, of, of) < 2**31
    assert base_seed(seed, of, of) + index < 2**32 - 1


def test_a_draw_tells_its_parts_apart() -> None:
    assert draw(0, b"a", b"b", 1) != draw(0, b"a", b"b", 2)
    assert draw(0, b"a", b"b", 1) != draw(1, b"a", b"b", 1)
    assert draw(0, b"ab") != draw(0, b"a", b"b")
    assert draw(0, b"pair", b"x", 1) == draw(0, b"pair", b"x", 1)
