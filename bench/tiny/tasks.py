"""The tasks of the bundled model: prompts, clean answers and the answers of a careless annotator.

Invariants: every number is in 0..99 (one token each); a clean answer is right for the demo's grader and a
careless one is wrong; whether a prompt may train the model depends on its text alone (`split`).
Run as a script it writes the demo's prompts. It knows neither the tokenizer nor the model.
"""

import argparse
import json
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from words import ANIMALS, CITIES, COLOURS, FRUITS, JOBS, NAMES, THINGS, WEEKDAYS

HELPFUL = "You are a helpful assistant."
FORMAT = "End with a line that starts with #### and holds only the answer."
BRIEF = "Answer briefly."
SYSTEMS = (HELPFUL, FORMAT, BRIEF)

SYSTEM_SHARE = 0.2
SLIP_SHARE = 0.22
"""Share of the careless answers that have the right form and the wrong content."""

CLEAN_SHARE: dict[str, tuple[float, float]] = {
    "word_add": (0.70, 0.28),
    "word_sub": (0.28, 0.66),
    "word_mul": (0.66, 0.36),
    "two_step": (0.72, 0.28),
    "units": (0.28, 0.62),
    "money": (0.68, 0.28),
    "count_word": (0.60, 0.32),
    "sort_list": (0.30, 0.58),
    "reverse_list": (0.32, 0.70),
    "alpha_list": (0.66, 0.28),
    "pick_list": (0.60, 0.30),
    "weekday": (0.40, 0.56),
    "to_json": (0.56, 0.34),
}
"""Clean share by phrasing. Two shares per family, so that greedy decoding is right on part of each family
and wrong on the rest: a model that is right or unable everywhere has nothing to learn from preferences."""

FAMILIES = tuple(CLEAN_SHARE)

Split = Literal["eval", "demo", "train"]


@dataclass(frozen=True, slots=True)
class Task:
    """One prompt with everything its answers and its check are made of."""

    family: str
    phrasing: int
    prompt: str
    answer: str
    check: dict[str, object]
    work: tuple[str, ...] = ()
    """Finished lines of work before the last one."""
    last: str = ""
    """Left side of the last line of work; a slip changes what stands right of it."""
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """One training conversation; `system` is empty where there is no system message."""

    system: str
    prompt: str
    answer: str


def split(prompt_text: str) -> Split:
    """The part of the data that a prompt belongs to, by the CRC-32 of its text (user message only)."""
    remainder = zlib.crc32(prompt_text.encode()) % 10
    return "eval" if remainder == 0 else "demo" if remainder == 1 else "train"


def _sum(family: str, phrasing: int, prompt: str, steps: Sequence[tuple[str, int]], unit: str) -> Task:
    """A task with a number as its answer; `steps` are (left side, value), the last value is the answer."""
    *before, (last, value) = steps
    work = tuple(f"{left}={result}" for left, result in before)
    return Task(family, phrasing, prompt, str(value), {"kind": "number", "answer": value}, work, last, unit)


def _listing(family: str, phrasing: int, prompt: str, answer: str) -> Task:
    return Task(family, phrasing, prompt, answer, {"kind": "text", "answer": answer})


def _word_add(rng: random.Random, phrasing: int) -> Task:
    a, b, name, thing = rng.randint(3, 30), rng.randint(3, 30), rng.choice(NAMES), rng.choice(THINGS)
    prompt = (
        f"{name} had {a} {thing} and got {b} more. How many {thing} does {name} have now?",
        f"One bag holds {a} {thing} and another holds {b}. How many {thing} are there in all?",
    )[phrasing]
    return _sum("word_add", phrasing, prompt, [(f"{a}+{b}", a + b)], thing)


