"""Where each part of a recipe was said: on a line of its file, by a flag, by nobody but the defaults.

A draft is the recipe as a plain tree before it is checked; changes are what is laid over it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prefsmith.document import Document
from prefsmith.errors import Place, UsageError
from prefsmith.records import Json


@dataclass(frozen=True, slots=True)
class Change:
    """One value put into the recipe; `origin` is what the user typed to get it there, such as `--temps`."""

    place: Place
    value: Json
    origin: str


@dataclass(slots=True)
class Draft:
    """A recipe before it is checked. `name` is where it was said; `resolved`: no path in it is left to be read."""

    tree: dict[str, Json]
    name: str
    document: Document | None = None
    resolved: bool = False


@dataclass(frozen=True, slots=True)
class Origins:
    """What answers for the parts of one recipe."""

    draft: Draft
    changes: tuple[Change, ...] = ()

    def of(self, place: Place) -> str:
        """The last change that holds the value at this place, else the line of the file."""
        for change in reversed(self.changes):
            if change.place == place[: len(change.place)]:
                return change.origin
        if place and place[0] not in self.draft.tree:
            for change in self.changes:
                if place == change.place[: len(place)]:
                    return change.origin
        if self.draft.document is None:
            return self.draft.name
        return f"{self.draft.name}:{self.draft.document.line(place)}"

    def told(self, error: UsageError) -> str:
        """The error with where the user said what it is about; what was said on no line and by no flag goes without."""
        origin = self.of(error.place)
        return f"{origin}: {error}" if error.place and origin != self.draft.name else str(error.args[0])

    @contextmanager
    def named(self) -> Iterator[None]:
        """Mistakes that show only after the merge are told as those that it finds: with their line or flag."""
        try:
            yield
        except UsageError as error:
            if not error.place:
                raise
            raise UsageError(self.told(error)) from error
