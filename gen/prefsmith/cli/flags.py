"""The recipe that each command's words ask for; a flag that would change nothing is an error.

The order is defaults, recipe file, flags, `--set`. `--gen` gives each of its models the recipe's one row of sampling
settings; `--judge` replaces the stages that judge, `--confirm` the one that confirms. A folder judged anew by `--judge`
keeps no confirmation that is not named: its model may cost money.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from prefsmith.cli.changes import PLACES, cells, endpoints, given, is_grader, judging, plain, sampling, sets, spelt
from prefsmith.errors import UsageError, did_you_mean
from prefsmith.merge import draft_of, merge, read_recipe
from prefsmith.origins import Change, Draft, Origins
from prefsmith.prices import nanousd_of
from prefsmith.purse import Billed
from prefsmith.recipe import GRADERS, Pairing, Recipe, run_folder
from prefsmith.records import Json

DEMO: Json = {
    "prompts": {"path": "demo:tiny", "limit": 300},
    "sample": [{"model": "embedded:tiny", "temperature": [0.3, 0.7, 1.0, 1.3], "n": 2, "max_tokens": 44}],
    "judge": [{"use": "demo"}],
    "pair": {"strategy": "correct_incorrect"},
    "export": ["trl", "openai"],
}
_ANY: Json = {"sample": [{"model": "scripted:any"}], "judge": [{"use": "exact"}]}
"""What every recipe needs, for one that lacks it and is looked through all the same."""
_JUDGE_OF = {"demo:tiny": "demo", "demo:tiny-eval": "demo", "demo:constraints": "constraints"}
_NAMED_ARM = re.compile(r"(?:(?P<name>[^:=]+)=)?(?P<model>.+)", re.DOTALL)


class Given(NamedTuple):
    """What a command line asks for. `origins`: where each part of the recipe was said, for errors that show later."""

    recipe: Recipe
    folder: Path
    origins: Origins


def recipe_of(args: Namespace) -> Given:
    """The recipe and the folder of `run`, `plan` and `doctor`. Raises UsageError."""
    draft = _draft(args.x)
    changes = [*sampling(args, draft), *judging(args, draft), *endpoints(args), *plain(args), *sets(args)]
    told = {change.place[0] for change in changes}
    if lacking := [part for part in _ANY if not draft.tree.get(part) and part not in told]:
        # Other mistakes are told first, with their lines: a typo may be what the part is missing by.
        merge(draft, [*changes, *(Change((part,), _ANY[part], draft.name) for part in lacking)])
        raise UsageError(_no_sample(draft) if lacking[0] == "sample" else _no_judge(draft))
    folder = Path(args.out) if args.out else run_folder(DEMO["prompts"]["path"] if args.x is None else args.x)
    return Given(_of_no_arms(merge(draft, changes)), folder, Origins(draft, tuple(changes)))


def _of_no_arms(recipe: Recipe) -> Recipe:
    """A pairing that is no run's. Raises UsageError."""
    if recipe.pair.strategy == "arms":
        raise UsageError("pair.strategy: arms is for `prefsmith eval`; known here: best_worst, correct_incorrect")
    return recipe


