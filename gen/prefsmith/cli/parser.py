"""The words and flags of the command line; what they mean for a recipe is said in `flags`.

argparse alone, no heavy import: this is all that `--help` loads.
"""

from __future__ import annotations

import re
import sys
from argparse import SUPPRESS, Action, ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from typing import NoReturn

from prefsmith.cli import commands, values
from prefsmith.errors import UsageError, did_you_mean

_EPILOG = """\
prefsmith run                          the demo: a real tiny model, a real grader, real pairs
prefsmith run prompts.jsonl --gen openai:gpt-4.1-mini --temps 0.2,0.7,1.0 --n 2 --judge number
prefsmith run recipe.yaml              everything; safe to repeat: it goes on where it stopped
"""
_WORDS = {
    "run": "sample, judge, pair and export; goes on where it stopped",
    "plan": "what a run would ask and take; asks nothing, or a few prompts with --try",
    "doctor": "look whether a run can work here: machine, packages, keys, servers, models",
    "judge": "judge a run's completions anew; samples nothing",
    "eval": "hold models against each other on the same prompts; goes on where it stopped",
    "export": "write a run's pairs for a trainer; asks nothing",
    "verify": "hold a run's folder against itself",
    "explain": "where one item, pair or call of a run comes from",
    "summary": "what came of a run",
    "bench": "bench judge FILE: how good judges are on pairs with gold labels",
}
_PROMPTS = ("limit", "prompt", "reference", "category", "id", "tools", "system_column", "columns", "format", "split")
_IDLE = {
    "plan": {"to", "show"},
    "doctor": {*_PROMPTS, "strategy", "min_margin", "min_chosen", "to", "probe", "grace", "show", "quiet"}
    | {"seed", "change"},
}
"""Flags of `run` that another command takes, so that the words of a run do for it, and that change nothing there."""


def parse(words: Sequence[str]) -> Namespace:
    """The flags as a namespace whose `command` is the function to call with it. Raises UsageError, SystemExit."""
    parser, subparsers = _parsers()
    if not words:
        parser.print_help(sys.stderr)
        raise SystemExit(UsageError.exit_code)
    args, extras = parser.parse_known_args(words)
    for extra in extras:
        if extra.startswith("-"):
            known = re.findall(r"^  (?:-\w[^,]*, )?(--[a-z][a-z-]*)", subparsers[args.word].format_help(), re.M)
            hint = did_you_mean(extra.partition("=")[0], known)
            raise UsageError(f"unknown flag {extra!r} of `{args.word}`; {hint}")
        raise UsageError(f"unexpected {extra!r}; `prefsmith {args.word} --help` says what goes where")
    return args


