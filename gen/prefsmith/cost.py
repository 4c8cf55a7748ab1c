"""What the calls of a view took: tokens, money and time, and of which server; counted from the ledger's call rows.

Nothing is taken for 0 because it is not known, and no session that asked nothing has cost time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from prefsmith.folder import Folder
from prefsmith.prices import NANO
from prefsmith.reasons import Reason
from prefsmith.records import Json

LIMITED = "http.429."
"""How the names of the counters of 429s begin, which have no call rows: endpoint and minute follow."""


@dataclass(slots=True)
class _Took:
    n_calls: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    n_prompt_tokens: int = 0
    n_completion_tokens: int = 0
    nanousd: int = 0
    n_unpriced: int = 0


def cost_of(folder: Folder, n_pairs: int) -> tuple[Json, list[Json]]:
    """All of it, and by endpoint, the busiest first."""
    by_endpoint = _by_endpoint(folder)
    each, counters = max(1, n_pairs), folder.ledger.counters()
    prompt = sum(one.n_prompt_tokens for one in by_endpoint.values())
    completion = sum(one.n_completion_tokens for one in by_endpoint.values())
    nanousd = sum(one.nanousd for one in by_endpoint.values())
    unpriced = sum(one.n_unpriced for one in by_endpoint.values())
    seconds = _seconds(folder)
    cost = {
        "n_calls": sum(one.n_calls for one in by_endpoint.values()),
        "n_failed": sum(one.failed.total() for one in by_endpoint.values()),
        "n_prompt_tokens": prompt,
        "n_completion_tokens": completion,
        # The sum only when it is whole: a part of it would pass for all.
        "usd": None if unpriced else nanousd / NANO,
        "known_usd": nanousd / NANO,
        "n_unpriced": unpriced,
        "usd_per_pair": nanousd / NANO / each if n_pairs and not unpriced else None,
        "held_usd": counters.get("held.nanousd", 0) / NANO,
        "held_tokens": counters.get("held.tokens", 0),
        "seconds": seconds,
        "tokens_per_pair": (prompt + completion) / each if n_pairs else None,
        "seconds_per_pair": seconds / each if n_pairs else None,
    }
    return cost, _told(folder, by_endpoint, counters)


def _by_endpoint(folder: Folder) -> dict[str, _Took]:
    plan = folder.view.plan
    ours = (set(plan.samplers), set(plan.judges))
    out: dict[str, _Took] = {}
    # A row that only names the choices that a filter closed is no request.
    for sampler, judge, endpoint, status, reason, n, n_in, n_out, cost, priced in folder.ledger.db.execute(
        "SELECT sampler, judge, coalesce(endpoint, ''), status, reason, count(*), sum(n_prompt_tokens), "
        "sum(n_completion_tokens), sum(cost_nanousd), count(cost_nanousd) FROM call "
        "WHERE NOT (status = 'failed' AND reason = ? AND http_status IS NULL) GROUP BY 1, 2, 3, 4, 5",
        (Reason.CONTENT_FILTER.value,),
    ):
        if sampler not in ours[0] and judge not in ours[1]:
            continue
        took = out.setdefault(endpoint, _Took())
        took.n_calls += n
        took.n_prompt_tokens += n_in or 0
        took.n_completion_tokens += n_out or 0
        took.nanousd += cost or 0
        if status == "failed":
            took.failed[reason] += n
        elif status == "ok":
            took.n_unpriced += n - priced
    return out


def _told(folder: Folder, by_endpoint: dict[str, _Took], counters: dict[str, int]) -> list[Json]:
    """`url` is None for what is no server; 429s are those of the folder, whatever recipe asked."""
    limited: Counter[str] = Counter()
    for name, n in counters.items():
        if name.startswith(LIMITED):
            limited[name.removeprefix(LIMITED).rpartition(".")[0]] += n
    return [
        {
            "endpoint": name,
            "url": folder.ledger.fact(f"backend.{name}.url"),
            "key": folder.ledger.fact(f"backend.{name}.key"),
            "n_calls": took.n_calls,
            "failed": dict(took.failed.most_common()),
            "n_429": limited[name],
            "n_prompt_tokens": took.n_prompt_tokens,
            "n_completion_tokens": took.n_completion_tokens,
        }
        for name, took in sorted(by_endpoint.items(), key=lambda one: (-one[1].n_calls, one[0]))
    ]


def _seconds(folder: Folder) -> float:
    """Of the sessions that asked something; one that was killed, or still runs, lasted until its last reply."""
    found: float = folder.ledger.db.execute(
        "SELECT coalesce(sum(coalesce(s.t_end, k.last) - s.t_start), 0.0) FROM session s JOIN "
        "(SELECT session, max(t_sent + wall_s) AS last FROM call GROUP BY session) k ON k.session = s.id"
    ).fetchone()[0]
    return found
