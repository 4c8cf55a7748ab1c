"""The error tree and the exit code of each branch.

    PrefsmithError                1   a bug, unless a branch below says otherwise
    ├── UsageError                2   the command line, the recipe, the input, a newer schema
    ├── BudgetReached             3   the budget is used up; run again with a larger one to go on
    ├── ThresholdFailed           4   a threshold of the user, or `verify`, did not hold
    ├── ProviderError             5   a provider is down or refuses us; run again to go on
    ├── MachineError              6   this machine: disk full, read-only, folder in use
    └── CallFailed                –   one call failed; becomes a row with its reason, never an exit

Foreign exceptions are translated into these at one boundary per floor. A message says what, where, what was
expected or exists, and what to do. It never holds a key or an authorisation header.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import TYPE_CHECKING, ClassVar, TypeAlias

from prefsmith.reasons import Reason

if TYPE_CHECKING:
    from prefsmith.records import Quota

Place: TypeAlias = tuple[str | int, ...]
"""A place of a recipe: ("sample", 0, "model")."""
BUDGET_REACHED, INTERRUPTED, TERMINATED = 3, 130, 143


class PrefsmithError(Exception):
    exit_code: ClassVar[int] = 1


class UsageError(PrefsmithError):
    """`place`: where in the recipe the mistake is, when it is in the recipe."""

    exit_code = 2

    def __init__(self, message: str, place: Place = ()) -> None:
        super().__init__(message)
        self.place = place

    def __str__(self) -> str:
        message = super().__str__()
        return f"{dotted(self.place)}: {message}" if self.place else message


class ContextTooShort(UsageError):
    """`model` holds `n_ctx` tokens; its longest prompt has `n_prompt`, and `n_answer` are wanted for the answer."""

    def __init__(self, message: str, model: str, n_ctx: int, n_prompt: int, n_answer: int) -> None:
        super().__init__(message)
        self.model, self.n_ctx, self.n_prompt, self.n_answer = model, n_ctx, n_prompt, n_answer


class BudgetReached(PrefsmithError):
    exit_code = BUDGET_REACHED


class ThresholdFailed(PrefsmithError):
    exit_code = 4


class ProviderError(PrefsmithError):
    exit_code = 5


class MachineError(PrefsmithError):
    exit_code = 6


class CallFailed(PrefsmithError):
    """One request came back without anything usable.

    `stops_endpoint`: nothing else can succeed there (wrong key, unknown model, quota gone).
    `maybe_billed`: the request had been sent in full, so the provider may charge for it.
    `retry_after_s`: what a 429 asked us to wait; None when it did not say. `quota`: what its headers said of limits.
    """

    def __init__(
        self,
        reason: Reason,
        detail: str,
        *,
        http_status: int | None = None,
        request_id: str | None = None,
        retry_after_s: float | None = None,
        maybe_billed: bool = False,
        stops_endpoint: bool = False,
        quota: Quota | None = None,
    ) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.http_status = http_status
        self.request_id = request_id
        self.retry_after_s = retry_after_s
        self.maybe_billed = maybe_billed
        self.stops_endpoint = stops_endpoint
        self.quota = quota


@contextmanager
def at(*place: str | int) -> Iterator[None]:
    """Whatever is wrong with the recipe here is wrong at this place, unless a deeper one was told."""
    try:
        yield
    except UsageError as error:
        error.place = error.place or place
        raise


def dotted(place: Place) -> str:
    """A place as `--set` takes it."""
    return ".".join(map(str, place))


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence that names the nearest of `known`, or all of them when none is near."""
    names = sorted(known)
    bare = {name.lstrip("-"): name for name in names}  # the dashes of two flags are alike, and say nothing
    near = get_close_matches(word.lstrip("-"), bare, n=1, cutoff=0.6)
    if near:
        return f"did you mean {bare[near[0]]!r}? (known: {', '.join(names)})"
    return f"known: {', '.join(names) or 'none'}"
