"""The summary as a page of text. Counts nothing: all figures come from `summary`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from prefsmith.errors import BUDGET_REACHED, ThresholdFailed
from prefsmith.prices import NANO, dollars
from prefsmith.reasons import Reason
from prefsmith.records import Json
from prefsmith.summary import ENOUGH_PAIRS
from prefsmith.text import counted

MOST_ENDPOINTS: Final = 8
"""A page is one screen."""


def render(s: Json) -> str:
    """The summary as a page of text."""
    return "\n".join([*_funnel(s), "", *_table(s), "", *_costs(s), *_endpoints(s), *_ending(s)])


def _funnel(s: Json) -> Iterator[str]:
    rows, asked, items = s["rows"], s["asked"], s["items"]
    aside = {"duplicate": rows["duplicates"], **{Reason(why).told: n for why, n in rows["set_aside"].items()}}
    yield f"rows         {rows['n']:>9,}   {_reasons('set aside', aside)}"
    yield f"items        {rows['items']:>9,}"
    owed = {"owed": asked["owed"], **asked["final"]}
    yield f"completions  {asked['completions']:>9,}   of {asked['units']:,} asked for; {_reasons('missing', owed)}"
    passed = asked["completions"] - sum(s["gates"].values())
    yield f"  passed     {passed:>9,}   {_reasons('held back', s['gates'])}"
    for name, tally in s["verdicts"].items():
        lost = {k: v for k, v in tally.items() if k != "scored"}
        rest = [_reasons("not asked", s["not_asked"][name])] if name in s["not_asked"] else []
        rest += [f"owed: {s['verdicts_owed'][name]:,}"] if name in s["verdicts_owed"] else []
        told = "; ".join([*rest, _reasons("without", lost)]) if rest or tally else "none was asked for"
        yield f"verdicts     {tally.get('scored', 0):>9,}   by {name}; {told}"
    found = f"from {items['with_pair']:,} of {counted(items['n'], 'item')}"
    yield f"pairs        {s['n_pairs']:>9,}   {found}; {_reasons('no pair', items['without'])}"


def _reasons(title: str, counts: dict[str, int]) -> str:
    some = {k: n for k, n in counts.items() if n}
    if not some:
        return f"{title}: none"
    return f"{title}: " + ", ".join(f"{n:,} {k}" for k, n in some.items())


def _table(s: Json) -> Iterator[str]:
    title, key = ("pass rate", "pass_rate") if s["rates"] else ("mean score", "mean_score")
    yield f"temperature  completions  distinct  finished  {title}  mean tokens   chosen  rejected"
    for t in s["by_temperature"]:
        rate = "–" if t[key] is None else f"{t[key]:.1%}" if s["rates"] else f"{t[key]:.2f}"
        tokens = "–" if t["mean_tokens"] is None else f"{t['mean_tokens']:.1f}"
        yield (
            f"{t['temperature']:>11g}  {t['n_completions']:>11,}  {t['distinct']:>8.1%}  {t['finished']:>8.1%}  "
            f"{rate:>{len(title)}}  {tokens:>11}  {t['n_chosen']:>7,}  {t['n_rejected']:>8,}"
        )
    if any(t[key] is not None for t in s["by_temperature"]):
        rated, of = (sum(t[name] for t in s["by_temperature"]) for name in ("n_rated", "n_answers"))
        over = f"over {rated:,} of {counted(of, 'answer')}"
        if s["rates"]:
            least = f"a score of at least {s['correct']:g} by the first judge"
            yield f"(pass rate: {least}, {over}; cut-off and empty answers fail)"
        else:
            yield f"(mean score: of the first judge, {over})"
    if n_open := _n_open(s):
        done = f"{s['items']['n'] - n_open:,} of {counted(s['items']['n'], 'item')} so far"
        yield f"({done}: {title}s and pairs are of those that are finished)"


def _n_open(s: Json) -> int:
    return int(s["items"]["without"].get(Reason.INCOMPLETE.value, 0))


def _costs(s: Json) -> Iterator[str]:
    c = s["cost"]
    yield (
        f"{counted(c['n_calls'], 'call')} ({c['n_failed']:,} failed), {c['n_prompt_tokens']:,} + "
        f"{c['n_completion_tokens']:,} tokens, {_price(c, 1)}, {c['seconds']:.1f} s"
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
    without = f"{counted(c['n_unpriced'], 'reply', 'replies')} without a price"
    return f"at least {known} ({without})" if c["known_usd"] else f"price not known ({without})"


def _held(c: dict[str, Json]) -> Iterator[str]:
    if c["held_usd"]:
        yield dollars(c["held_usd"] * NANO)
    if c["held_tokens"]:
        yield counted(c["held_tokens"], "token")


def _endpoints(s: Json) -> Iterator[str]:
    """Servers by their address; what runs in this process has no line, unless something failed there."""
    told = [e for e in s["endpoints"] if e["url"] or e["failed"] or e["n_429"]]
    urls = [e["url"] for e in told]
    for e in told[:MOST_ENDPOINTS]:
        name = e["url"] or e["endpoint"]
        if e["key"] and urls.count(e["url"]) > 1:
            name += f" ({e['key']})"
        n_failed = sum(e["failed"].values())
        parts = [counted(e["n_calls"], "call"), f"{e['n_prompt_tokens']:,} + {e['n_completion_tokens']:,} tokens"]
        if n_failed:
            parts.append(f"{n_failed:,} failed (" + ", ".join(f"{n:,} {why}" for why, n in e["failed"].items()) + ")")
        if e["n_429"]:
            parts.append(f"{e['n_429']:,} × 429 (told to wait)")
        yield f"{name}: {', '.join(parts)}"
    if len(told) > MOST_ENDPOINTS:
        yield f"and {counted(len(told) - MOST_ENDPOINTS, 'endpoint')} more; --json has all"


def _ending(s: Json) -> Iterator[str]:
    yield ""
    n_open = _n_open(s)
    for name, tally in s["verdicts"].items():
        if tally and "scored" not in tally:
            why = ", ".join(f"{n:,} {reason}" for reason, n in tally.items())
            yield f"warning: no verdict by {name} has a result ({why}); `prefsmith explain RUN ID` shows why"
    for f in s["files"]:
        empty = "" if f["n_rows"] else ": nothing to train on"
        of = "" if f["current"] else ", written under an earlier recipe"
        yield f"{f['path']}  ({f['format']}, {counted(f['n_rows'], 'row')}{of}{empty})"
    if s["exit"] == ThresholdFailed.exit_code:
        yield "warning: the last session was stopped, too many verdicts having no result; it wrote no file"
    if n_open:
        yield f"not finished: {counted(n_open, 'item')} of {s['items']['n']:,} to go"
    elif s["n_pairs"] == 0:
        yield "warning: no pair at all; the reasons are above"
    if 0 < s["n_pairs"] < ENOUGH_PAIRS:
        need = -(-ENOUGH_PAIRS * (s["items"]["n"] - n_open) // s["n_pairs"])
        yield (
            f"note: preference tuning wants {ENOUGH_PAIRS} to 1,000 pairs or more; at this yield that takes about "
            f"{need:,} prompts"
        )
    yield f"next: {_next(s, n_open)}"


def _next(s: Json, n_open: int) -> str:
    if n_open:
        hint = {
            None: ", unless it is running still",
            BUDGET_REACHED: " with a larger budget",
            ThresholdFailed.exit_code: " when the judge is mended",
        }
        return f"the run's own command goes on where it stopped{hint.get(s['exit'], '')}"
    if s["n_pairs"] == 0:
        return f"prefsmith explain {s['folder']} line:1 shows what came of a prompt"
    return f"prefsmith verify {s['folder']}"
