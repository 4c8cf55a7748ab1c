"""A forecast as a page of text: a row for each stage, the sum, and in words what it rests on. Counts nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefsmith.prices import NANO, dollars
from prefsmith.records import Json
from prefsmith.text import counted

_HEAD = ("stage", "by", "requests", "prompt tokens", "answer tokens", "money")


def render(p: Json) -> str:
    return "\n".join([*_subject(p), "", *_table(p), "", *_words(p)])


def _subject(p: Json) -> Iterator[str]:
    grid = f"{counted(p['completions_per_prompt'], 'completion')} each"
    done = f"finished: {counted(p['prompts_finished'], 'prompt')}"
    yield f"{counted(p['items'], 'item')} with {counted(p['prompts'], 'prompt')}, {grid}; {done}"
    if p["total"]["requests"] == 0:
        yield "nothing is left to ask"
    elif p["prompts_sampled"]:
        yield f"told by what is finished here, {counted(p['prompts_sampled'], 'prompt')}{_spread(p)}"
    else:
        begun = "no prompt is finished yet" if _sum(p["stages"], "paid") else "nothing was asked yet"
        yield f"{begun}: sampling is counted, all else is a bound"


def _spread(p: Json) -> str:
    return ", spread over the source" if p["tried"] else ""


def _table(p: Json) -> Iterator[str]:
    rows = [_HEAD, *(_row(s) for s in p["stages"])]
    rows += [("grade", name, "", "", "", "free") for name in p["graders"]]
    t = p["total"]
    if p["prompts_sampled"]:
        parts = (t["requests"], t["prompt_tokens"], t["answer_tokens"])
        rows.append(("in all", "", *map(_count, parts), _money(t["usd"])))
        offs = (t["requests_off"], None, t["tokens_off"], t["usd_off"])
        if any(offs):
            rows.append(("give or take", "", *(_share(x) for x in offs)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    for row in rows:
        cells = (c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        yield "  ".join(cells).rstrip()


def _row(s: Json) -> tuple[str, ...]:
    by = s["model"] if s["stage"] == "sample" else f"{s['name']} ({s['model']})"
    known = s["requests"] is not None
    requests = _count(s["requests"]) if known else f"at most {s['requests_at_most']:,}"
    if not s["price_known"]:
        money = "price unknown"
    elif s["free"]:
        money = "free"
    elif s["usd"] is None:
        money = f"at most {_money(s['usd_at_most'])}"
    else:
        money = _money(s["usd"])
    return (s["stage"], by, requests, _count(s["prompt_tokens"]), _count(s["answer_tokens"]), money)


def _words(p: Json) -> Iterator[str]:
    t = p["total"]
    yield f"paid for already: {_paid(p['stages'])}"
    if t["seconds"]:
        apart = f"; what {', '.join(p['graders_untimed'])} takes is not counted" if p["graders_untimed"] else ""
        yield f"time: about {_clock(t['seconds'])}, by {t['bound_by']}{apart}"
    elif t["requests"] != 0:
        yield "time: not known before a prompt is finished"
    if p["usd_at_most"]:
        yield (
            f"money: at most {_money(p['usd_at_most'])}, with every text judged and every answer as long as can be; "
            "retries and second questions to a judge apart"
        )
    yield from _budget(p)
    yield from _pairs(p)
    for name in p["never_reached"]:
        share = min(1.0, 3 / p["prompts_sampled"])
        seen = counted(p["prompts_sampled"], "prompt")
        yield f"{name} was asked about none of {seen}; up to {share:.0%} may come to it"
    yield from p["unknown_prices"]
    yield from (f"note: {note}" for note in p["notes"])
    yield from _offer(p)


def _pairs(p: Json) -> Iterator[str]:
    if p["pairs"] is None:
        return
    if p["pairs_per_item"] == 0:
        yield f"pairs: none from {counted(p['prompts_sampled'], 'prompt')}"
        return
    need = f"{p['enough_pairs']} take about {counted(round(p['prompts_for_enough']), 'prompt')}"
    yield f"pairs: about {p['pairs']:,} from {counted(p['items'], 'item')}; {need}"


def _offer(p: Json) -> Iterator[str]:
    """A trial asks models, so it is offered and never taken."""
    if p["total"]["requests"] == 0:
        return
    if not p["prompts_sampled"]:
        most = p["trial_usd_at_most"]
        costs = "at a price that is not known" if most is None else f"for at most {_money(most)}" if most else "free"
        n = p["trial_prompts"]
        yield (
            f"next: --try {n} asks the models about {counted(n, 'prompt')} ({costs}), to tell tokens, money and time; "
            "the run goes on from their replies"
        )
        return
    if more := p["trial_advised"]:
        yield f"next: --try {more['prompts']} would bring that to {more['off']:.0%}; the run goes on from its replies"


def _paid(stages: Sequence[Json]) -> str:
    sampled = [s for s in stages if s["stage"] == "sample"]
    judged = [s for s in stages if s["stage"] != "sample"]
    parts = [f"{_sum(sampled, 'paid'):,} of {counted(_sum(sampled, 'of'), 'completion')}"]
    if judged:
        parts.append(f"{_sum(judged, 'paid'):,} of at most {counted(_sum(judged, 'of'), 'verdict')}")
    return ", ".join(parts)


def _sum(stages: Sequence[Json], name: str) -> int:
    return sum(s[name] for s in stages)


def _budget(p: Json) -> Iterator[str]:
    if (budget := p["budget"]) is None:
        return
    t, tokens = p["total"], budget["unit"] == "tokens"
    cap, counted = (f"{budget[k]:,} tokens" if tokens else dollars(budget[k]) for k in ("cap", "counted"))
    left = budget["cap"] - budget["counted"]
    told = t["prompt_tokens"] is not None and t["answer_tokens"] is not None if tokens else t["usd"] is not None
    if not told:
        word = ""
    elif (need := t["prompt_tokens"] + t["answer_tokens"] if tokens else t["usd"] * NANO) > left:
        word = f"; what is left is enough for about {max(0, left) / need:.0%} of it"
    else:
        word = "; what is left is enough"
    yield f"budget: {counted} of {cap} spent or held{word}"


def _count(n: int | None) -> str:
    return "" if n is None else f"{n:,}"


def _money(usd: float | None) -> str:
    return "" if usd is None else dollars(usd * NANO)


def _share(off: float | None) -> str:
    return "" if off is None else f"{off:.0%}"


def _clock(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
