"""Graders: leaf judges that need no model, by the name that a recipe gives them.

A verdict of a grader is a pure function of the text, the columns that it reads and its parameters; `described` holds
the parameters, so it is what a key is made of. A grader that cannot grade gives no score, with its error; never 0.
exact, number, contains, constraints and demo run in this process; regex and people's own Python may never end and run
in the worker process of `pool`. Nothing here knows a model, a database or a run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from prefsmith.errors import UsageError, did_you_mean
from prefsmith.judging.graders.answers import (
    RIGHT,
    WRONG,
    GradeText,
    prepare_contains,
    prepare_exact,
    prepare_number,
)
from prefsmith.judging.graders.constraints import prepare_constraints
from prefsmith.judging.graders.demo import grade_demo, in_form
from prefsmith.judging.graders.own import is_own, load_own
from prefsmith.outcomes import Score
from prefsmith.reasons import Reason
from prefsmith.records import Item, Json

if TYPE_CHECKING:
    from prefsmith.recipe import Judge

ASK_VERSION: Mapping[str, int] = {"exact": 1, "number": 1, "regex": 1, "contains": 1, "constraints": 1, "demo": 1}
"""Raised when a grader comes to mean something else: its old verdicts then stand under another key."""
OWN_VERSION = 1
_KNOBS: Mapping[str, frozenset[str]] = {
    "exact": frozenset({"ignore_case"}),
    "contains": frozenset({"text", "ignore_case"}),
    "regex": frozenset({"pattern", "ignore_case"}),
}

FORM: Mapping[str, Callable[[str, Mapping[str, Json]], bool]] = {"demo": lambda text, of: in_form(text, of["check"])}
"""Graders that can tell a wrong form from a wrong answer: from a text and the item's columns to whether the form is
right. A right answer has the right form."""

Prepare = Callable[[Mapping[str, Json]], GradeText]
"""From an item's columns to the grader of its texts; raises whatever is wrong with the columns."""


@dataclass(frozen=True, slots=True, eq=False)
class Grader:
    """One grader with its parameters. `work` is what the worker process is told, None for an inline grader."""

    name: str
    """As the recipe writes it: exact, number, … or FILE.py:NAME."""
    reads: tuple[str, ...] | None
    """The columns that it reads; None means all of them."""
    asked: Mapping[str, Json]
    timeout_s: float
    """Longest time for one text in the worker; no part of any key."""
    prepare: Prepare | None = None
    work: Mapping[str, Json] | None = None
    read_version: int = 1
    """A grader has no reply that could be read again, so this stays 1."""

    @property
    def inline(self) -> bool:
        """Pure and bounded: runs in this process."""
        return self.work is None

    def described(self) -> Json:
        """What is hashed: the kind, name, version and parameters; of an own file its bytes, never where it lies."""
        return dict(self.asked)

    def grade(self, texts: Sequence[str], item: Item) -> list[Score]:
        """Scores of one item's texts; inline graders only. Never raises: a crash is a grader_error."""
        missing = missing_columns(self, item)
        if self.prepare is None or missing is not None:
            return [no_score(missing or f"{self.name} does not run in this process")] * len(texts)
        try:
            grade_text = self.prepare(item.read(self.reads))
        except Exception as error:
            return [no_score(f"{type(error).__name__}: {error}")] * len(texts)
        try:
            return [grade_text(text) for text in texts]
        except Exception:
            # Graded again one by one: the others keep their scores. Rare, so the usual path pays nothing for it.
            return [_guarded(grade_text, text) for text in texts]


def no_score(error: str, reason: Reason = Reason.GRADER_ERROR) -> Score:
    """A verdict without a value, with the error in at most 500 characters."""
    return Score(reason=reason, parts={"error": error[:500]})


def _guarded(grade_text: GradeText, text: str) -> Score:
    try:
        return grade_text(text)
    except Exception as error:
        return no_score(f"{type(error).__name__}: {error}")


