"""The recipe: everything a run is told, as one pydantic model; YAML, flags and `--set` all end here.

Unknown keys are refused. Each knob has its meaning under it. Nothing here opens a file or knows a backend.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from prefsmith.endpoints import Endpoint, Strict, listed
from prefsmith.errors import Place

EXPORTS = ("trl", "trl-parquet", "openai", "parquet")
GRADERS = ("exact", "number", "regex", "contains", "constraints", "demo")


class Prompts(Strict):
    """Where prompts come from, and which columns mean what. In a recipe's file a path alone is short for it."""

    path: str = "demo:tiny"
    """A file (.jsonl .csv .tsv .parquet .txt), a folder or name for `datasets` (hf:NAME), - for stdin, demo:NAME."""
    format: Literal["auto", "jsonl", "csv", "tsv", "parquet", "text", "datasets"] = "auto"
    """How to read it; auto goes by the name's ending."""
    split: str = "train"
    """The split of a data set read through `datasets`."""
    prompt: str | None = None
    """The column with the prompt, a string or a list of messages; else the first of prompt, messages, question,
    instruction, input that the row has."""
    system: str | None = None
    """A column whose text becomes the system message of a string prompt."""
    tools: str | None = None
    """The column with tool definitions; else `tools` where the row has it."""
    reference: str | None = None
    """The column with the reference answer; else the first of reference, answer that the row has."""
    category: str | None = None
    """The column with the category; else `category`, `kind` where the row has it."""
    id: str | None = None
    """The column with the source's own id, need not be unique; else `id` where the row has it."""
    columns: list[str] | None = None
    """Other columns to carry along; by default every other column is carried."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Take the first so many items."""
    allow_control_tokens: bool = False
    """Send prompts that hold a chat template's control token; by default they are set aside."""
    max_bytes: Annotated[int, Field(ge=1)] = 1_000_000
    """A longer line is set aside."""


Temperature = Annotated[float, Field(ge=0, le=5)]


class Sample(Strict):
    """One row of the sampling grid: model x temperature x top_p x top_k x min_p x system, n of each."""

    model: str
    """TARGET:MODEL, such as openai:gpt-4.1-mini, embedded:tiny, embedded:path/model.gguf, farm:Qwen/Qwen3-8B."""
    arm: str | None = None
    """The name under which `prefsmith eval` holds this row against the others; by default the model's."""
    temperature: Annotated[list[Temperature], BeforeValidator(listed), Field(min_length=1)] = [1.0]
    """One or a list. 0 is greedy: one sample, whatever n says."""
    n: Annotated[int, Field(ge=1, le=1024)] = 1
    """Completions per cell of the grid."""
    top_p: Annotated[list[Annotated[float, Field(gt=0, le=1)]], BeforeValidator(listed), Field(min_length=1)] = [1.0]
    """Nucleus sampling; 1 is off."""
    top_k: Annotated[list[Annotated[int, Field(ge=0)]], BeforeValidator(listed), Field(min_length=1)] = [0]
    """Most likely tokens kept; 0 is off."""
    min_p: Annotated[list[Annotated[float, Field(ge=0, le=1)]], BeforeValidator(listed), Field(min_length=1)] = [0.0]
    """Least probability relative to the likeliest token; 0 is off."""
    max_tokens: Annotated[int, Field(ge=1)] = 1024
    """Longest answer in tokens; an answer cut there is never chosen or rejected."""
    system: Annotated[list[str | None], BeforeValidator(listed), Field(min_length=1)] = [None]
    """System prompts to sample under: a text, or a path ending in .txt or .md. They never enter a pair's prompt."""
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    """OpenAI's presence penalty; 0 is off."""
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    """OpenAI's frequency penalty; 0 is off."""
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] = 1.0
    """Repetition penalty of open servers; 1 is off."""
    stop: Annotated[list[str], BeforeValidator(listed)] = []
    """Texts that end the answer."""
    reasoning: Literal["keep", "drop"] = "keep"
    """What becomes of a model's thoughts, which are never part of an answer: stored beside it, or not at all. No answer
    depends on it, so nothing is asked again; what was dropped is gone. With drop the `reasoning` column of `parquet`
    files is empty, even where earlier recipes stored thoughts."""

    @field_validator("model")
    @classmethod
    def _target_and_model(cls, value: str) -> str:
        return _checked_model(value)


def _judge_entry(value: Any) -> Any:
    return {"use": value} if isinstance(value, str) else value


