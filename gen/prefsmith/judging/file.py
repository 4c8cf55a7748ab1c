"""The shape of a judge file, and what is told of one that has another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from prefsmith.errors import did_you_mean

FileKind = Literal["rubric", "pairwise", "listwise", "checklist", "reward"]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class SamplingPart(Strict):
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.0
    max_tokens: Annotated[int, Field(ge=1)] = 512
    """Room for the reasons and the verdict line; a reply that is cut off is asked for once more with twice as much."""
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Field(ge=0)] = 0
    min_p: Annotated[float, Field(ge=0, le=1)] = 0.0


class ModelPart(Strict):
    target: str
    """A target of the recipe, such as openai."""
    name: str
    """The model there."""


class QuestionsPart(Strict):
    """How a checklist comes to be: written once for each item, by the judge's model or another."""

    prompt: str
    """A text file like the judge's own, with {prompt} and no candidate."""
    sampling: SamplingPart = SamplingPart()


class JudgeFile(Strict):
    kind: FileKind
    """rubric: one answer, 1 to 9. pairwise: which of two. listwise: all answers in one call, ranked. checklist: one
    answer, by yes-or-no questions that a model writes for the prompt. reward: a reward model's number, of which the
    file says nothing more."""
    prompt: str | None = None
    """A text file beside this one, or on the shelf prompts/; every kind but reward has one."""
    choices: list[str] | None = None
    """Words that the verdict line may hold; by default all that the kind knows."""
    orders: Literal["both", "seeded"] = "both"
    """pairwise: ask in both orders, and two that disagree are no verdict; or in one that is drawn by the seed."""
    logprobs: bool = False
    """rubric, pairwise, checklist: ask for the probabilities of the labels and let their mean decide, where the server
    gives them."""
    decisions: bool = False
    """rubric, pairwise, checklist: take the probabilities from /v1/decisions where the endpoint declares it, else from
    the tokens of a line, else a line bound to a schema. For a prompt that asks for no reasons."""
    structured: bool = False
    """Bind the reply to a JSON schema, where the server can."""
    samples: Annotated[int, Field(ge=1, le=64)] = 1
    """rubric: the mean of so many replies; with `logprobs` one is enough where their probabilities came."""
    shuffles: Annotated[int, Field(ge=1, le=64)] = 1
    """listwise: in so many orders, drawn by the seed, whose ranks are averaged."""
    needs: list[str] = []
    """Columns without which an item cannot be judged; "logprobs": no verdict without the probabilities."""
    criteria: dict[str, str] = {}
    """Fills {criteria}, one line each."""
    sampling: SamplingPart = SamplingPart()
    questions: QuestionsPart | None = None
    """checklist: who writes the questions."""
    model: ModelPart | None = None
    """The model to ask when the recipe names none."""


_PARTS: dict[str, type[BaseModel]] = {"sampling": SamplingPart, "questions": QuestionsPart, "model": ModelPart}


def told(path: Path, error: ValidationError) -> Iterator[str]:
    """Every problem of a file, with its place."""
    for problem in error.errors():
        *above, last = (str(part) for part in problem["loc"])
        where = f"{path}: " + "".join(f"[{part}] " for part in above)
        owner: Any = _PARTS.get(above[-1], JudgeFile) if above else JudgeFile
        if problem["type"] == "extra_forbidden":
            yield f"{where}unknown key {last!r}; {did_you_mean(last, owner.model_fields)}"
        elif problem["type"] == "literal_error":
            words = get_args(owner.model_fields[last].annotation)
            yield f"{where}{last} = {problem['input']!r}; {did_you_mean(str(problem['input']), words)}"
        elif problem["type"] == "missing":
            yield f"{where}{last!r} is missing"
        else:
            yield f"{where}{last} = {problem['input']!r}: {problem['msg']}"
