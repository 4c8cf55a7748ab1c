"""What each flag changes of a recipe; `flags` lays the changes over the recipe that its command begins from."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator

from prefsmith.errors import UsageError
from prefsmith.merge import parse_set, parse_value
from prefsmith.origins import Change, Draft
from prefsmith.recipe import GRADERS
from prefsmith.records import Json

PLACES = {
    "limit": "prompts.limit",
    "prompt": "prompts.prompt",
    "reference": "prompts.reference",
    "category": "prompts.category",
    "id": "prompts.id",
    "tools": "prompts.tools",
    "system_column": "prompts.system",
    "columns": "prompts.columns",
    "format": "prompts.format",
    "split": "prompts.split",
    "strategy": "pair.strategy",
    "min_margin": "pair.min_margin",
    "min_chosen": "pair.min_chosen",
    "to": "export",
    "seed": "seed",
    "grace": "grace_s",
    "budget": "budget",
    "prices": "prices",
    "probe": "probe",
}
_CELLS = {
    "temps": "temperature",
    "n": "n",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "max_tokens": "max_tokens",
    "system": "system",
}


def sampling(args: Namespace, draft: Draft) -> Iterator[Change]:
    rows = draft.tree.get("sample") or []
    if args.gen:
        if len(rows) > 1:
            raise UsageError(
                f"--gen: {draft.name} samples from {len(rows)} rows; "
                "change one of them with --set sample.0.model=TARGET:MODEL"
            )
        settings = rows[0] if rows and isinstance(rows[0], dict) else {}
        rows = [{**settings, "model": model} for model in args.gen]
        yield Change(("sample",), rows, "--gen")
    yield from cells(args, len(rows))


def cells(args: Namespace, n_rows: int) -> Iterator[Change]:
    for flag, value in given(args, _CELLS):
        if flag == "system":
            value = [text or None for text in value]
        for i in range(n_rows):
            yield Change(("sample", i, _CELLS[flag]), value, spelt(flag))


def judging(args: Namespace, draft: Draft) -> Iterator[Change]:
    rows = [row for row in draft.tree.get("judge") or [] if isinstance(row, dict)]
    judges, confirms = [r for r in rows if not r.get("confirm")], [r for r in rows if r.get("confirm")]
    origin = []
    if args.judge:
        judges = [{"use": name} for name in args.judge]
        origin.append("--judge")
    if args.confirm:
        # Named again it keeps its model and settings.
        confirms = [r for r in confirms if r["confirm"] == args.confirm] or [{"confirm": args.confirm}]
        origin.append("--confirm")
    rows = [*judges, *confirms]
    if args.judge_model:
        asking = [row for row in rows if not is_grader(str(row.get("use") or ""))]
        if not asking:
            raise UsageError("--judge-model: no judge of this run asks a model; name one with --judge")
        rows = [{**row, "model": args.judge_model} if row in asking else row for row in rows]
        origin.append("--judge-model")
    if origin:
        yield Change(("judge",), rows, " ".join(origin))


def is_grader(use: str) -> bool:
    return use in GRADERS or ".py:" in use


def plain(args: Namespace) -> Iterator[Change]:
    for flag, value in given(args, PLACES):
        if flag in ("min_margin", "min_chosen"):
            value = parse_value(value, spelt(flag))
        yield Change(tuple(PLACES[flag].split(".")), value, spelt(flag))


def endpoints(args: Namespace) -> Iterator[Change]:
    urls = args.endpoint or ()
    for name, url in urls:
        if [other for other, _ in urls].count(name) > 1:
            raise UsageError(f"--endpoint {name}: given twice; several URLs of a pool stand under `urls:` in a recipe")
        yield Change(("endpoints", name, "urls"), [url], f"--endpoint {name}")


def sets(args: Namespace) -> Iterator[Change]:
    yield from (parse_set(text) for text in args.set or ())


def given(args: Namespace, flags: Iterable[str]) -> Iterator[tuple[str, Json]]:
    for flag in flags:
        value = getattr(args, flag, None)
        if value is not None:
            yield flag, value


def spelt(flag: str) -> str:
    return "--" + flag.replace("_", "-")
