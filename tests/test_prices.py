from __future__ import annotations

from datetime import date
from fractions import Fraction
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.shared import ChatModel

from prefsmith.errors import UsageError
from prefsmith.prices import FREE, Price, PriceTable, cost_nanousd, most_nanousd, nanousd_of
from prefsmith.records import Usage

SHIPPED = PriceTable.load()
MINI = Price(input=400_000_000, cached=100_000_000, output=1_600_000_000)


def table(tmp_path: Path, text: str) -> PriceTable:
    file = tmp_path / "mine.toml"
    file.write_text(text)
    return PriceTable.load(file)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(UsageError) as caught:
        table(tmp_path, text)
    return str(caught.value)


def test_the_shipped_table_says_where_it_is_from_and_of_which_day() -> None:
    openai = SHIPPED.sections["openai"]
    assert openai.source is not None and openai.source.startswith("https://")
    assert openai.as_of is not None and date(2026, 1, 1) < openai.as_of < date(2027, 1, 1)
    assert len(openai.models) > 30
    assert SHIPPED.price_of("openai", "gpt-4.1-mini") == MINI


def test_reading_from_a_cache_is_never_dearer_than_input_and_long_prompts_never_cheaper() -> None:
    for name, price in SHIPPED.sections["openai"].models.items():
        assert 0 < price.cached <= price.input < price.output, name
        assert price.cache_write is None or 4 * price.cache_write == 5 * price.input, name
        if price.long is not None:
            assert (price.long.input, price.long.cached) == (2 * price.input, 2 * price.cached), name
            assert 2 * price.long.output == 3 * price.output, name


def test_every_chat_model_that_the_sdk_names_and_does_not_call_dead_has_a_price() -> None:
    # Of the SDK's list: no chat completions of text, or shut down before this table was made.
    gone = ("audio", "search", "pro", "codex", "preview", "gpt-3.5", "gpt-4-", "32k", "o1-mini", "chatgpt", "5.1-mini")
    names = [name for name in get_args(ChatModel) if name != "gpt-4" and not any(word in name for word in gone)]
    assert len(names) > 40
    assert [name for name in names if SHIPPED.price_of("openai", name) is None] == []


def test_a_cost_is_the_exact_sum_rounded_up() -> None:
    # 11 prompt tokens, 3 of them cached, 7 of an answer: 8 x 0.4 + 3 x 0.1 + 7 x 1.6 = 14.7 microdollars
    assert cost_nanousd(MINI, Usage(11, 3, 7)) == 14_700
    luna = SHIPPED.price_of("openai", "gpt-5-nano")
    assert luna is not None
    assert cost_nanousd(luna, Usage(1, 1, 0)) == 5
    assert cost_nanousd(Price(1, 1, 1), Usage(1, 0, 0)) == 1, "a millionth of a nano-dollar is one"


def test_cached_tokens_are_part_of_the_prompt_and_reasoning_of_the_answer() -> None:
    assert cost_nanousd(MINI, Usage(100, 100, 0)) == 100 * 100
    assert cost_nanousd(MINI, Usage(100, 900, 0)) == 100 * 100, "no more can be cached than was sent"
    assert cost_nanousd(MINI, Usage(10, 0, 50, 40)) == cost_nanousd(MINI, Usage(10, 0, 50))


def test_tokens_that_nobody_counted_have_no_cost_unless_they_are_free() -> None:
    assert cost_nanousd(MINI, Usage()) is None
    assert cost_nanousd(MINI, Usage(10, 0, None)) is None
    assert cost_nanousd(MINI, Usage(10, None, 5)) == cost_nanousd(MINI, Usage(10, 0, 5))
    assert cost_nanousd(FREE, Usage()) == 0


def test_a_write_to_the_cache_is_charged_and_assumed_where_it_is_not_told() -> None:
    sol = SHIPPED.price_of("openai", "gpt-6.2-sol")
    assert sol is not None
    assert cost_nanousd(sol, Usage(2000, 0, 0)) == 2000 * 2_500
    assert cost_nanousd(sol, Usage(2000, 0, 0), n_cache_write_tokens=1024) == 1024 * 2_500 + 976 * 2_000
    assert cost_nanousd(sol, Usage(1000, 0, 0)) == 1000 * 2_000, "too short for any cache"


def test_a_long_prompt_has_the_long_price_for_the_whole_request() -> None:
    astra = SHIPPED.price_of("openai", "gpt-5.5")
    assert astra is not None
    assert cost_nanousd(astra, Usage(272_000, 0, 10)) == 272_000 * 5_000 + 10 * 30_000
    assert cost_nanousd(astra, Usage(272_001, 0, 10)) == 272_001 * 10_000 + 10 * 45_000