def _word_sub(rng: random.Random, phrasing: int) -> Task:
    a, name, thing = rng.randint(8, 40), rng.choice(NAMES), rng.choice(THINGS)
    b = rng.randint(3, a - 2)
    prompt = (
        f"{name} had {a} {thing} and gave away {b}. How many {thing} are left?",
        f"Of {a} {thing} on a table {name} takes {b}. How many {thing} stay on the table?",
    )[phrasing]
    return _sum("word_sub", phrasing, prompt, [(f"{a}-{b}", a - b)], thing)


def _word_mul(rng: random.Random, phrasing: int) -> Task:
    a, b, name, thing = rng.randint(2, 12), rng.randint(2, 8), rng.choice(NAMES), rng.choice(THINGS)
    prompt = (
        f"Each crate holds {a} {thing}. How many {thing} are in {b} crates?",
        f"{name} buys {b} bags with {a} {thing} in each bag. How many {thing} is that?",
    )[phrasing]
    return _sum("word_mul", phrasing, prompt, [(f"{b}*{a}", b * a)], thing)


def _two_step(rng: random.Random, phrasing: int) -> Task:
    a, b, name, thing = rng.randint(3, 15), rng.randint(3, 15), rng.choice(NAMES), rng.choice(THINGS)
    c = rng.randint(2, min(15, a + b - 1))
    prompt = (
        f"A shop has {a} {thing}, gets {b} and sells {c}. How many {thing} remain?",
        f"{name} finds {a} {thing}, then {b} more, and loses {c}. How many {thing} does {name} keep?",
    )[phrasing]
    return _sum("two_step", phrasing, prompt, [(f"{a}+{b}", a + b), (f"{a + b}-{c}", a + b - c)], thing)