def evaluation_of(args: Namespace) -> Given:
    """The recipe and the folder of `eval`. Raises UsageError."""
    draft = _draft(args.x)
    rows = [row for row in draft.tree.get("sample") or [] if isinstance(row, dict)]
    usual: Json = {"temperature": [0.0]}
    if rows and draft.document is None:
        # The demo's: of its settings those of a run that wants different answers stay out.
        usual["max_tokens"], rows = rows[0]["max_tokens"], []
    changes = [
        Change(("sample", i, "temperature"), [0.0], "eval") for i, r in enumerate(rows) if "temperature" not in r
    ]
    if args.arm:
        settings = usual | (rows[0] if rows else {})
        arms = (_NAMED_ARM.fullmatch(arm) for arm in args.arm)
        rows = [{**settings, "arm": arm["name"], "model": arm["model"]} for arm in arms if arm]
        changes = [Change(("sample",), rows, "--arm")]
    if not rows:
        raise UsageError(
            f"{draft.name}: no model to ask; give --arm NAME=TARGET:MODEL once for each, such as "
            "--arm base=embedded:tiny --arm tuned=embedded:tuned.gguf"
        )
    changes += [*cells(args, len(rows)), *_arm_judges(args, draft), *endpoints(args), *plain(args), *sets(args)]
    if not draft.tree.get("judge") and not any(change.place[0] == "judge" for change in changes):
        raise UsageError(_no_marker(draft))
    # Its pairs are of arms, not of scores, and no trainer's.
    changes += [Change(("pair",), {"strategy": "arms"}, "eval"), Change(("export",), [], "eval")]
    folder = Path(args.out) if args.out else Path("runs") / f"eval-{run_folder(args.x).name}"
    return Given(merge(draft, changes), folder, Origins(draft, tuple(changes)))


def _arm_judges(args: Namespace, draft: Draft) -> Iterator[Change]:
    """A judge that asks a model compares arms, which the recipe calls `confirm`."""
    named = sorted(args.judge or (), key=is_grader, reverse=True)
    for name in named:
        if not is_grader(name) and not name.endswith(".toml") and name not in known_judges():
            raise UsageError(f"--judge: no grader or judge is called {name!r}; {did_you_mean(name, _markers())}")
    rows = [{"use": name} if is_grader(name) else {"confirm": name} for name in named]
    rows = rows or [row for row in draft.tree.get("judge") or [] if isinstance(row, dict)]
    asking = [row for row in rows if row.get("confirm")]
    if args.judge and len(asking) > 1:
        raise UsageError(f"--judge: eval compares by one pairwise judge; got {', '.join(r['confirm'] for r in asking)}")
    if args.judge_model and not asking:
        raise UsageError(
            "--judge-model: no judge of this evaluation asks a model; name one, such as --judge pairwise-help"
        )
    if args.judge or args.judge_model:
        rows = [{**row, "model": args.judge_model or row.get("model")} if row in asking else row for row in rows]
        yield Change(("judge",), rows, "--judge")


class Rejudged(NamedTuple):
    """What `judge` asks for. `notes`: what it leaves out of the last recipe unasked."""

    recipe: Recipe
    origins: Origins
    notes: tuple[str, ...]


def rejudged(args: Namespace, last: Recipe) -> Rejudged:
    """The recipe of `judge`: the folder's last one with other judges or pairing. Raises UsageError."""
    draft = _of_last(last)
    notes: tuple[str, ...] = ()
    if args.judge and not args.confirm and (name := last.judge[-1].confirm):
        draft.tree["judge"] = draft.tree["judge"][:-1]
        notes = (f"the confirmation by {name} is left out; add --confirm {name} to keep it",)
    changes = [*judging(args, draft), *endpoints(args), *plain(args), *sets(args)]
    for change in changes:
        if change.place[0] in ("sample", "prompts", "seed"):
            raise UsageError(f"{change.origin}: `judge` samples nothing; `prefsmith run` changes {change.place[0]!r}")
    return Rejudged(_of_no_arms(merge(draft, changes)), Origins(draft, tuple(changes)), notes)


def only_reread(args: Namespace) -> None:
    """Raises UsageError for a flag beside --reread that it would ignore."""
    changed = ("judge", "judge_model", "confirm", "endpoint", "set", "maybe_billed", *PLACES)
    if ignored := [flag for flag, _ in given(args, changed)]:
        raise UsageError(
            f"--reread reads what is there and asks nothing, so {spelt(ignored[0])} means nothing to it; leave it out, "
            "or judge anew without --reread"
        )


