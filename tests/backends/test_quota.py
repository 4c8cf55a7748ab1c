"""What headers say of a server's limits."""

from __future__ import annotations

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from prefsmith.backends.quota import MAX_N, MAX_RESET_S, quota_of, seconds
from prefsmith.records import Quota

SAID = {
    "x-ratelimit-limit-requests": "10000",
    "x-ratelimit-remaining-requests": "9999",
    "x-ratelimit-reset-requests": "6ms",
    "x-ratelimit-limit-tokens": "2000000",
    "x-ratelimit-remaining-tokens": "1999000",
    "x-ratelimit-reset-tokens": "6m0s",
}


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("1s", 1.0), ("6m0s", 360.0), ("20ms", 0.02), ("1h2m3.5s", 3723.5), ("1d", 86_400.0), ("7.66s", 7.66),
        ("12", 12.0), ("0", 0.0), ("0.5", 0.5), ("-3", 0.0), ("9d", MAX_RESET_S), ("1e99", MAX_RESET_S),
        ("250µs", 0.00025),
        ("", None), (None, None), ("soon", None), ("1s later", None), ("nan", None), ("2026-01-01T00:00:00Z", None),
    ],
)  # fmt: skip
def test_a_duration_is_read_as_servers_write_it(text, meant):
    assert seconds(text) == (meant if meant is None else pytest.approx(meant))


def test_a_reply_without_such_headers_says_nothing():
    assert quota_of({"content-type": "application/json", "retry-after": "3"}) is None
    assert quota_of({"x-ratelimit-limit-requests": "many"}) is None


def test_each_number_stands_where_it_belongs():
    assert quota_of(SAID) == Quota(10_000, 9_999, 0.006, 2_000_000, 1_999_000, 360.0)
    only = quota_of({"x-ratelimit-remaining-tokens": "12"})
    assert only == Quota(n_tokens_left=12.0)


@given(st.dictionaries(st.sampled_from(sorted(SAID)), st.text(max_size=12) | st.floats().map(str)))
def test_whatever_a_header_says_each_number_is_sane_or_none(headers):
    quota = quota_of(headers)
    for name, value in (quota or Quota())._asdict().items():
        assert value is None or 0 <= value <= (MAX_RESET_S if name.endswith("_s") else MAX_N)


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 59_999))
def test_a_duration_that_was_written_is_read_back(hours, minutes, ms):
    assert seconds(f"{hours}h{minutes}m{ms / 1000}s") == pytest.approx(3600 * hours + 60 * minutes + ms / 1000)


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("status", [200, 429])
def test_replies_and_refusals_carry_what_was_said(ask, completion, status, fast):
    async def answer(call):
        return web.json_response(completion("x"), status=status, headers=SAID)

    heard = ask(answer, fast=fast)
    quota = heard.reply.quota if status == 200 else heard.failed.quota
    assert (quota.rpm, quota.n_tokens_left, quota.tokens_reset_s) == (10_000, 1_999_000, 360.0)
    assert ask(completion("x")).reply.quota is None