class Judge(Strict):
    """One stage of judging: a grader, a judge file, several of them, or the confirmation of the pair to be written."""

    use: str | None = None
    """A grader (exact, number, regex, contains, constraints, demo, FILE.py:NAME) or a judge: a name in judges/ or a
    path ending in .toml."""
    confirm: str | None = None
    """A pairwise judge that must agree, in both orders, with each pair before it is written."""
    panel: Annotated[list[Annotated[Judge, BeforeValidator(_judge_entry)]], Field(min_length=2)] | None = None
    """Several graders or judges that decide together, by `rule`; each is written like an entry of this list."""
    cascade: Annotated[list[Annotated[Judge, BeforeValidator(_judge_entry)]], Field(min_length=2)] | None = None
    """A cheap judge first; the next one takes an item over whole where the one before has no verdict on one of its
    answers, or was less sure of one than `below`."""
    rule: Literal["mean", "majority"] | None = None
    """Of a panel: the mean of all scores (the default), or what more than half say: right or wrong by `pair.correct`,
    or the same side of a duel (the default in a tournament). Another rule asks nothing again."""
    below: Annotated[float, Field(gt=0, le=1)] | None = None
    """Of a cascade: the probability of a judge's own label under which it counts as unsure."""
    tournament: Literal["minmax", "roundrobin"] | None = None
    """Pairwise judges find the best and the worst by duels: minmax by a bracket, roundrobin (4 answers at most) all."""
    model: str | None = None
    """TARGET:MODEL of the judge, or of those of its members that name none; graders have none. By default the one that
    the judge's file names."""
    list_model: str | None = None
    """TARGET:MODEL that writes a checklist's questions, once for each item; by default `model`."""
    pattern: str | None = None
    """For regex: the pattern that must be found (Python's re)."""
    text: str | None = None
    """For contains: the text that must occur; by default the item's reference."""
    ignore_case: bool = False
    """For exact, contains and regex."""
    timeout_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Longest time that a worker process may spend on one text."""

    @model_validator(mode="after")
    def _one_of(self) -> Judge:
        given = [name for name in ("use", "confirm", "panel", "cascade") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError("a judge entry needs exactly one of `use`, `confirm`, `panel` and `cascade`")
        for name, owner in (("rule", "panel"), ("below", "cascade")):
            if getattr(self, name) is not None and given != [owner]:
                raise ValueError(f"`{name}` belongs to a {owner}")
        if self.confirm is not None and self.tournament is not None:
            raise ValueError("`confirm` looks at one pair; a tournament is an entry of its own before it")
        return self

    @model_validator(mode="after")
    def _members(self) -> Judge:
        members = self.panel or self.cascade or []
        if any(member.confirm is not None for member in members):
            raise ValueError("`confirm` is an entry of its own, the last one, and no member")
        if any(member.tournament is not None for member in members):
            raise ValueError("`tournament` belongs to the panel or cascade as a whole, which decides each duel")
        if members and (self.pattern is not None or self.text is not None or self.ignore_case):
            raise ValueError("`pattern`, `text` and `ignore_case` belong to the member that reads them")
        if members and self.list_model is not None:
            raise ValueError("`list_model` belongs to the member that is a checklist")
        return self

    @field_validator("model", "list_model")
    @classmethod
    def _target_and_model(cls, value: str | None) -> str | None:
        return None if value is None else _checked_model(value)


class Gates(Strict):
    """Which completions are never judged nor paired, beside truncated and identical ones."""

    min_tokens: Annotated[int, Field(ge=0)] = 1
    """Fewer tokens than this is empty; so is a text without a word."""
    max_chars: Annotated[int, Field(ge=1)] | None = None
    """Longer texts are left out."""


class Pairing(Strict):
    """How chosen and rejected are picked."""

    strategy: Literal["best_worst", "correct_incorrect", "arms"] = "best_worst"
    """best_worst: highest against lowest score. correct_incorrect: a random right one against a random wrong one. arms:
    each later row's answers against the first row's, whatever their scores; what `prefsmith eval` shows a judge."""
    min_margin: Annotated[float | str, Field()] = 0.0
    """Least difference of the two scores; p75 means that quantile of this run's margins."""
    min_chosen: float | None = None
    """Least score of the chosen side."""
    correct: float = 1.0
    """A score of at least this is right."""
    max_per_prompt: Annotated[int, Field(ge=1)] = 1
    """Most pairs of one item."""
    seed: int | None = None
    """Seed of ties and random picks; by default the run's."""

    @field_validator("min_margin")
    @classmethod
    def _margin(cls, value: float | str) -> float | str:
        if isinstance(value, str):
            if not (value.startswith("p") and value[1:].isdigit() and 0 < int(value[1:]) < 100):
                raise ValueError("min_margin is a number or a quantile from p1 to p99")
        elif value < 0:
            raise ValueError("min_margin must not be negative")
        return value