def missing_columns(grader: Grader, item: Item) -> str | None:
    """What the item lacks for this grader, as part of a sentence; None when it has all."""
    if not grader.reads:
        return None
    have = item.read(grader.reads)
    lacking = [name for name in grader.reads if have.get(name) is None]
    if not lacking:
        return None
    return f"{grader.name} reads {', '.join(map(repr, lacking))}, which the item lacks"


def is_grader(use: str) -> bool:
    """The name means a grader, and no judge of a model."""
    return use in ASK_VERSION or is_own(use)


def make_grader(spec: Judge) -> Grader:
    """The grader that a recipe's entry names. Raises UsageError for a name, file or parameter that does not fit."""
    name = spec.use or ""
    own = is_own(name)
    if not own and name not in ASK_VERSION:
        raise UsageError(f"no grader is called {name!r}; {did_you_mean(name, ASK_VERSION)}, or FILE.py:NAME")
    _refuse_foreign_knobs(spec, name)
    if own:
        return _own(spec, name)
    asked: dict[str, Json] = {"kind": "grader", "name": name, "ask": ASK_VERSION[name]}
    # Neutral values are left out, so that a knob added later changes no old key.
    if spec.ignore_case:
        asked["ignore_case"] = True
    if name == "regex":
        return _regex(spec, asked)
    if name == "contains" and spec.text is not None:
        if not spec.text:
            raise UsageError("grader 'contains': `text:` is empty, and so in every answer; leave it out or fill it")
        asked["text"] = spec.text
    reads, prepare = _inline(name, spec)
    return Grader(name, reads, asked, spec.timeout_s, prepare)


def _refuse_foreign_knobs(spec: Judge, name: str) -> None:
    given = {"pattern": spec.pattern is not None, "text": spec.text is not None, "ignore_case": spec.ignore_case}
    for knob, is_given in given.items():
        if is_given and knob not in _KNOBS.get(name, ()):
            users = ", ".join(user for user, knobs in _KNOBS.items() if knob in knobs)
            raise UsageError(f"grader {name!r} does not read `{knob}:` (it belongs to {users}); take it out")
    if spec.model is not None:
        raise UsageError(f"grader {name!r} has no model, but `model: {spec.model}` is given; take it out")


def _inline(name: str, spec: Judge) -> tuple[tuple[str, ...], Prepare]:
    """The columns that an inline grader reads, and its preparation."""
    if name == "exact":
        return ("reference",), partial(prepare_exact, ignore_case=spec.ignore_case)
    if name == "number":
        return ("reference",), prepare_number
    if name == "contains":
        reads = ("reference",) if spec.text is None else ()
        return reads, partial(prepare_contains, text=spec.text, ignore_case=spec.ignore_case)
    return ("check",), prepare_constraints if name == "constraints" else prepare_demo


def prepare_demo(columns: Mapping[str, Json]) -> GradeText:
    """The grader of the shipped demo's tasks, on the column `check`."""
    check = columns["check"]
    if not isinstance(check, Mapping):
        raise ValueError(f"the column 'check' must be an object, got {check!r}")

    def grade(text: str) -> Score:
        value = grade_demo(text, check)
        return RIGHT if value == 1 else WRONG if value == 0 else Score(value)

    return grade


def _regex(spec: Judge, asked: dict[str, Json]) -> Grader:
    if spec.pattern is None:
        raise UsageError("grader 'regex' needs `pattern:`, such as {use: regex, pattern: '^[A-D]$'}")
    flags = re.IGNORECASE if spec.ignore_case else re.NOFLAG
    try:
        re.compile(spec.pattern, flags)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(f"grader 'regex': `pattern:` {spec.pattern!r} is no regular expression: {error}") from None
    asked["pattern"] = spec.pattern
    return Grader("regex", (), asked, spec.timeout_s, work={"pattern": spec.pattern, "flags": int(flags)})


def _own(spec: Judge, name: str) -> Grader:
    own = load_own(name)
    asked = {"kind": "grader", "name": own.function, "ask": OWN_VERSION, "file": own.content_hash}
    work = {"source": own.source, "path": str(own.path), "function": own.function}
    return Grader(name, own.reads, asked, spec.timeout_s, work=work)
