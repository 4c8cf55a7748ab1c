"""The judge that asks a chat model: what it asks about an item's completions, and how it reads the reply.

Invariant: no input or output. `ask` gives the same bytes for the same arguments on every machine; `read` gives a
result or a reason. It does not know which server answers, what the ledger holds, or what a pair is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Literal, NamedTuple

from prefsmith.judging.expect import TOP
from prefsmith.judging.parse import (
    LETTERS,
    READ_VERSION,
    read_choice,
    read_list,
    read_ranking,
    read_score,
    read_yes,
    verdict_schema,
    without_reasoning,
)
from prefsmith.judging.reward import read_reward
from prefsmith.judging.show import column, conversation, defused, fenced
from prefsmith.judging.verdicts import Step
from prefsmith.ledger.ids import begun, digest, draw
from prefsmith.outcomes import Judged
from prefsmith.records import Generated, Item, Json, Message, Request, Sampling, canonical
from prefsmith.text import fill

ASK_VERSION = 1
"""Raise it with any change to what is sent: the layout here and in `show`, the words of the repair turn."""

Kind = Literal["rubric", "pairwise", "listwise", "checklist", "list"]
SHOWN: dict[Kind, tuple[str, ...]] = {
    "rubric": ("candidate",),
    "pairwise": ("first", "second"),
    "listwise": ("candidates",),
    "checklist": ("candidate",),
    "list": (),
}
"""The placeholders of the candidates, in the order shown; a listwise judge has one for all of them."""
LISTED = ("-",)
"""What the lines of a list begin with, in the place of labels."""
RANKED = (">", "=")
"""What stands between the letters of a ranking."""
MOST_LISTED = 20
"""Questions of a list; a reply with more has lost its way."""
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
    the item's columns that the prompt text names, `needs`: those of them that an item must have. `logprobs`: ask for
    the probabilities of the labels; `structured`: bind the reply to a schema; `decides`: by whatever way the server can
    best say them.
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
    orders: Literal["both", "seeded"] = "both"
    logprobs: bool = False
    needs_logprobs: bool = False
    structured: bool = False
    decides: bool = False
    samples: int = 1
    shuffles: int = 1
    lister: ModelJudge | None = None
    chats: bool = True
    scale: Literal["unit", "logit"] = "unit"
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
        if self.logprobs:
            # What the reader makes of too little mass is part of what the verdict means.
            out["logprobs"] = "needed" if self.needs_logprobs else "asked"
        if self.decides:
            out["decisions"] = True
        if self.structured:
            out["schema"] = verdict_schema(self.labels)
        return out

    def lacks(self, item: Item) -> tuple[str, ...]:
        """The columns that this judge needs and the item does not have, or has blank."""
        have = item.read(self.needs)
        return tuple(name for name in self.needs if have.get(name) is None or not column(have[name]).strip())

    def ask(
        self, item: Item, candidates: Sequence[str], seed: int, step: Step = Step.ASK, previous: Generated | None = None
    ) -> Request:
        """The request of one step; `candidates` in the order shown. Raises ValueError for what a plan rules out."""
        text, n_broken = self._text(item, candidates)
        messages: tuple[Message, ...] = ({"role": "user", "content": text},)
        sampling = self.sampling
        if step is _ASK:
            pass
        elif step is Step.REPAIR:
            if previous is None:
                raise ValueError("a repair turn needs the reply that could not be read")
            messages += self._repair_turns(previous, len(candidates))
        elif step is Step.FRESH:
            seed = draw(seed, b"fresh") >> 33  # 31 bits, as ids.base_seed
            if sampling.temperature == 0:
                sampling = replace(sampling, temperature=FRESH_TEMPERATURE)
        elif step is Step.LONGER:
            sampling = replace(sampling, max_tokens=2 * sampling.max_tokens)
        return Request(
            model=self.wire_model,
            messages=messages,
            sampling=sampling,
            seed=seed,
            labels=self.labels or (LISTED if self.kind == "list" else (*LETTERS[: len(candidates)], *RANKED)),
            schema=verdict_schema(self.labels) if self.structured else None,
            top_logprobs=TOP if self.logprobs else 0,
            n_control_tokens=n_broken,
            decides=self.decides,
        )

    def read(self, reply: Generated, n_shown: int = 1) -> Judged:
        """What the kind gives; a bad answer is a reason, never an exception."""
        return _READERS[self.kind](reply, self.labels, n_shown, self.needs_logprobs)

    def _text(self, item: Item, candidates: Sequence[str]) -> tuple[str, int]:
        shown = SHOWN[self.kind]
        if len(candidates) != len(shown) and (self.kind != "listwise" or not 1 < len(candidates) <= len(LETTERS)):
            raise ValueError(f"a {self.kind} judge is shown {len(shown)} candidate(s), not {len(candidates)}")
        if not self._latest or self._latest[0].item is not item:
            self._latest[:] = [self._shown(item)]
        _, pieces, begins, n_broken = self._latest[0]
        # Of the texts as they came, so that the mark depends on nothing that is done to them below.
        hashed = begins.copy()
        hashed.update(canonical(list(candidates)) + b"]")
        mark = hashed.hexdigest()[:16]
        fences: dict[str, str] = {}
        if len(candidates) == 1:
            text, n = defused(candidates[0])
            fences[shown[0]], n_broken = fenced("ANSWER", text, mark), n_broken + n
        elif candidates:
            defusing = [defused(candidate) for candidate in candidates]
            n_broken += sum(n for _, n in defusing)
            blocks = [
                fenced(f"ANSWER {letter}", text, mark) for letter, (text, _) in zip(LETTERS, defusing, strict=False)
            ]
            fences = dict(zip(shown, ["\n\n".join(blocks)] if self.kind == "listwise" else blocks, strict=True))
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
        shown = "|".join(SHOWN[self.kind])
        cut = re.split(rf"\{{({shown})\}}", self.prompt) if shown else [self.prompt]
        pieces = tuple(part if i % 2 else fill(part, values) for i, part in enumerate(cut))
        if self.kind == "checklist":
            del raw["question"]  # else the mark would part the answer from what calls about it share
        mark = begun("fence", b'["%b",%b,' % (self.text_hash.encode(), canonical(raw)))
        return _Shown(item, pieces, mark, n_broken)

    def _repair_turns(self, previous: Generated, n_shown: int) -> tuple[Message, Message]:
        """The unreadable reply without its reasoning, and the format once more."""
        said, _ = defused(without_reasoning(previous.message.get("content") or "").strip())
        ask = _LIST_AGAIN if self.kind == "list" else f"{_AGAIN}{self._form(n_shown)}"
        # Servers refuse an assistant turn without any text.
        return {"role": "assistant", "content": said or "(no answer)"}, {"role": "user", "content": ask}

    def _form(self, n_shown: int) -> str:
        if self.kind == "rubric":
            return f"VERDICT: N\nwhere N is one whole number from {self.labels[0]} to {self.labels[-1]}"
        if self.kind == "listwise":
            letters = LETTERS[:n_shown]
            example = " > ".join(letters)
            return f"VERDICT: {example}\nwith the letters {', '.join(letters)} each once, best first, = between equals"
        return "\nor\n".join(f"VERDICT: {label}" for label in self.labels)


_AGAIN = (
    "I could not read a verdict from that reply. Give your verdict again. The last line must be the verdict "
    "and nothing else, in this form:\n"
)
_LIST_AGAIN = (
    "I could not read a list from that reply. Give the questions again, each on a line of its own that begins with "
    "a dash and a space, and nothing else."
)


def reader_of(described: Json) -> Callable[[Generated, int], Judged] | None:
    """How a stored reply is read, by what the ledger keeps of its judge; None for a kind that is not of these files."""
    if described.get("kind") == "reward":
        return lambda reply, _: read_reward(reply)
    if described.get("kind") not in SHOWN:
        return None
    read, labels, needed = _READERS[described["kind"]], described["choices"], described.get("logprobs") == "needed"
    return lambda reply, n_shown: read(reply, labels, n_shown, needed)


_READERS: dict[str, Callable[[Generated, Sequence[str], int, bool], Judged]] = {
    "rubric": lambda reply, labels, _, needed: read_score(reply, labels, needed),
    "checklist": lambda reply, labels, _, needed: read_yes(reply, labels, needed),
    "pairwise": lambda reply, labels, _, needed: read_choice(reply, labels, needed),
    "listwise": lambda reply, _, n_shown, __: read_ranking(reply, n_shown),
    "list": lambda reply, *_: read_list(reply, MOST_LISTED),
}
"""By kind: of a reply, the labels, how many answers were shown, and whether probabilities are needed for a verdict."""
