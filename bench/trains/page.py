"""The committed table of `data_trains.py`: every figure, setting and version, and which claims held.

A claim holds when its interval says so with every seed; nothing is averaged over seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from strategies import STRATEGIES

Results = dict[str, Any]
FIRST = next(iter(STRATEGIES))
CLAIMS = (
    ("dpo", "base", "DPO beats the untuned model"),
    ("dpo", "flipped", "DPO beats the control"),
    ("flipped", "base", "the control beats the untuned model"),
    ("sft", "base", "SFT on the chosen side beats the untuned model"),
    ("dpo", "sft", "DPO beats SFT on the chosen side"),
    (FIRST, "base", f"{STRATEGIES[FIRST].told} beats the untuned model"),
    *((name, FIRST, f"{of.told}, over {STRATEGIES[FIRST].told}") for name, of in STRATEGIES.items() if name != FIRST),
)
ARMS = {"base": "untuned", "flipped": "control", "sft": "SFT on chosen", "dpo": "DPO"}
ARMS |= {name: of.told for name, of in STRATEGIES.items()}
SETS = {"new": "other texts, of templates that no pair has", "known": "other texts, of the pairs' templates"}


def page(results: Results) -> str:
    return "\n".join(_lines(results)).rstrip()


def differences(
    results: Results, held_out: str, at: int, arm: str, over: str, of: str = "pass"
) -> list[dict[str, Any]]:
    """One a seed: the difference of right answers, or of `form`, at the report's `at`-th temperature; shares of one."""
    found = []
    for one in results["seeds"]:
        rows = one["eval"][held_out]["temperatures"][at]["differences"]
        (row,) = (d for d in rows if (d["arm"], d["over"]) == (arm, over))
        found.append(row[of])
    return found


def points(of: dict[str, Any]) -> str:
    low, high = of["interval"]
    return f"{100 * of['value']:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def _lines(results: Results) -> Iterator[str]:
    seeds = [one["seed"] for one in results["seeds"]]
    yield f"# Do the pairs train a better model? ({results['subject']}, {results['size']})"
    yield ""
    yield f"`{_command(results)}`"
    yield ""
    yield _told(results)
    for name in results["seeds"][0]["eval"]:
        yield ""
        yield f"## Held out: {SETS[name]}"
        for at, temperature in enumerate(_temperatures(results, name)):
            n = [one["eval"][name]["temperatures"][at]["n_items"] for one in results["seeds"]]
            yield ""
            prompts = " / ".join(map(str, n))
            yield f"Temperature {temperature:g}: {prompts} prompts; points of right answers, paired 95 % intervals."
            yield ""
            yield from _claims(results, name, at, seeds)
            if "strategies" in results["seeds"][0]["run"]:
                yield ""
                yield "The same of answers in the right form:"
                yield ""
                yield from _claims(results, name, at, seeds, "form")
            yield ""
            yield from _arms(results, name, at)
        if not _formed(results, name):
            yield ""
            yield from _kinds(results, name)
    yield ""
    if "strategies" in results["seeds"][0]["run"]:
        yield from _strategies([one["run"]["strategies"] for one in results["seeds"]])
        yield ""
    yield from _making(results)


def _command(results: Results) -> str:
    subject = "".join(f" {word}" for word in results["chosen"])
    size = "" if results["size"] == "full" else f" --size {results['size']}"
    seeds = " ".join(str(one["seed"]) for one in results["seeds"])
    return f"python bench/data_trains.py --out FOLDER{subject}{size} --seeds {seeds}"


def _told(results: Results) -> str:
    trainers = [of["versions"] for one in results["seeds"] for of in one["trained"].values()]
    used = {f"{k} {v}" for versions in (results["versions"], *trainers) for k, v in versions.items()}
    devices = {of.get("device", "a CPU, one thread") for one in results["seeds"] for of in one["trained"].values()}
    return f"{', '.join(sorted(used, key=str.lower))}; on {', '.join(sorted(devices))}."


def _temperatures(results: Results, name: str) -> list[float]:
    return [at["temperature"] for at in results["seeds"][0]["eval"][name]["temperatures"]]


def _claims(results: Results, name: str, at: int, seeds: Sequence[int], of: str = "pass") -> Iterator[str]:
    yield f"| claim | {' | '.join(f'seed {s}' for s in seeds)} | |"
    yield "|---|" + "---|" * (len(seeds) + 1)
    arms = [arm["arm"] for arm in results["seeds"][0]["eval"][name]["temperatures"][at]["arms"]]
    for arm, over, words in CLAIMS:
        if arm not in arms or over not in arms:
            continue
        found = differences(results, name, at, arm, over, of)
        n_up, n_down = sum(d["interval"][0] > 0 for d in found), sum(d["interval"][1] < 0 for d in found)
        told = f"in {n_up} of {len(found)}" + (f"; the other way round in {n_down}" if n_down else "")
        yield f"| {words} | {' | '.join(map(points, found))} | {told} |"


