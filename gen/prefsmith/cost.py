"""What the calls of a view took: tokens, money and time, and of which server; counted from the ledger's call rows.

Nothing is taken for 0 because it is not known, and no session that asked nothing of the view has cost time. A call is
the view's when what it asked for is: completions by the view's samplers up to their `n`, verdicts by its judges about
its texts, of its prompts; one that asked for more than that at once counts whole.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import orjson

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
    by_endpoint, sessions = _by_endpoint(folder)
    each, counters = max(1, n_pairs), folder.ledger.counters()
    prompt = sum(one.n_prompt_tokens for one in by_endpoint.values())
    completion = sum(one.n_completion_tokens for one in by_endpoint.values())
    nanousd = sum(one.nanousd for one in by_endpoint.values())
    unpriced = sum(one.n_unpriced for one in by_endpoint.values())
    seconds = _seconds(folder, sessions)
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


_CALLS = """
WITH cell(sampler, n) AS (VALUES {cells})
SELECT k.sampler, k.judge, k.session, coalesce(k.endpoint, ''), k.status, k.reason, count(*), sum(k.n_prompt_tokens),
  sum(k.n_completion_tokens), sum(k.cost_nanousd), count(k.cost_nanousd) FROM call k
WHERE NOT (k.status = 'failed' AND k.reason = ? AND k.http_status IS NULL)
  AND k.prompt IN (SELECT i.prompt FROM row r JOIN item i ON i.id = r.item
    WHERE r.source = ? AND r.line <= ? AND r.reason IS NULL)
  AND CASE WHEN k.sampler IS NULL THEN {judged}
    ELSE coalesce(k.unit ->> '$.idx[0]', 0) < coalesce((SELECT n FROM cell WHERE sampler = k.sampler), 0) END
GROUP BY 1, 2, 3, 4, 5, 6
"""
"""The view's calls. A row that only names the choices that a filter closed is no request."""
_SHOWN = """NOT EXISTS (SELECT 1 FROM json_each(k.unit, '$.shown') s WHERE NOT EXISTS (SELECT 1 FROM cell
  JOIN completion c ON c.prompt = k.prompt AND c.sampler = cell.sampler AND c.idx < cell.n WHERE c.text = s.value))"""
"""All that a judge was shown are texts of the view."""
_MORE = """WITH cell(sampler, n) AS (VALUES {cells}) SELECT 1 FROM completion c
WHERE c.idx >= coalesce((SELECT n FROM cell WHERE sampler = c.sampler), 0) LIMIT 1"""


def _by_endpoint(folder: Folder) -> tuple[dict[str, _Took], set[int]]:
    """And the sessions that made these calls."""
    plan, chosen, db = folder.view.plan, folder.view.selection, folder.ledger.db
    cells = ", ".join(f"({sampler:d}, {n:d})" for sampler, n in plan.samplers.items())
    # In most folders every text is of the view, and none has to be looked up.
    judged = _SHOWN if db.execute(_MORE.format(cells=cells)).fetchone() else "1"
    out: dict[str, _Took] = {}
    sessions: set[int] = set()
    for sampler, judge, session, endpoint, status, reason, n, n_in, n_out, cost, priced in db.execute(
        _CALLS.format(cells=cells, judged=judged), (Reason.CONTENT_FILTER.value, chosen.source, chosen.last_line)
    ):
        if sampler is None and judge not in plan.judges:
            continue
        sessions.add(session)
        took = out.setdefault(endpoint, _Took())
        took.n_calls += n
        took.n_prompt_tokens += n_in or 0
        took.n_completion_tokens += n_out or 0
        took.nanousd += cost or 0
        if status == "failed":
            took.failed[reason] += n
        elif status == "ok":
            took.n_unpriced += n - priced
    return out, sessions


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


def _seconds(folder: Folder, sessions: set[int]) -> float:
    """Of whole sessions; one that was killed, or still runs, lasted until its last reply."""
    found: float = folder.ledger.db.execute(
        "SELECT coalesce(sum(coalesce(s.t_end, k.last) - s.t_start), 0.0) FROM session s JOIN "
        "(SELECT session, max(t_sent + wall_s) AS last FROM call GROUP BY session) k ON k.session = s.id "
        "WHERE s.id IN (SELECT value FROM json_each(?))",
        (orjson.dumps(sorted(sessions)).decode(),),
    ).fetchone()[0]
    return found