def bench_of(args: Namespace) -> tuple[Recipe, Path]:
    """The recipe and the folder of a live `bench judge`. Raises UsageError."""
    judges = []
    for name in args.judge:
        models = [None] if is_grader(name) else args.judge_model or [None]
        judges += [{"use": name, **({"model": model} if model else {})} for model in models]
    tree = {
        "prompts": {"path": args.file},
        "sample": [{"model": "imported:answers"}],
        "judge": judges,
        "contests": args.format,
        "export": [],
        "max_no_verdict": 1.0,  # a judge that often gives none is measured, not stopped
    }
    changes = [*endpoints(args), *plain(args), *sets(args)]
    changes = [change for change in changes if change.place != ("prompts", "format")]  # that is the pairs' own
    out = Path(args.out) if args.out else Path("runs") / f"bench-{Path(args.file).stem}"
    return merge(draft_of(tree, "the command line"), changes), out


def billed_of(args: Namespace) -> Billed | None:
    """The user's word on held money; not of the recipe, for it is about one folder at one time."""
    if args.maybe_billed is None:
        return None
    ((unit, n),) = args.maybe_billed.items()
    return Billed("nanousd", nanousd_of(n)) if unit == "usd" else Billed("tokens", n)


def pairing_of(args: Namespace, last: Recipe) -> Pairing | None:
    """The pairing rule of `export`: None when no flag asks for another than the run's own. Raises UsageError."""
    wanted = list(sets(args))
    for change in wanted:
        if change.place[0] != "pair":
            raise UsageError(f"{change.origin}: `export` pairs and asks nothing; it sets places of `pair` alone")
    changes = [*(change for change in plain(args) if change.place[0] == "pair"), *wanted]
    return _of_no_arms(merge(_of_last(last), changes)).pair if changes else None


def formats_of(args: Namespace, last: Recipe) -> list[str]:
    """The formats of `export`, checked as a recipe's are. Raises UsageError."""
    changes = [change for change in plain(args) if change.place[0] == "export"]
    return list(merge(_of_last(last), changes).export)


def _of_last(last: Recipe) -> Draft:
    return draft_of(last.model_dump(mode="json"), "the run's last recipe", resolved=True)


def _draft(x: str | None) -> Draft:
    if x is None or x == DEMO["prompts"]["path"]:
        return draft_of(DEMO, "the demo")
    if x.endswith((".yaml", ".yml")):
        draft = read_recipe(Path(x))
    else:
        if (Path(x) / "ledger.db").exists():
            raise UsageError(
                f"{x!r} is a run's folder, not prompts; to go on with it, repeat the command that began it"
            )
        draft = draft_of({"prompts": {"path": x}}, "the command line")
    prompts = draft.tree.get("prompts")
    usual = _JUDGE_OF.get(str(prompts.get("path"))) if isinstance(prompts, dict) else None
    if "judge" not in draft.tree and usual is not None:
        draft.tree["judge"] = [{"use": usual}]
    return draft


def _no_sample(draft: Draft) -> str:
    return (
        f"{draft.name}: no model to sample from; give --gen TARGET:MODEL (such as openai:gpt-4.1-mini, "
        "vllm:NAME or embedded:path/model.gguf), or `sample:` in a recipe"
    )


def _no_judge(draft: Draft) -> str:
    return f"{draft.name}: no judge; give --judge NAME ({did_you_mean('', known_judges())})"


def _no_marker(draft: Draft) -> str:
    from prefsmith.judging.load import pairwise_names

    return (
        f"{draft.name}: nobody marks the answers; give --judge NAME: a grader ({', '.join(GRADERS)}, "
        f"FILE.py:FUNCTION), or with --judge-model a pairwise judge ({', '.join(pairwise_names())})"
    )


def _markers() -> list[str]:
    """Who can mark an evaluation's answers."""
    from prefsmith.judging.load import pairwise_names

    return [*GRADERS, *pairwise_names()]


def known_judges() -> list[str]:
    """The graders, and the judges on the shelf."""
    from prefsmith.judging.load import judge_names

    return [*GRADERS, *judge_names()]
