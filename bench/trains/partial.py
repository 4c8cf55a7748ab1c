"""Graders of one's own with a score between right and wrong, by `--judge bench/trains/partial.py:NAME`.

Both read the demo's `check`: a right answer is 1, as the grader `demo` says. They differ in what a wrong one is worth.
"""

from prefsmith.judging.graders.demo import grade_demo, in_form

READS = ("check",)


def form_counts(text, item):
    """Partial credit for the right form: a wrong answer that has it stands above one that lacks it."""
    return 1.0 if grade_demo(text, item["check"]) else 0.3 if in_form(text, item["check"]) else 0.0


def form_misleads(text, item):
    """Hard negatives: a wrong answer in the right form is the worst, since only what it says is wrong."""
    return 1.0 if grade_demo(text, item["check"]) else 0.0 if in_form(text, item["check"]) else 0.3
