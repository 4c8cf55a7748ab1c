"""Bradley–Terry: one strength a model from who beat whom, or the reason why there is none.

The maximum of the likelihood exists exactly when every model can be reached from every other by a chain of wins (Ford
1957); a table that is not so connected is refused, for any number in its place would be made up.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from prefsmith.agreement.votes import Reals
from prefsmith.records import Json

_ENOUGH: Final = 1e-12
_ROUNDING: Final = 1e-12
"""Of the likelihood, as a share: a step that loses less is one of the last, not one that overshot."""
_MOST_STEPS: Final = 200


def strengths(wins: Reals, names: tuple[str, ...]) -> Json:
    """`wins[i, j]`: how often i beat j, a tie one half to each. Log-strengths with mean 0, highest first."""
    parts = _components(wins > 0)
    if max(parts, default=0) > 0:
        held = [[names[i] for i, of in enumerate(parts) if of == part] for part in range(max(parts) + 1)]
        shown = "; ".join(", ".join(one[:3]) + (" …" if len(one) > 3 else "") for one in held[:4])
        return {
            "refused": f"the table of wins is not strongly connected: {len(held)} sets of models ({shown}) have no "
            "chain of wins both ways, so no finite strengths fit; compare more pairs between them"
        }
    values = _fitted(wins)
    order = np.argsort(-values, kind="stable")
    return {"models": [{"model": names[i], "strength": float(values[i])} for i in order]}


def _fitted(wins: Reals) -> Reals:
    """Newton's method on the log-likelihood, which is concave; steps are halved where one overshoots."""
    games = wins + wins.T
    won = wins.sum(axis=1)
    values = np.zeros(len(wins))
    reached = _likelihood(wins, values)
    for _ in range(_MOST_STEPS):
        p = 1 / (1 + np.exp(values[None, :] - values[:, None]))  # [i][j] that i beats j
        slope = won - (games * p).sum(axis=1)
        curve = games * p * (1 - p)
        hessian = np.diag(curve.sum(axis=1)) - curve + 1 / len(wins)  # the last fixes the mean, which is free
        step = np.linalg.solve(hessian, slope)
        least = reached - _ROUNDING * abs(reached)
        while (at := _likelihood(wins, values + step)) < least and np.abs(step).max() > _ENOUGH:
            step = step / 2
        values, reached = values + step, at
        if np.abs(step).max() < _ENOUGH:
            break
    return np.asarray(values - values.mean())


def _likelihood(wins: Reals, values: Reals) -> float:
    return -float((wins * np.logaddexp(0, values[None, :] - values[:, None])).sum())


def _components(beat: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> list[int]:
    """The strongly connected component of each model, numbered from 0."""
    n = len(beat)
    reach = beat | np.eye(n, dtype=bool)
    for k in range(n):  # Warshall's closure: models are few
        reach |= reach[:, k : k + 1] & reach[k : k + 1, :]
    both = reach & reach.T
    first = [int(np.flatnonzero(both[i])[0]) for i in range(n)]
    numbers = {of: i for i, of in enumerate(dict.fromkeys(first))}
    return [numbers[of] for of in first]
