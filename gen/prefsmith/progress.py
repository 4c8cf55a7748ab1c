"""How far a session is: counts only, for the progress display and the threshold on missing verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from prefsmith.outcomes import Judged
from prefsmith.reasons import Reason

ENOUGH_VERDICTS: Final = 200
"""Below this many verdicts a share says little."""
_FEW_VERDICTS: Final = 20
"""So many say enough when sessions before have said the same."""


class Spending(NamedTuple):
    """Where a folder stands under its budget: `counted` of `cap` is spent, or held because it may have been billed."""

    unit: Literal["nanousd", "tokens"]
    counted: int
    cap: int


@dataclass(slots=True)
class Progress:
    """Counts of this session, except `n_items` and `n_items_done`, which are the view's, and `earlier`: verdicts of the
    view's judges from sessions before, by reason, "" for those with a result. `n_items_settled` items were closed in
    this session, those with something owed included; `n_pairs` is counted over `n_items_looked` of them: a share says
    enough for a display."""

    n_items: int = 0
    n_items_done: int = 0
    """With all that the recipe asks for; `n_items_before` of them since sessions before."""
    n_items_before: int = 0
    n_items_left: int = 0
    """Closed with something owed, for the next phase or session."""
    n_items_settled: int = 0
    n_items_looked: int = 0
    n_pairs: int = 0
    makes_pairs: bool = True
    """An evaluation of arms makes none."""
    n_calls_ok: int = 0
    n_calls_failed: Counter[str] = field(default_factory=Counter)
    n_completions: int = 0
    n_verdicts: int = 0
    n_no_verdict: Counter[str] = field(default_factory=Counter)
    earlier: Counter[str] = field(default_factory=Counter)
    n_tokens: int = 0
    spent_nanousd: int = 0
    n_unpriced: int = 0
    """Replies whose price or tokens are not known; what they cost is not in `spent_nanousd`."""
    budget: Spending | None = None
    """The folder's, all its sessions together; None without a budget."""
    n_owed: int = 0
    elapsed_s: float = 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds to go at this session's pace; None before anything was settled."""
        if not self.n_items_settled:
            return None
        return self.elapsed_s / self.n_items_settled * self.n_items_unseen

    @property
    def n_items_unseen(self) -> int:
        """Items that are not done, and that this session has not let go of either."""
        return self.n_items - self.n_items_done - self.n_items_left

    @property
    def n_without(self) -> int:
        """Verdicts without a result, those of earlier sessions included."""
        return self.n_no_verdict.total() + self.earlier.total() - self.earlier[""]

    def judged(self, verdicts: Iterable[Judged]) -> None:
        for one in verdicts:
            self.n_verdicts += 1
            if one.reason is not None:
                self.n_no_verdict[one.reason] += 1

    def too_many_without(self, most: float) -> str | None:
        """What to tell when more than this share of the verdicts has no result."""
        # A folder that failed would pay for as many verdicts again before each further stop, so sessions before count;
        # but a mended judge must get on, so this session has to be bad by itself too.
        own = self.n_no_verdict.total()
        if self.earlier.total() and (self.n_verdicts < _FEW_VERDICTS or own <= most * self.n_verdicts):
            return None
        total = self.n_verdicts + self.earlier.total()
        missing = self.n_without
        if total < ENOUGH_VERDICTS or missing <= most * total:
            return None
        reason, count = (self.n_no_verdict + self.earlier - Counter({"": self.earlier[""]})).most_common(1)[0]
        told = (
            f"{missing / total:.1%} of {total} verdicts have no result, most often {reason} ({count}); max_no_verdict "
            f"is {most:.1%}. "
        )
        if reason == Reason.GRADER_ERROR:
            return told + (
                "`prefsmith explain RUN line:1` shows what a grader says of a row, such as a reference that it cannot "
                "read. Mend these rows, or let the others go on without them: --set max_no_verdict=1"
            )
        return told + (
            "`prefsmith explain RUN ID` shows the replies. Mend the judge and run again to go on; what it was asked "
            "already is asked again only when its file, its model or the endpoint's `identity:` changes"
        )