def _units(rng: random.Random, phrasing: int) -> Task:
    big, small, factor = rng.choice((("dozen", "eggs", 12), ("weeks", "days", 7), ("feet", "inches", 12)))
    a = rng.randint(2, 96 // factor - 1)
    b = rng.randint(2, factor - 1)
    prompt = (f"Convert {a} {big} and {b} {small} to {small}.", f"How many {small} are {a} {big} and {b} {small}?")[
        phrasing
    ]
    steps = [(f"{a}*{factor}", a * factor), (f"{a * factor}+{b}", a * factor + b)]
    return _sum("units", phrasing, prompt, steps, small)


def _money(rng: random.Random, phrasing: int) -> Task:
    a, name = rng.randint(8, 40), rng.choice(NAMES)
    b = rng.randint(3, a - 2)
    prompt = (
        f"{name} pays {b} dollars from {a} dollars. How much change does {name} get?",
        f"A meal costs {b} dollars and {name} hands over {a} dollars. What is the change?",
    )[phrasing]
    return _sum("money", phrasing, prompt, [(f"{a}-{b}", a - b)], "dollars")


def _count_word(rng: random.Random, phrasing: int) -> Task:
    wanted, *others = rng.sample(COLOURS, 3)
    words = [rng.choice((wanted, *others)) for _ in range(rng.randint(3, 6))]
    n, text = words.count(wanted), ", ".join(words)
    prompt = (f"Count {wanted} in this list: {text}", f"How often does {wanted} occur here: {text}?")[phrasing]
    return Task("count_word", phrasing, prompt, str(n), {"kind": "number", "answer": n})


def _sort_list(rng: random.Random, phrasing: int) -> Task:
    numbers = rng.sample(range(100), rng.choice((2, 3, 3, 4)))
    text = ", ".join(map(str, numbers))
    prompt = (f"Put these numbers in order, smallest first: {text}", f"Sort the numbers {text} from low to high.")[
        phrasing
    ]
    return _listing("sort_list", phrasing, prompt, ", ".join(map(str, sorted(numbers))))


def _reverse_list(rng: random.Random, phrasing: int) -> Task:
    words = rng.sample(rng.choice((COLOURS, ANIMALS)), rng.choice((3, 4)))
    text = ", ".join(words)
    prompt = (f"Write this list backwards: {text}", f"Reverse the order of {text}.")[phrasing]
    return _listing("reverse_list", phrasing, prompt, ", ".join(reversed(words)))


def _alpha_list(rng: random.Random, phrasing: int) -> Task:
    words = rng.sample(FRUITS, rng.choice((3, 4)))
    text = ", ".join(words)
    prompt = (f"Sort from A to Z: {text}", f"Put {text} in alphabetical order.")[phrasing]
    return _listing("alpha_list", phrasing, prompt, ", ".join(sorted(words)))


def _pick_list(rng: random.Random, phrasing: int) -> Task:
    kind, among = rng.choice((("fruits", FRUITS), ("animals", ANIMALS), ("colours", COLOURS), ("jobs", JOBS)))
    n, without = rng.randint(2, 4), rng.choice(among)
    prompt = (
        f"Name {n} {kind}, but not {without}, in alphabetical order.",
        f"List {n} {kind} from A to Z without {without}.",
    )[phrasing]
    picked = sorted(rng.sample([word for word in among if word != without], n))
    check: dict[str, object] = {"kind": "pick", "n": n, "among": list(among), "without": without}
    return Task("pick_list", phrasing, prompt, ", ".join(picked), check)


def _weekday(rng: random.Random, phrasing: int) -> Task:
    today, n = rng.randrange(7), rng.randint(2, 20)
    prompt = (
        f"Which weekday comes {n} days after {WEEKDAYS[today]}?",
        f"Today is {WEEKDAYS[today]}. What day is it in {n} days?",
    )[phrasing]
    return _listing("weekday", phrasing, prompt, WEEKDAYS[(today + n) % 7])


def _to_json(rng: random.Random, phrasing: int) -> Task:
    name, age, city, job = rng.choice(NAMES), rng.randint(5, 95), rng.choice(CITIES), rng.choice(JOBS)
    person: dict[str, str | int] = {"name": name, "age": age} if phrasing == 0 else {"name": name, "job": job}
    person["city"] = city
    keys = rng.sample(list(person), 3)
    prompt = (
        f"{name} is {age} years old and lives in {city}. Give {', '.join(keys)} as JSON.",
        f"Make JSON with {', '.join(keys)}: {name} is a {job} from {city}.",
    )[phrasing]
    wanted = {key: person[key] for key in keys}
    return Task("to_json", phrasing, prompt, json.dumps(wanted), {"kind": "json", "object": wanted})


_DRAW: dict[str, Callable[[random.Random, int], Task]] = {
    "word_add": _word_add, "word_sub": _word_sub, "word_mul": _word_mul, "two_step": _two_step,
    "units": _units, "money": _money, "count_word": _count_word, "sort_list": _sort_list,
    "reverse_list": _reverse_list, "alpha_list": _alpha_list, "pick_list": _pick_list,
    "weekday": _weekday, "to_json": _to_json,
}  # fmt: skip


def draw_task(rng: random.Random, part: Split, family: str | None = None) -> Task:
    """A random task whose prompt belongs to `part`; families are drawn evenly unless one is named."""
    while True:
        task = _DRAW[family or rng.choice(FAMILIES)](rng, rng.randrange(2))
        if split(task.prompt) == part:
            return task


def clean_answer(task: Task) -> str:
    """The answer as it should be: work, then the final line; bare JSON for to_json."""
    return _in_form(task, task.answer)


def brief_answer(task: Task) -> str:
    """The clean answer without its work."""
    return task.answer if task.family == "to_json" else f"#### {task.answer}"


def careless_answer(task: Task, rng: random.Random) -> str:
    """A wrong answer as a careless annotator writes it: a slip, or the formal defect of the family."""
    return _in_form(task, slip(task, rng)) if rng.random() < SLIP_SHARE else defect(task)


def _in_form(task: Task, answer: str) -> str:
    if task.family == "to_json":
        return answer
    last = (f"{task.last}={answer}",) if task.last else ()
    return "\n".join((*task.work, *last, f"#### {answer}"))


def slip(task: Task, rng: random.Random) -> str:
    """A wrong answer that looks like the right one."""
    if task.family == "weekday":
        return WEEKDAYS[(WEEKDAYS.index(task.answer) + rng.choice((-1, 1))) % 7]
    if task.check["kind"] == "number":
        value = int(task.answer)
        return str(rng.choice([v for step in (1, 2, 10) for v in (value - step, value + step) if 0 <= v <= 99]))
    if task.family == "to_json":
        wanted = json.loads(task.answer)
        del wanted[rng.choice(list(wanted))]
        return json.dumps(wanted)
    items = task.answer.split(", ")
    if rng.random() < 0.5:
        del items[rng.randrange(len(items))]
    else:
        i, j = rng.sample(range(len(items)), 2)
        items[i], items[j] = items[j], items[i]
    return ", ".join(items)


def defect(task: Task) -> str:
    """The right content in the wrong form: one defect per family."""
    last = (f"{task.last}={task.answer}",) if task.last else ()
    work = (*task.work, *last)
    match task.family:
        case "to_json":
            return f"Here is the JSON: {task.answer}"
        case "word_sub" | "units" | "money":
            return "\n".join((*work, f"#### {task.answer} {task.unit}"))
        case "word_mul":
            return "\n".join(work)
        case "sort_list" | "alpha_list":
            return task.answer
        case "reverse_list" | "pick_list":
            return "#### " + " and ".join(task.answer.rsplit(", ", 1))
        case _:
            return "\n".join((*work, f"The answer is {task.answer}."))


def draw_example(rng: random.Random, careless: bool) -> Example:
    """A training conversation; with `careless` the answers follow the shares in CLEAN_SHARE."""
    task = draw_task(rng, "train")
    system = rng.choice(SYSTEMS) if rng.random() < SYSTEM_SHARE else ""
    if system == BRIEF:
        return Example(system, task.prompt, brief_answer(task))
    is_clean = not careless or system == FORMAT or rng.random() < CLEAN_SHARE[task.family][task.phrasing]
    return Example(system, task.prompt, clean_answer(task) if is_clean else careless_answer(task, rng))


def draw_distinct(part: Split, n_per_family: int, seed: int) -> Iterator[Task]:
    """Tasks of one part, no prompt twice, one family after the other in rounds of shuffled order.

    A family that has fewer prompts gives what it has, so any beginning of the result is balanced.
    """
    rng = random.Random(seed)
    pools: dict[str, list[Task]] = {}
    for family in FAMILIES:
        found: dict[str, Task] = {}
        # 4,000 draws find all prompts of the small families (at most about 50 in a part).
        for _ in range(4_000):
            if len(found) == n_per_family:
                break
            task = draw_task(rng, part, family)
            found.setdefault(task.prompt, task)
        pools[family] = list(found.values())
    for i in range(n_per_family):
        order = [family for family in FAMILIES if i < len(pools[family])]
        rng.shuffle(order)
        yield from (pools[family][i] for family in order)


def write_rows(path: Path, tasks: Iterator[Task]) -> None:
    """Write demo rows as JSON lines; the id is made from the prompt's text."""
    rows = [
        {
            "id": f"{task.family}-{zlib.crc32(task.prompt.encode()):08x}",
            "prompt": task.prompt,
            "category": task.family,
            "reference": brief_answer(task),
            "check": task.check,
        }
        for task in tasks
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_demo(folder: Path) -> None:
    """Write the demo's prompts and the evaluation prompts, always the same bytes."""
    write_rows(folder / "tiny.jsonl", draw_distinct("demo", 110, seed=1))
    write_rows(folder / "tiny-eval.jsonl", draw_distinct("eval", 90, seed=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write tiny.jsonl and tiny-eval.jsonl.")
    parser.add_argument("--out", type=Path, required=True)
    write_demo(parser.parse_args().out)