def _arms(results: Results, name: str, at: int) -> Iterator[str]:
    formed = _formed(results, name)
    form = " right form | right given the form |" if formed else ""
    yield f"| % , by seed | right |{form} cut off | mean tokens | mean characters |"
    yield "|---|" + "---|" * (form.count("|") + 4)
    for i, first in enumerate(results["seeds"][0]["eval"][name]["temperatures"][at]["arms"]):
        arm = first["arm"]
        of = [one["eval"][name]["temperatures"][at]["arms"][i] for one in results["seeds"]]
        rates = ["pass", *(["form", "pass_given_form"] if formed else []), "cut_off"]
        cells = [" / ".join(f"{100 * o[rate]['value']:.1f}" for o in of) for rate in rates]
        cells += [" / ".join(f"{o[length]:.1f}" for o in of) for length in ("mean_tokens", "mean_chars")]
        yield f"| {ARMS[arm]} | {' | '.join(cells)} |"


def _strategies(seeds: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "## The pairs"
    yield ""
    yield (
        "One DPO each, on equally many pairs of the same answers: one run, paired anew, nothing asked. "
        "% but for prompts and characters; wrong and form are told by the grader `demo`, whatever scored the answers."
    )
    yield ""
    yield (
        f"| by seed | prompts with a pair | trained prompts shared with {ARMS[FIRST]} | the very same pair | "
        "chosen is wrong | rejected has the form | chosen longer, characters | settings |"
    )
    yield "|---|---|---|---|---|---|---|---|"
    for name in seeds[0]:
        of = [one[name] for one in seeds]
        cells = [" / ".join(f"{o['n_items']:,}" for o in of)]
        for share in ("same_prompts", "same_pairs", "chosen_wrong", "rejected_form"):
            cells.append(" / ".join(f"{100 * o[share]:.0f}" for o in of))
        cells.append(" / ".join(f"{o['longer_chars']:+.1f}" for o in of))
        yield f"| {ARMS[name]} | {' | '.join(cells)} | `{STRATEGIES[name].words()}` |"


def _formed(results: Results, name: str) -> bool:
    """The grader tells form from content."""
    return results["seeds"][0]["eval"][name]["temperatures"][0]["arms"][0]["form"] is not None


def _kinds(results: Results, name: str) -> Iterator[str]:
    """What got better and what got worse, all seeds and temperatures together."""
    tables = [at for one in results["seeds"] for at in one["eval"][name]["temperatures"]]
    arms = [arm["arm"] for arm in tables[0]["arms"]]
    yield f"| right, %, by kind, all seeds and temperatures | prompts | {' | '.join(ARMS[arm] for arm in arms)} |"
    yield "|---|---|" + "---|" * len(arms)
    for kind in sorted({kind for table in tables for kind in table["categories"]}):
        found = [table["categories"][kind] for table in tables if kind in table["categories"]]
        n = sum(one["n_items"] for one in found)
        rates = [sum(one["n_items"] * one["pass"][i] for one in found) / n for i in range(len(arms))]
        # An item stands in a table for each temperature.
        n_prompts = n // len(results["seeds"][0]["eval"][name]["temperatures"])
        yield f"| {kind} | {n_prompts} | {' | '.join(f'{100 * rate:.0f}' for rate in rates)} |"


def _making(results: Results) -> Iterator[str]:
    yield "## How it was made"
    yield ""
    yield f"Settings: {', '.join(f'{k} {_value(v)}' for k, v in results['settings'].items())}."
    yield ""
    yield "| seed | prompts | with both kinds | pairs trained on | steps | CPU-seconds |"
    yield "|---|---|---|---|---|---|"
    for one in results["seeds"]:
        run, steps = one["run"], ", ".join(f"{arm} {of['steps']}" for arm, of in one["trained"].items())
        cpu = ", ".join(f"{name} {of:.0f}" for name, of in one["cpu_s"].items())
        yield (
            f"| {one['seed']} | {run['items']['n']:,} | {run['items']['with_pair']:,} | {run['n_trained_on']} | "
            f"{steps} | {cpu} |"
        )


def _value(value: Any) -> str:
    if isinstance(value, list):
        return "`" + " ".join(map(str, value)) + "`"
    return f"{value:g}" if isinstance(value, float) else str(value)