def _parsers() -> tuple[ArgumentParser, dict[str, ArgumentParser]]:
    parser = _Parser(
        "prefsmith",
        description="Synthetic preference data: sample, judge, pair, hand chosen and rejected to a trainer.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="the version, and nothing else")
    words = parser.add_subparsers(dest="word", metavar="COMMAND", required=True)
    added: dict[str, ArgumentParser] = {}
    for word, text in _WORDS.items():
        added[word] = words.add_parser(word, help=text, description=text, allow_abbrev=False)
        added[word].set_defaults(command=getattr(commands, word))
        added[word].add_argument("--traceback", action="store_true", help="after an error, show the whole way to it")
    _add_run(added["run"])
    _add_billed(added["run"])
    _add_run(added["plan"])
    _add_try(added["plan"])
    _add_run(added["doctor"])
    _add_probe(added["doctor"])
    _add_judge(added["judge"])
    _add_billed(added["judge"])
    _add_eval(added["eval"])
    _add_export(added["export"])
    _add_readers(added)
    _add_bench(added["bench"])
    _add_billed(added["bench"])
    for word, idle in _IDLE.items():
        for action in added[word]._actions:
            action.help = SUPPRESS if action.dest in idle else action.help
    return parser, added


def _add_run(parser: ArgumentParser) -> None:
    parser.add_argument(
        "x",
        nargs="?",
        metavar="X",
        help="a recipe (.yaml), or prompts: a file, - for stdin, hf:NAME, demo:NAME; without it, the demo",
    )
    _add_source(parser)
    _add_sampling(parser)
    _add_judging(parser)
    _add_pairing(parser)
    _add_to(parser)
    _add_rest(parser)
    add = parser.add_argument_group("run").add_argument
    add("--seed", type=values.integer, metavar="S", help="the run's one seed (default 0)")
    add("-o", "--out", metavar="DIR", help="the run's folder (default runs/ and the stem of X)")
    add("--change", action="store_true", help="let this folder go on with other prompts")


def _add_source(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("prompts").add_argument
    add("--limit", type=values.integer, metavar="N", help="take the first N items")
    add("--prompt", metavar="COLUMN", help="the column with the prompt")
    add("--reference", metavar="COLUMN", help="the column with the reference answer")
    add("--category", metavar="COLUMN", help="the column with the category")
    add("--id", metavar="COLUMN", help="the column with the source's own id")
    add("--tools", metavar="COLUMN", help="the column with tool definitions")
    add("--system-column", metavar="COLUMN", help="the column with the prompt's own system message")
    add("--columns", type=values.names, metavar="A,B", help="other columns to carry along (default all)")
    add("--format", metavar="NAME", help="jsonl, csv, tsv, parquet, text, datasets (default: by the name's ending)")
    add("--split", metavar="NAME", help="the split of a data set (default train)")


def _add_sampling(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("sampling").add_argument
    add("--gen", action="append", metavar="TARGET:MODEL", help="the model to sample from; repeat for more")
    _add_cells(add, "default 1")
    _add_endpoint(add)


def _add_cells(add: Callable[..., Action], temps: str) -> None:
    """`temps`: at which temperature models answer when none is given."""
    add("--temps", type=values.numbers, metavar="0.2,0.7", help=f"temperatures, --n completions of each ({temps})")
    add("--n", type=values.integer, metavar="N", help="completions per cell of the grid")
    add("--top-p", type=values.numbers, metavar="P", help="one or a list; 1 is off")
    add("--top-k", type=values.integers, metavar="K", help="one or a list; 0 is off")
    add("--min-p", type=values.numbers, metavar="P", help="one or a list; 0 is off")
    add("--max-tokens", type=values.integer, metavar="N", help="longest answer in tokens")
    add(
        "--system",
        action="append",
        metavar="TEXT|FILE",
        help="a system prompt to sample under, or a .txt or .md file; repeat for more, '' for none",
    )


def _add_endpoint(add: Callable[..., Action]) -> None:
    add("--endpoint", action="append", type=values.endpoint, metavar="NAME=URL", help="an OpenAI-compatible server")


def _add_judging(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("judging").add_argument
    add("--judge", action="append", metavar="NAME", help="a grader, a judge, a .toml or FILE.py:NAME; repeat for more")
    add("--judge-model", metavar="TARGET:MODEL", help="the model of each judge that needs one")
    add("--confirm", metavar="NAME", help="a pairwise judge that must agree with each pair")


def _add_pairing(parser: ArgumentParser) -> None:
    add = parser.add_argument_group("pairing").add_argument
    add("--strategy", metavar="NAME", help="best_worst or correct_incorrect")
    add("--min-margin", metavar="M", help="least difference of the two scores; p75 is that quantile of the run")
    add("--min-chosen", metavar="S", help="least score of the chosen side")


def _add_to(parser: ArgumentParser) -> None:
    parser.add_argument("--to", type=values.names, metavar="A,B", help="trl, trl-parquet, openai, parquet")


def _add_rest(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--set", action="append", metavar="PLACE=VALUE", help="any place of the recipe, such as sample.0.n=4")
    add(
        "--budget",
        type=values.sum_of,
        metavar="5usd|2Mtok",
        help="the most that this folder may cost: $5, 5usd, 200ktok",
    )
    add("--prices", metavar="FILE", help="your own prices, a TOML file; they win over the shipped ones")
    add("--no-probe", dest="probe", action="store_false", default=None, help="do not ask models what they can do")
    add("--grace", type=values.number, metavar="S", help="how long the first Ctrl-C waits for replies on their way")
    _add_show(parser, 3)
    add("--json", action="store_true", help="the result as JSON on standard output")
    add("--quiet", action="store_true", help="no progress and no summary")


def _add_try(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--try",
        dest="n_tried",
        type=values.count,
        default=0,
        metavar="N",
        help="carry out N prompts of the source, in the run's folder, and tell the rest by what they took",
    )


def _add_probe(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--probe",
        dest="asks",
        action="store_true",
        help="also ask each model of a server what it can do, by at most two small requests, which are paid for",
    )


def _add_billed(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--maybe-billed",
        type=values.sum_of,
        metavar="0usd",
        help="what the bill says of calls that were out at a kill, for what the folder holds against its budget",
    )


def _add_show(parser: ArgumentParser, default: int) -> None:
    parser.add_argument(
        "--show",
        type=values.count,
        default=default,
        metavar="N",
        help=f"print N pairs side by side (default {default})",
    )


def _add_judge(parser: ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="the run's folder")
    parser.add_argument("--reread", action="store_true", help="read the stored replies again, ask nothing")
    _add_judging(parser)
    _add_endpoint(parser.add_argument)
    _add_pairing(parser)
    _add_to(parser)
    _add_rest(parser)


def _add_eval(parser: ArgumentParser) -> None:
    parser.add_argument("x", metavar="X", help="prompts (a file, - for stdin, hf:NAME, demo:NAME), or a recipe (.yaml)")
    _add_source(parser)
    add = parser.add_argument_group("arms").add_argument
    add("--arm", action="append", metavar="[NAME=]TARGET:MODEL", help="a model to ask; repeat, the one to beat first")
    _add_cells(add, "default 0; a recipe's own stand")
    _add_endpoint(add)
    judging = parser.add_argument_group("judging").add_argument
    judging("--judge", action="append", metavar="NAME", help="a grader or FILE.py:NAME; a pairwise judge or .toml")
    judging("--judge-model", metavar="TARGET:MODEL", help="the model of the pairwise judge")
    _add_rest(parser)
    add = parser.add_argument_group("run").add_argument
    add("--seed", type=values.integer, metavar="S", help="the run's one seed (default 0)")
    add("-o", "--out", metavar="DIR", help="the run's folder (default runs/eval- and the stem of X)")
    add("--change", action="store_true", help="let this folder go on with other prompts")
    _add_billed(parser)


def _add_export(parser: ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs; several are written as one")
    _add_to(parser)
    _add_pairing(parser)
    parser.add_argument("--set", action="append", metavar="PLACE=VALUE", help="more of it, such as pair.correct=0.5")
    parser.add_argument("-o", "--out", metavar="DIR", help="where to write (default: the run's own folder)")
    parser.add_argument("--json", action="store_true", help="what was written, as JSON")


def _add_readers(added: dict[str, ArgumentParser]) -> None:
    for word in ("verify", "explain", "summary"):
        added[word].add_argument("run", metavar="RUN", help="the run's folder")
        added[word].add_argument("--json", action="store_true", help="the result as JSON")
    added["verify"].add_argument(
        "--sample", type=values.count, default=1000, metavar="N", help="most verdicts to grade again (default 1000)"
    )
    added["explain"].add_argument(
        "id", metavar="ID", help="an id of an item or prompt, or its first 4 characters; a source id; line:N"
    )
    _add_show(added["summary"], 0)
    added["summary"].add_argument(
        "--set-aside", action="store_true", help="name each row of the source that was set aside, and why"
    )


def _add_bench(parser: ArgumentParser) -> None:
    parser.add_argument("what", choices=("judge",), help="what is measured")
    parser.add_argument("file", metavar="FILE", help="pairs with gold labels: .jsonl, .json or .parquet")
    add = parser.add_argument
    add("--format", default="auto", metavar="NAME", help="the file's format (default: by its columns)")
    add("--verdicts", action="append", metavar="FILE", help="recorded verdicts, which ask no model; repeat for more")
    add("--judge", action="append", metavar="NAME", help="a judge or grader to ask; repeat for more")
    add("--judge-model", action="append", metavar="TARGET:MODEL", help="a model for each judge; repeat for more")
    _add_endpoint(add)
    add("--estimate", action="store_true", help="what is still to be asked and what it costs at most; asks nothing")
    add("--min-accuracy", type=values.number, metavar="P", help="exit 4 when a judge is right on a smaller share")
    add(
        "--min-consistency", type=values.number, metavar="P", help="exit 4 when the two orders agree on a smaller share"
    )
    add(
        "--seed",
        type=values.integer,
        default=0,
        metavar="S",
        help="seed of drawn sides and of the bootstrap (default 0)",
    )
    add("-o", "--out", metavar="DIR", help="the report's folder; with --judge a run's (default runs/bench-FILE)")
    add("--change", action="store_true", help="let this folder go on with another file of pairs")
    add("--set", action="append", metavar="PLACE=VALUE", help="any place of the recipe, such as judge.0.text=yes")
    add("--budget", type=values.sum_of, metavar="5usd|2Mtok", help="the most that this folder may cost")
    add("--prices", metavar="FILE", help="your own prices, a TOML file")
    add("--no-probe", dest="probe", action="store_false", default=None, help="do not ask models what they can do")
    add("--json", action="store_true", help="the report as JSON on standard output")
    add("--quiet", action="store_true", help="no progress")


class _Parser(ArgumentParser):
    """What is wrong with a flag is said as every other mistake is; `--help` has the rest."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message.removeprefix('argument ')}; `{self.prog} --help` says what goes where")


class _Version(Action):
    """Asks the installation only when it is asked."""

    def __call__(self, parser: ArgumentParser, *_: object) -> None:
        from prefsmith.version import VERSION

        print(f"prefsmith {VERSION}")
        parser.exit()
