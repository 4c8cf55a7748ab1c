"""The judge that asks a chat model: what it asks about an item's completions, and how it reads the reply.

Invariant: no input or output. `ask` gives the same bytes for the same arguments on every machine; `read` gives a
result or a reason. It does not know which server answers, what the ledger holds, or what a pair is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Literal, NamedTuple

from prefsmith.judging.parse import READ_VERSION, read_choice, read_score, without_reasoning
from prefsmith.judging.show import column, conversation, defused, fenced
from prefsmith.judging.verdicts import Step
from prefsmith.ledger.ids import begun, digest, draw
from prefsmith.outcomes import Judged
from prefsmith.records import Generated, Item, Json, Message, Request, Sampling, canonical
from prefsmith.text import fill

ASK_VERSION = 1
"""Raise it with any change to what is sent: the layout here and in `show`, the words of the repair turn."""

Kind = Literal["rubric", "pairwise"]
SHOWN: dict[Kind, tuple[str, ...]] = {"rubric": ("candidate",), "pairwise": ("first", "second")}
"""The placeholders of the candidates, in the order shown."""
FRESH_TEMPERATURE = 0.7
"""At temperature 0 another seed gives the same reply again; a fresh sample needs some."""
_ASK = Step.ASK  # CPython 3.11 finds a member of an enumeration by way of an error: too slow for every call
_NONE_GIVEN = "(none given)"


class _Shown(NamedTuple):
    """What all questions about one item share: the prompt text around the candidates, everything else filled in.

    `mark`: the digest of the fence, begun; the candidates are to come.
    """

    item: Item
    pieces: tuple[str, ...]
    mark: blake2b
    n_broken: int


@dataclass(frozen=True, slots=True)
class ModelJudge:
    """One judge file and the model that answers it; the kind decides the fields of the prompt and the reader.

    `target` and `model` are the identity that is hashed, `wire_model` is what the server calls the model. `reads`:
    the item's columns that the prompt text names, `needs`: those of them that an item must have. `orders` says which
    calls a stage makes, changes no answer, and so stands in no key.
    """

    name: str
    kind: Kind
    prompt: str
    labels: tuple[str, ...]
    target: str
    model: str
    wire_model: str
    sampling: Sampling
    criteria: tuple[tuple[str, str], ...] = ()
    reads: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    orders: Literal["both"] = "both"
    ask_version: int = ASK_VERSION
    read_version: int = READ_VERSION
    text_hash: str = field(init=False, repr=False, compare=False)
    """Of all that is described: part of every fence's mark, and worked out once."""
    _latest: list[_Shown] = field(init=False, repr=False, compare=False, default_factory=list)
    """Of the item that was asked about last, whose other candidates mostly come next."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "text_hash", digest("judge", self.described()).hex())

    def described(self) -> Json:
        """What is hashed and stored. Absent parts are left out, so that a part added later changes no old key."""
        out: dict[str, Json] = {
            "kind": self.kind,
            "ask_version": self.ask_version,
            "prompt": self.prompt,
            "choices": list(self.labels),
            "target": self.target,
            "model": self.model,
            "sampling": self.sampling.described(),
        }
        if self.criteria:
            out["criteria"] = [list(one) for one in self.criteria]  # a list: their order is shown
        if self.kind == "rubric":
            out["scale"] = [int(self.labels[0]), int(self.labels[-1])]
        return out

    def lacks(self, item: Item) -> tuple[str, ...]:
        """The columns that this judge needs and the item does not have, or has blank."""
        have = item.read(self.needs)
        return tuple(name for name in self.needs if have.get(name) is None or not column(have[name]).strip())

    def ask(
        self, item: Item, candidates: Sequence[str], seed: int, step: Step = Step.ASK, previous: Generated | None = None
    ) -> Request:
        """The request of one step; `candidates` in the order shown. Raises ValueError for what a plan rules out."""
        text, _ = self._text(item, candidates)
        messages: tuple[Message, ...] = ({"role": "user", "content": text},)
        sampling = self.sampling
        if step is _ASK:
            pass
        elif step is Step.REPAIR:
            if previous is None:
                raise ValueError("a repair turn needs the reply that could not be read")
            messages += self._repair_turns(previous)
        elif step is Step.FRESH:
            seed = draw(seed, b"fresh") >> 33  # 31 bits, as ids.base_seed
            if sampling.temperature == 0:
                sampling = replace(sampling, temperature=FRESH_TEMPERATURE)
        elif step is Step.LONGER:
            sampling = replace(sampling, max_tokens=2 * sampling.max_tokens)
        return Request(model=self.wire_model, messages=messages, sampling=sampling, seed=seed, labels=self.labels)

    def n_control_tokens(self, item: Item, candidates: Sequence[str]) -> int:
        """How many control tokens are broken up in what this judge is shown, for the row of its call."""
        return self._text(item, candidates)[1]

    def read(self, reply: Generated) -> Judged:
        """A Score of a rubric, a Choice of a pairwise judge; a bad answer is a reason, never an exception."""
        return read_score(reply, self.labels) if self.kind == "rubric" else read_choice(reply, self.labels)

    def _text(self, item: Item, candidates: Sequence[str]) -> tuple[str, int]:
        shown = SHOWN[self.kind]
        if len(candidates) != len(shown):
            raise ValueError(f"a {self.kind} judge is shown {len(shown)} candidate(s), not {len(candidates)}")
        if not self._latest or self._latest[0].item is not item:
            self._latest[:] = [self._shown(item)]
        _, pieces, begins, n_broken = self._latest[0]
        # Of the texts as they came, so that the mark depends on nothing that is done to them below.
        hashed = begins.copy()
        hashed.update(canonical(list(candidates)) + b"]")
        mark = hashed.hexdigest()[:16]
        titles = ("ANSWER",) if self.kind == "rubric" else tuple(f"ANSWER {label}" for label in self.labels)
        fences: dict[str, str] = {}
        for name, title, candidate in zip(shown, titles, candidates, strict=False):
            text, n = defused(candidate)
            fences[name] = fenced(title, text, mark)
            n_broken += n
        return "".join([fences[p] if i % 2 else p for i, p in enumerate(pieces)]), n_broken

    def _shown(self, item: Item) -> _Shown:
        if lacking := self.lacks(item):
            raise ValueError(f"judge {self.name!r} needs {', '.join(lacking)}, which the item lacks")
        read = item.read(self.reads)
        raw = {"prompt": conversation(item.prompt), **{n: column(read.get(n, _NONE_GIVEN)) for n in self.reads}}
        values: dict[str, str] = {"criteria": "\n".join(f"- {name}: {text}" for name, text in self.criteria)}
        n_broken = 0
        for name, text in raw.items():
            values[name], n = defused(text)
            n_broken += n
        # The template is cut at its candidates before anything is filled in: braces of users are no fields.
        cut = re.split(rf"\{{({'|'.join(SHOWN[self.kind])})\}}", self.prompt)
        pieces = tuple(part if i % 2 else fill(part, values) for i, part in enumerate(cut))
        mark = begun("fence", b'["%b",%b,' % (self.text_hash.encode(), canonical(raw)))
        return _Shown(item, pieces, mark, n_broken)

    def _repair_turns(self, previous: Generated) -> tuple[Message, Message]:
        """The unreadable reply without its reasoning, and the format once more."""
        said, _ = defused(without_reasoning(previous.message.get("content") or "").strip())
        if self.kind == "rubric":
            form = f"VERDICT: N\nwhere N is one whole number from {self.labels[0]} to {self.labels[-1]}"
        else:
            form = "\nor\n".join(f"VERDICT: {label}" for label in self.labels)
        ask = (
            "I could not read a verdict from that reply. Give your verdict again. The last line must be the verdict "
            f"and nothing else, in this form:\n{form}"
        )
        # Servers refuse an assistant turn without any text.
        return {"role": "assistant", "content": said or "(no answer)"}, {"role": "user", "content": ask}
