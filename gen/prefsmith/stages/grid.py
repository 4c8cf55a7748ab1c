"""The sampling stage: which completions of the grid are missing.

What a server did not return is still missing, so it is asked again; a unit closed by a final reason is not.
"""

from __future__ import annotations

from prefsmith.ledger.known import Known
from prefsmith.stages.calls import Plan, Sampled


def missing(plan: Plan, known: Known) -> list[Sampled]:
    """One call per run of neighbouring indices, at most a chunk long."""
    if len(known.completions) == len(plan.keys):
        return []  # the usual end; every key of `completions` is one of the plan's
    out: list[Sampled] = []
    for cell in plan.cells:
        if cell.imported:
            continue
        run: list[int] = []
        for i in range(cell.n):
            key = (cell.sampler, i)
            if key in known.completions or key in known.closed:
                continue
            if run and (run[-1] != i - 1 or len(run) == cell.chunk):
                out.append(Sampled(cell, tuple(run)))
                run = []
            run.append(i)
        if run:
            out.append(Sampled(cell, tuple(run)))
    return out


def is_open(plan: Plan, known: Known) -> bool:
    """Some completion of the grid is neither here nor closed."""
    if len(known.completions) == len(plan.keys):
        return False
    imported = {cell.sampler for cell in plan.cells if cell.imported}
    return any(key not in known.completions and key not in known.closed and key[0] not in imported for key in plan.keys)
