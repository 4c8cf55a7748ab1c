"""What a judge's token probabilities say: how likely each label was at the place of its verdict.

Invariant: pure; probabilities are only looked at where the text itself named a label, and never make up for one. It
does not know what the labels mean.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Mapping, Sequence

from prefsmith.records import Token

LEAST_MASS = 0.5
"""Of the labels together; below it the model was about to say something else, and its expectation means little."""
TOP = 20
"""Alternatives asked for at each token: the most that OpenAI and vLLM allow unless told otherwise."""
_VERDICT = re.compile("verdict", re.I)


def masses(tokens: Sequence[Token], label: str, labels: Sequence[str]) -> Mapping[str, float] | None:
    """The probability of each label at the token that says `label` after the last VERDICT; None where no token does.

    A label of several tokens is told by its first one, which must belong to no other label.
    """
    said = "".join(token.text for token in tokens)
    last = _last_verdict(said)
    at = -1 if last is None else said.find(label, last.end())
    if at < 0:
        return None
    end = 0
    for token in tokens:
        start, end = end, end + len(token.text)
        if end > at:
            break
    if said[start:at].strip() or _label(token.text, labels) != label:
        return None  # the label shares its token with something else
    found = dict.fromkeys(labels, 0.0)
    for text, logprob in {**dict(token.top), token.text: token.logprob}.items():
        if (named := _label(text, labels)) is not None:
            found[named] += math.exp(logprob)
    return found


def tail(tokens: Sequence[Token]) -> tuple[Token, ...]:
    """What `masses` looks at, which is all that is worth keeping: the tokens from the last VERDICT on."""
    ends, said = [], ""
    for token in tokens:
        said += token.text
        ends.append(len(said))
    last = _last_verdict(said)
    if last is None:
        return ()
    first = next(i for i, end in enumerate(ends) if end > last.start())
    return tuple(
        token if ends[i] > last.end() else token._replace(top=()) for i, token in enumerate(tokens[first:], first)
    )


def _last_verdict(said: str) -> re.Match[str] | None:
    return next(iter(deque(_VERDICT.finditer(said), maxlen=1)), None)


def _label(text: str, labels: Sequence[str]) -> str | None:
    """The one label that a token is, or begins."""
    said = text.strip()
    if said in labels:
        return said
    begun = [label for label in labels if said and label.startswith(said)]
    return begun[0] if len(begun) == 1 else None
