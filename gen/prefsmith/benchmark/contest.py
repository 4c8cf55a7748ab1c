"""One pair of answers with its gold label: what every benchmark of judges comes down to."""

from __future__ import annotations

from dataclasses import dataclass

from prefsmith.ledger.ids import draw
from prefsmith.records import Message


@dataclass(frozen=True, slots=True)
class Contest:
    """`ratings`: what each rater said, +1 for a, -1 for b, 0 for a tie, None where one did not say.

    `line`: where it stands in its file, from 1. `group`: contests of one prompt that must all be right.
    """

    id: str
    line: int
    prompt: tuple[Message, ...]
    a: str
    b: str
    ratings: tuple[int | None, ...]
    category: str | None = None
    reference: str | None = None
    model_a: str | None = None
    model_b: str | None = None
    group: str | None = None

    @property
    def label(self) -> int | None:
        """What most raters said; None where no label has the most."""
        said = [rating for rating in self.ratings if rating is not None]
        counts = {vote: said.count(vote) for vote in set(said)}
        top = [vote for vote, n in counts.items() if n == max(counts.values())]
        return top[0] if len(top) == 1 else None


def drawn(seed: int, contest: Contest) -> Contest:
    """The contest with its sides as a draw by its id has them, for files whose good answer always stands first."""
    if draw(seed, b"sides", contest.id.encode("utf-8", "surrogatepass")) % 2:
        return contest
    turned = tuple(None if rating is None else -rating for rating in contest.ratings)
    return Contest(
        contest.id, contest.line, contest.prompt, contest.b, contest.a, turned, contest.category, contest.reference,
        contest.model_b, contest.model_a, contest.group,
    )  # fmt: skip
