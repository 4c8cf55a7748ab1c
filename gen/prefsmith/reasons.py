"""Why something ended without a result: one vocabulary for rows, calls, completions, verdicts, items and pairs.

A reason is data in the ledger. `Reason.owed` says that the next run asks again; every other reason is final for
the unit that it names.
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    # a row of a source
    BAD_JSON = "bad_json"
    BAD_ENCODING = "bad_encoding"
    EMPTY_PROMPT = "empty_prompt"
    TOO_LARGE = "too_large"
    NO_PROMPT_FIELD = "no_prompt_field"
    ENDS_WITH_ASSISTANT = "ends_with_assistant"
    CONTROL_TOKEN = "control_token"
    DUPLICATE = "duplicate"
    # any call, final
    CONTENT_FILTER = "content_filter"
    CONTEXT_TOO_LONG = "context_too_long"
    BAD_REQUEST = "bad_request"
    POISON = "poison"
    # any call, owed
    RATE_LIMITED = "rate_limited"
    TIMEOUT = "timeout"
    SERVER_ERROR = "server_error"
    CONNECTION = "connection"
    AUTH = "auth"
    QUOTA = "quota"
    BUDGET = "budget"
    INTERRUPTED = "interrupted"
    # a completion's gate
    TRUNCATED = "truncated"
    EMPTY = "empty"
    TOO_LONG = "too_long"
    IDENTICAL = "identical"
    ABORTED = "aborted"
    # a verdict, final for its judge
    UNPARSEABLE = "unparseable"
    AMBIGUOUS = "ambiguous"
    REPLY_TRUNCATED = "reply_truncated"
    REFUSED = "refused"
    LOW_MASS = "low_mass"
    GRADER_ERROR = "grader_error"
    GRADER_TIMEOUT = "grader_timeout"
    # a stage's result
    INCONSISTENT_ORDERS = "inconsistent_orders"
    DISAGREEMENT = "disagreement"
    # an item without a pair
    TOO_FEW = "too_few"
    ALL_RIGHT = "all_right"
    ALL_WRONG = "all_wrong"
    TIE = "tie"
    NO_VERDICT = "no_verdict"
    BELOW_MARGIN = "below_margin"
    CHOSEN_TOO_LOW = "chosen_too_low"
    LENGTH = "length"
    NOT_CONFIRMED = "not_confirmed"
    SAME_PAIR = "same_pair"
    INCOMPLETE = "incomplete"
    BENCHMARK = "benchmark"
    # a pair
    MAX_PER_PROMPT = "max_per_prompt"

    @property
    def told(self) -> str:
        """As it is counted before people: `bad_json` is also of rows that are JSON, or need not be."""
        return f"{self} (unreadable or misshapen)" if self is Reason.BAD_JSON else str(self)

    @property
    def owed(self) -> bool:
        """The call that ended so is asked again by the next run."""
        return self in _OWED


_OWED = frozenset(
    {
        Reason.RATE_LIMITED,
        Reason.TIMEOUT,
        Reason.SERVER_ERROR,
        Reason.CONNECTION,
        Reason.AUTH,
        Reason.QUOTA,
        Reason.BUDGET,
        Reason.INTERRUPTED,
    }
)

FINAL_CALL = frozenset({Reason.CONTENT_FILTER, Reason.CONTEXT_TOO_LONG, Reason.BAD_REQUEST, Reason.POISON})
"""A call that ended with one of these closes exactly the units that it names."""
