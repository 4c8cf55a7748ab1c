"""Leaf judges that need no model. The worker's script is run by its path and imports none of this."""

from __future__ import annotations

from prefsmith.judging.graders.grader import FORM, Grader, is_grader, make_grader, missing_columns
from prefsmith.judging.graders.pool import GraderPool

__all__ = ["FORM", "Grader", "GraderPool", "is_grader", "make_grader", "missing_columns"]