class Budget(Strict):
    """The most that a folder's calls may cost, all its sessions together: `usd` or `tokens`."""

    usd: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None
    """US dollars; every model that is asked needs a price, see `prices`."""
    tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of prompts and answers together, all models alike."""

    @model_validator(mode="after")
    def _one_unit(self) -> Budget:
        if (self.usd is None) == (self.tokens is None):
            raise ValueError("a budget is either `usd` or `tokens`, such as {usd: 20} or {tokens: 5_000_000}")
        return self


class Misplaced(ValueError):
    """What does not hold of a part in the light of another. `place`: the part to mend, from the model that says so."""

    def __init__(self, message: str, place: Place) -> None:
        super().__init__(message)
        self.place = place


class Recipe(Strict):
    """One run, whole."""

    prompts: Prompts = Prompts()
    endpoints: dict[str, Endpoint] = {}
    sample: Annotated[list[Sample], BeforeValidator(listed), Field(min_length=1)]
    judge: Annotated[
        list[Annotated[Judge, BeforeValidator(_judge_entry)]], BeforeValidator(listed), Field(min_length=1)
    ]
    gates: Gates = Gates()
    pair: Pairing = Pairing()
    budget: Budget | None = None
    """Reserved before a request is sent and never passed; when it is reached the run ends with exit 3, and goes on
    where it stopped when run again with a larger one."""
    prices: Path | None = None
    """Your own prices, a TOML file shaped like the shipped `prices.toml`; its entries win one by one."""
    export: Annotated[list[Literal["trl", "trl-parquet", "openai", "parquet"]], BeforeValidator(listed)] = ["trl"]
    """Files to write at the end: trl and openai are JSONL, trl-parquet and parquet are Parquet."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] = 0
    """The run's one seed."""
    staged: bool = False
    """For models that share this machine's memory: only one of them is loaded at a time, all sampling before the first
    judge. Servers elsewhere are asked all along."""
    window: Annotated[int, Field(ge=1)] = 512
    """Most prompts open at a time."""
    probe: bool = True
    """Before anything else, ask each model of a server what it can do, by at most two small requests that are answered;
    once for a folder. Not asked: what `can:` declares, and a model that gets but a few requests."""
    attempts: Annotated[int, Field(ge=1, le=100)] = 5
    """Most attempts of one call in one session; a 429 is none, and none is counted while the endpoint is down."""
    patience_s: Annotated[float, Field(ge=0)] = 300.0
    """How long all endpoints of a model that has answered before may fail everything until the run gives it up."""
    grace_s: Annotated[float, Field(ge=0)] = 5.0
    """How long the first Ctrl-C waits for replies on their way, beyond the slowest reply so far."""
    contests: str | None = None
    """Set by `bench judge`: the prompts are pairs with gold labels, in a file of this format; every judge is asked
    about each pair, and no pair is written."""
    max_no_verdict: Annotated[float, Field(ge=0, le=1)] = 0.05
    """Largest share of verdicts without a result, looked at from the 200th on; above it the run stops with exit 4."""

    @model_validator(mode="after")
    def _confirm_comes_last(self) -> Recipe:
        for i, stage in enumerate(self.judge):
            if stage.confirm is not None and i != len(self.judge) - 1:
                raise Misplaced("`confirm` must be the last entry of `judge:`", ("judge", i, "confirm"))
        if self.judge[0].confirm is not None and self.pair.strategy != "arms":
            raise Misplaced("`confirm` needs a judge or grader before it", ("judge", 0, "confirm"))
        return self


def _checked_model(value: str) -> str:
    target, colon, model = value.partition(":")
    if not colon or not target or not model:
        raise ValueError(f"a model is written TARGET:MODEL, such as openai:gpt-4.1-mini; got {value!r}")
    return value


def run_folder(named: str) -> Path:
    """Where a run of these prompts, or of this recipe file, goes when nobody says: runs/ and the name's stem."""
    if named == Prompts().path:
        return Path("runs/demo")
    if named == "-":
        return Path("runs/stdin")
    name = named.partition(":")[2]  # hf:org/name and demo:name are no files: a dot in them begins no ending
    return Path("runs") / ((Path(name).name if name else Path(named).stem) or "prompts")
