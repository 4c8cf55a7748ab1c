"""The summary as a page of text. Counts nothing: all figures come from `summary`."""

from __future__ import annotations

from collections.abc import Iterator

from prefsmith.prices import NANO, dollars
from prefsmith.records import Json
from prefsmith.summary import ENOUGH_PAIRS


def render(s: Json) -> str:
    """The summary as a page of text."""
    return "\n".join([*_funnel(s), "", *_table(s), "", *_costs(s), *_ending(s)])


def _funnel(s: Json) -> Iterator[str]:
    rows, asked, items = s["rows"], s["asked"], s["items"]
    aside = {"duplicate": rows["duplicates"], **rows["set_aside"]}
    yield f"rows         {rows['n']:>9,}   {_reasons('set aside', aside)}"
    yield f"items        {rows['items']:>9,}"
    owed = {"owed": asked["owed"], **asked["final"]}
    yield f"completions  {asked['completions']:>9,}   of {asked['units']:,} asked for; {_reasons('missing', owed)}"
    passed = asked["completions"] - sum(s["gates"].values())
    yield f"  passed     {passed:>9,}   {_reasons('held back', s['gates'])}"
    for name, tally in s["verdicts"].items():
        lost = {k: v for k, v in tally.items() if k != "scored"}
        yield f"verdicts     {tally.get('scored', 0):>9,}   by {name}; {_reasons('without', lost)}"
    found = f"from {items['with_pair']:,} of {items['n']:,} items"
    yield f"pairs        {s['n_pairs']:>9,}   {found}; {_reasons('no pair', items['without'])}"


def _reasons(title: str, counts: dict[str, int]) -> str:
    some = {k: n for k, n in counts.items() if n}
    if not some:
        return f"{title}: none"
    return f"{title}: " + ", ".join(f"{n:,} {k}" for k, n in some.items())


def _table(s: Json) -> Iterator[str]:
    yield "temperature  completions  distinct  finished  pass rate  mean tokens   chosen  rejected"
    for t in s["by_temperature"]:
        rate = "–" if t["pass_rate"] is None else f"{t['pass_rate']:.1%}"
        tokens = "–" if t["mean_tokens"] is None else f"{t['mean_tokens']:.1f}"
        yield (
            f"{t['temperature']:>11g}  {t['n_completions']:>11,}  {t['distinct']:>8.1%}  {t['finished']:>8.1%}  "
            f"{rate:>9}  {tokens:>11}  {t['n_chosen']:>7,}  {t['n_rejected']:>8,}"
        )
    if any(t["pass_rate"] is not None for t in s["by_temperature"]):
        yield f"(pass rate: a score of at least {s['correct']:g} by the first judge; cut-off and empty answers fail)"


def _costs(s: Json) -> Iterator[str]:
    c = s["cost"]
    yield (
        f"{c['n_calls']:,} calls ({c['n_failed']:,} failed), {c['n_prompt_tokens']:,} + {c['n_completion_tokens']:,} "
        f"tokens, {_price(c, 1)}, {c['seconds']:.1f} s"
    )
    if c["tokens_per_pair"] is not None:
        each = _price(c, s["n_pairs"])
        yield f"per accepted pair: {c['tokens_per_pair']:,.0f} tokens, {each}, {c['seconds_per_pair']:.2f} s"
    for held in _held(c):
        yield f"held as maybe billed: {held}, for calls whose price never came back; --maybe-billed settles it"


def _price(c: dict[str, Json], n: int) -> str:
    """Of one of `n` parts. A reply without a price is told, never taken for 0."""
    known = dollars(c["known_usd"] * NANO / n)
    if not c["n_unpriced"]:
        return known
    without = f"{c['n_unpriced']:,} replies without a price"
    return f"at least {known} ({without})" if c["known_usd"] else f"price not known ({without})"


def _held(c: dict[str, Json]) -> Iterator[str]:
    if c["held_usd"]:
        yield dollars(c["held_usd"] * NANO)
    if c["held_tokens"]:
        yield f"{c['held_tokens']:,} tokens"


def _ending(s: Json) -> Iterator[str]:
    yield ""
    for f in s["files"]:
        yield f"{f['path']}  ({f['format']}, {f['n_rows']:,} rows)"
    if s["n_pairs"] == 0:
        yield "warning: no pair at all; the reasons are above"
    elif s["n_pairs"] < ENOUGH_PAIRS:
        settled = s["items"]["n"] - s["items"]["without"].get("incomplete", 0)
        need = -(-ENOUGH_PAIRS * settled // s["n_pairs"])
        yield (
            f"note: preference tuning wants {ENOUGH_PAIRS} to 1,000 pairs or more; at this yield that takes about "
            f"{need:,} prompts"
        )
    yield f"next: prefsmith verify {s['folder']}"
