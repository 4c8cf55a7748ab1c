"""What becomes of the job when the server is short of room, broken, gone, or paid for: rows of `bench/backends.py`.

Each function runs its own jobs over the stub, looks at the stub's account and at the files that are left, and returns
rows of the table. Nothing here trusts what a client says of itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from answers import HEAVY, JUDGE, MODEL
from audit import max_attempt, recovery_s, waits_s
from farm import OURS, SCRIPTS, Farm, Ran
from measure import Row

SLOTS = 64
LATENCY_S = 0.25
"""At 64 slots 256 requests a second, which the slowest client here can keep up with."""
TIMEOUT_S = 3.0
"""Of the faulty server, twelve times a mean answer: what hangs holds its slot for so long."""
USD_IN, USD_OUT = 1.0, 4.0
PRICES = f"""\
[farm]
as_of = 2026-11-21
source = "bench/stub.py"

[farm.models]
"{MODEL}" = {{ input = {USD_IN}, output = {USD_OUT} }}
"{JUDGE}" = {{ input = {USD_IN}, output = {USD_OUT} }}
"""
PEER = "sdk-aio"


def kept(ran: Ran, what: str) -> list[Row]:
    """Rows lost and wrong: both must be none with ours, and are shown for a script."""
    found, goal = ran.found(), 0.0 if ran.ours else None
    return [
        Row(f"{what}: rows lost of {found.n_expected:,}", found.n_lost, "", goal),
        Row(f"{what}: wrong rows", found.n_wrong, "", goal),
    ]


def limits(farm: Farm, sizes: Any) -> list[Row]:
    return [*known_rate(farm, sizes), *hidden(farm, sizes), *heavy(farm, sizes)]


def known_rate(farm: Farm, sizes: Any) -> list[Row]:
    rows = []
    for who in (OURS, PEER):
        goal = who == OURS
        ran = farm.ran(who, sizes.rpm_prompts, SLOTS, rpm=sizes.rpm, latency_s=0.1)
        what = f"{sizes.rpm:,} requests a minute, told in headers, {_named(who)}"
        # Requests of whole rows, against all that the limit would have let through in that time.
        share = ran.found().n_prompts_kept / sizes.rpm_prompts * ran.needed / (sizes.rpm / 60 * ran.stats["wall_s"])
        rows += [
            Row(f"{what}: used for rows kept", 100 * share, "%", 97.0 if goal else None, True),
            Row(f"{what}: sent / needed", 1 + ran.extra, "x", 1.01 if goal else None),
            *kept(ran, what),
        ]
    return rows


def hidden(farm: Farm, sizes: Any) -> list[Row]:
    """429 and retry-after 1 s above so many in flight; nothing else tells of the limit."""
    rows = []
    for who in (OURS, PEER):
        ran = farm.ran(who, sizes.hidden_prompts, SLOTS, hidden=sizes.hidden, latency_s=LATENCY_S)
        what = f"hidden limit of {sizes.hidden} in flight, {_named(who)}"
        used = ran.stats["mean_in_flight"] / sizes.hidden
        rows += [
            Row(f"{what}: mean in flight / allowed", 100 * used, "%", 92.0 if who == OURS else None, True),
            Row(f"{what}: sent / needed", 1 + ran.extra, "x"),
            *kept(ran, what),
        ]
    return rows


def heavy(farm: Farm, sizes: Any) -> list[Row]:
    """Tokens a minute are short, and one prompt in eleven is ten times as heavy as the others."""
    window = 64
    ran = farm.ran(
        OURS, sizes.heavy_prompts, SLOTS, heavy_of=11, tpm=sizes.tpm, window_s=10.0, latency_s=0.1,
        recipe={"window": window},
    )  # fmt: skip
    of = frozenset(i for i, prompt in enumerate(ran.prompts) if prompt.startswith(HEAVY))
    slow_s, fast_s = waits_s(ran.entries(), of, window)
    what = f"{sizes.tpm:,} tokens a minute"
    return [
        Row(f"{what}: light requests wait", fast_s, "s, mean"),
        Row(f"{what}: heavy / light", slow_s / fast_s if fast_s else 1.0, "x", 1.5),
        Row(f"{what}: refused", 100 * ran.stats["statuses"].get("429", 0) / ran.needed, "% of needed"),
        *kept(ran, what),
    ]


def faults(farm: Farm, sizes: Any) -> list[Row]:
    rows = []
    for who in (OURS, PEER):
        goal = who == OURS
        plain = farm.ran(who, sizes.fault_prompts, SLOTS, latency_s=LATENCY_S, timeout_s=TIMEOUT_S)
        ran = farm.ran(who, sizes.fault_prompts, SLOTS, latency_s=LATENCY_S, timeout_s=TIMEOUT_S, faults=3)
        what = f"faults, {_named(who)}"
        n_faults = sum(ran.stats["faults"].values())
        beyond = ran.stats["n_requests"] - ran.needed - n_faults
        rows += [
            *kept(ran, what),
            Row(f"{what}: faulty answers", 100 * n_faults / ran.needed, "% of needed"),
            Row(
                f"{what}: requests beyond one for each", 100 * beyond / ran.needed, "% of needed", 2.0 if goal else None
            ),
            Row(f"{what}: wall / without", ran.stats["wall_s"] / plain.stats["wall_s"], "x", 1.2 if goal else None),
        ]
    return rows


def storm(farm: Farm, sizes: Any) -> list[Row]:
    rows = []
    storm = {"storm": (sizes.calm_s, sizes.storm_s)}
    told: Sequence[tuple[str, dict[str, Any], float, int]] = (
        ("nothing but 429, retry-after 1 s", storm, sizes.storm_s, 1),
        ("nothing but 429, no word more", storm | {"retry_after_s": None}, sizes.storm_s, 1),
        ("nobody listens", {"outage": (sizes.calm_s, sizes.outage_s)}, sizes.outage_s, 2),
    )
    for said, settings, length_s, attempts in told:
        ran = farm.ran(OURS, sizes.storm_prompts, SLOTS, latency_s=LATENCY_S, timeout_s=30.0, **settings)
        what = f"{length_s:g} s: {said}"
        rows += [
            *kept(ran, what),
            Row(f"{what}: extra requests", 100 * ran.extra, "% of needed", 10.0),
            # What was cut off by an outage was under way, and is tried a second time; a 429 uses no attempt up.
            Row(f"{what}: attempts of one call", max_attempt(ran.left), "", float(attempts)),
            Row(f"{what}: to full speed after its end", recovery_s(ran.entries(), sizes.calm_s, length_s), "s", 5.0),
            Row(f"{what}: exit code", ran.spent.code, "", 0.0),
        ]
    return rows


def budget(farm: Farm, sizes: Any) -> list[Row]:
    """A cap that some thousand requests reach; the mean of one is taken from a run without it."""
    prices = {"usd_in": USD_IN, "usd_out": USD_OUT, "latency_s": 2.0}
    sample = farm.ran(OURS, max(4, sizes.budget_prompts // 20), 256, **(prices | {"latency_s": 0.1}))
    cap = sizes.capped_requests * sample.stats["usd"] / sample.stats["n_requests"]
    recipe = farm.capped(PRICES, round(cap, 6))
    whole = farm.ran(OURS, sizes.budget_prompts, sizes.budget_slots, **prices, recipe=recipe)
    killed = farm.killed(sizes.budget_prompts, sizes.budget_slots, sizes.capped_requests // 2, **prices, recipe=recipe)
    rows = [Row(f"budget: {sizes.capped_requests:,} mean requests, {sizes.budget_slots:,} at a time", cap, "USD")]
    for what, ran in (("undisturbed", whole), ("killed -9 half-way", killed)):
        used = 100 * ran.stats["usd"] / round(cap, 6)
        rows += [
            Row(f"budget, {what}: spent by the server's account, at most", used, "% of the cap", 100.0),
            Row(f"budget, {what}: the same, at least", used, "% of the cap", 97.0, True),
            Row(f"budget, {what}: most in flight", ran.stats["peak_in_flight"], ""),
            Row(f"budget, {what}: wrong rows", ran.found().n_wrong, "", 0.0),
            Row(f"budget, {what}: exit code less 3 (a budget used up)", abs(ran.spent.code - 3), "", 0.0),
        ]
    return rows


def _named(who: str) -> str:
    return SCRIPTS.get(who, who)