@given(
    model=st.sampled_from(sorted(SHIPPED.sections["openai"].models)),
    n_bytes=st.integers(1, 600_000),
    n=st.integers(1, 8),
    max_tokens=st.integers(1, 4096),
    data=st.data(),
)
def test_no_reply_costs_more_than_its_bound(
    model: str, n_bytes: int, n: int, max_tokens: int, data: st.DataObject
) -> None:
    price = SHIPPED.price_of("openai", model)
    assert price is not None
    n_prompt = data.draw(st.integers(1, n_bytes))
    usage = Usage(n_prompt, data.draw(st.integers(0, n_prompt)), data.draw(st.integers(0, n * max_tokens)))
    cost = cost_nanousd(price, usage)
    assert cost is not None
    assert cost <= most_nanousd(price, n_bytes, n, max_tokens)
    short = price if price.long is None or n_prompt <= 272_000 else price.long
    each = Fraction(short.input if short.cache_write is None else short.cache_write, 10**6)
    assert cost <= n_prompt * each + usage[2] * Fraction(short.output, 10**6) + 1, "rounded up once"


def test_the_bound_of_a_plain_request() -> None:
    assert most_nanousd(MINI, 1000, 4, 256) == 1000 * 400 + 4 * 256 * 1600


def test_a_sum_is_what_was_typed() -> None:
    assert nanousd_of(0.1) == 100_000_000
    assert nanousd_of(20) == 20_000_000_000
    assert nanousd_of(1e-10) == 0, "never more than was typed"


def test_a_dated_snapshot_has_its_models_price_and_no_other_name_is_alike() -> None:
    assert SHIPPED.price_of("openai", "gpt-4.1-mini-2025-04-14") == MINI
    for name in ("gpt-4.1-mini-latest", "gpt-4.1-mini-2025-13-14", "gpt-4.1-mini-0613", "gpt-4.1-mini-x", "GPT-4.1"):
        assert SHIPPED.price_of("openai", name) is None, name


def test_a_snapshot_with_a_price_of_its_own_keeps_it() -> None:
    old, new = (SHIPPED.price_of("openai", f"gpt-4o-{day}") for day in ("2024-05-13", "2024-08-06"))
    assert old is not None and new is not None
    assert old.input == 2 * new.input


def test_local_targets_are_free_by_declaration_and_everything_else_is_unknown() -> None:
    assert [SHIPPED.price_of(t, "anything") for t in ("embedded", "scripted", "vllm")] == [FREE] * 3
    assert SHIPPED.price_of("farm", "anything") is None
    assert "no price table has a section 'farm'" in SHIPPED.unknown("farm", "m")
    told = SHIPPED.unknown("openai", "gpt-4.1-minni")
    assert "did you mean 'gpt-4.1-mini'?" in told
    assert "[openai.models] gpt-4.1-minni" not in told and '"gpt-4.1-minni" = {' in told


def test_the_users_file_wins_entry_by_entry(tmp_path: Path) -> None:
    mine = table(
        tmp_path,
        """
        [openai.models]
        "gpt-4.1-mini" = { input = 0.123456789, output = 1 }
        [farm]
        free = true
        [vllm]
        free = false
        [vllm.models]
        "Qwen/Qwen3-8B" = { input = 0.05, output = 0.1 }
        """,
    )
    assert mine.price_of("openai", "gpt-4.1-mini") == Price(123_456_789, 123_456_789, 10**9)
    assert mine.price_of("openai", "gpt-4.1") == SHIPPED.price_of("openai", "gpt-4.1")
    assert mine.price_of("farm", "x") == FREE
    assert mine.price_of("vllm", "Qwen/Qwen3-8B") == Price(50_000_000, 50_000_000, 100_000_000)
    assert mine.price_of("vllm", "other") is None
    assert mine.price_of("embedded", "tiny") == FREE


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[openai.models]\n"a" = { inptu = 1, output = 2 }',
            "openai.models.a.inptu: unknown key; did you mean 'input'",
        ),
        ('[openai.models]\n"a.1" = { input = 1 }', 'openai.models."a.1": `output` is missing'),
        ('[openai.models]\n"a" = { input = "1", output = 2 }', "openai.models.a.input: got '1', expected US dollars"),
        ('[openai.models]\n"a" = { input = true, output = 2 }', "openai.models.a.input: got True"),
        ('[openai.models]\n"a" = { input = -1, output = 2 }', "openai.models.a.input: got -1"),
        ('[openai.models]\n"a" = { input = nan, output = 2 }', "openai.models.a.input: got Decimal('NaN')"),
        ('[openai.models]\n"a" = { input = 1e-10, output = 2 }', "openai.models.a.input: 1E-10 has more than nine"),
        ('[openai.models]\n"a" = { input = 1, output = 2, long = 3 }', "openai.models.a.long: got 3, expected a table"),
        (
            '[openai.models]\n"a" = { input = 1, output = 2, long = { input = 2, output = 3 } }',
            "openai.models.a.long.above_tokens: got None, expected a whole number",
        ),
        ("[openai.models.gpt-4.1]\ninput = 1\noutput = 2", "a model's name with a dot in it needs quotes"),
        ("[openai]\nmodel = 3", "openai.model: unknown key; did you mean 'models'?"),
        ('[openai]\nas_of = "2026-01-01"', "openai.as_of: got '2026-01-01', expected a date"),
        ("openai = 3", "openai: got 3, expected a table"),
        ("[openai\n", "mine.toml: not TOML: Expected ']'"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    message = refused(tmp_path, text)
    assert told in message
    assert "mine.toml" in message


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no price table .*gone\.toml"):
        PriceTable.load(tmp_path / "gone.toml")
