"""The one merge: defaults, then the recipe file, then flags, then `--set`; what comes later holds.

`merge` lays changes over a draft and makes the `Recipe`, or one UsageError that lists every problem with its place.
Nothing here knows what a flag is
called: flags arrive as changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from prefsmith.document import parse
from prefsmith.errors import Place, UsageError, did_you_mean, dotted
from prefsmith.origins import Change, Draft, Origins
from prefsmith.recipe import Recipe
from prefsmith.records import Json


def read_recipe(path: Path) -> Draft:
    """The draft of a YAML file; its paths are taken from the file's folder where they exist there.

    Raises UsageError for a file that cannot be read, YAML that is none, a key written twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"no recipe {str(path)!r} (looked from {str(Path.cwd())!r})") from None
    except (IsADirectoryError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a UTF-8 text file: {error}") from error
    document = parse(text, str(path))
    tree = {} if document.value is None else document.value
    if not isinstance(tree, dict):
        raise UsageError(f"{path}: a recipe is a mapping with keys such as prompts, sample, judge; got {_shown(tree)}")
    draft = Draft(_listed(tree), str(path), document)
    _place_beside(path.parent, draft.tree)
    return draft


def draft_of(tree: Mapping[str, Json], name: str, *, resolved: bool = False) -> Draft:
    """The draft of a tree that is no file: the demo, a run's last recipe, or an empty one."""
    return Draft(_listed(deepcopy(dict(tree))), name, resolved=resolved)


def parse_set(text: str) -> Change:
    """One `a.b.0.c=VALUE`, VALUE read as YAML. Raises UsageError."""
    left, equals, right = text.partition("=")
    steps = left.strip().split(".")
    if not equals or not all(steps):
        raise UsageError(f"--set {text!r}: expected PLACE=VALUE, such as sample.0.n=4 or pair.min_margin=0.2")
    place = tuple(int(step) if step.isdecimal() else step for step in steps)
    return Change(place, parse_value(right, f"--set {text!r}"), f"--set {text}")


def parse_value(text: str, origin: str) -> Json:
    """A YAML value: 4, 0.5, true, null, a text, [0.2, 0.7]. Raises UsageError."""
    return parse(text, origin).value


def merge(draft: Draft, changes: Iterable[Change] = ()) -> Recipe:
    """Lay the changes over the draft, in order, and check the whole. Raises one UsageError for all problems."""
    changes = list(changes)
    tree = deepcopy(draft.tree)
    problems: list[str] = []
    origins = Origins(draft, tuple(changes))
    for change in changes:
        try:
            _put(tree, change)
        except UsageError as error:
            problems.append(f"{change.origin}: {error}")
    tree = _listed(tree)
    if not draft.resolved:
        problems += _read_systems(tree, origins)
    try:
        # JSON in strict mode: "4" is no number and true is not 1, while a path may still be written as a text.
        recipe = Recipe.model_validate_json(json.dumps(tree, allow_nan=False), strict=True)
    except ValidationError as error:
        problems += _problems(error, tree, origins)
    except (TypeError, ValueError) as error:
        problems.append(f"{draft.name}: only plain and finite values can stand in a recipe: {error}")
    if problems:
        head = "" if len(problems) == 1 else f"{len(problems)} problems in the recipe:\n  "
        raise UsageError(head + "\n  ".join(problems))
    return recipe


def _listed(tree: dict[str, Json]) -> dict[str, Json]:
    """`sample:` and `judge:` as lists of mappings, however short they were written: changes need one shape. A path is
    short for the prompts in it."""
    if isinstance(path := tree.get("prompts"), str):
        tree["prompts"] = {"path": path}
    for key in ("sample", "judge"):
        rows = tree.get(key)
        if rows is not None and not isinstance(rows, list):
            tree[key] = rows = [rows]
        if key == "judge" and rows:
            tree[key] = [{"use": row} if isinstance(row, str) else row for row in rows]
    return tree


def _place_beside(folder: Path, tree: dict[str, Json]) -> None:
    """Take prompts, prices, system texts and judges from the recipe's own folder where they exist there."""

    def beside(value: Json) -> Json:
        if not isinstance(value, str) or "\n" in value or not value:
            return value
        file = re.sub(r"(\.py):\w+\Z", r"\1", value)
        return str(folder / file) + value[len(file) :] if _exists(folder / file) else value

    prompts = tree.get("prompts")
    if isinstance(prompts, dict) and "path" in prompts:
        prompts["path"] = beside(prompts["path"])
    if "prices" in tree:
        tree["prices"] = beside(tree["prices"])
    for row in _mappings(tree.get("sample")):
        texts = row.get("system")
        if isinstance(texts, list):
            row["system"] = [beside(t) if _is_text_file(t) else t for t in texts]
        elif _is_text_file(texts):
            row["system"] = beside(texts)
    _place_judges(tree.get("judge"), beside)


def _place_judges(rows: Json, beside: Callable[[Json], Json]) -> None:
    for row in _mappings(rows):
        for key in ("use", "confirm"):
            if re.search(r"\.toml\Z|\.py:\w+\Z", str(row.get(key, ""))):
                row[key] = beside(row[key])
        for key in ("panel", "cascade"):
            if isinstance(members := row.get(key), list):
                row[key] = [{"use": one} if isinstance(one, str) else one for one in members]
                _place_judges(row[key], beside)


def _mappings(rows: Json) -> list[dict[str, Json]]:
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a text too long for a file name is none
        return False


def _is_text_file(value: Json) -> bool:
    return isinstance(value, str) and value.endswith((".txt", ".md")) and "\n" not in value


def _read_systems(tree: dict[str, Json], origins: Origins) -> list[str]:
    """Put each system file's text in the place of its path; returns the problems."""
    problems: list[str] = []

    def read(value: Json, *place: str | int) -> Json:
        if not _is_text_file(value):
            return value
        where = f"{origins.of(place)}: {dotted(place)}: system prompt file {value!r}"
        try:
            text = Path(value).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            problems.append(f"{where} cannot be read: {error.strerror if isinstance(error, OSError) else error}")
            return value
        if not text:
            problems.append(f"{where} is empty; null stands for no system prompt")
        return text

    for i, row in enumerate(_mappings(tree.get("sample"))):
        texts = row.get("system")
        place = ("sample", i, "system")
        if isinstance(texts, list):
            row["system"] = [read(text, *place, j) for j, text in enumerate(texts)]
        elif texts is not None:
            row["system"] = read(texts, *place)
    return problems


def _put(tree: dict[str, Json], change: Change) -> None:
    """Set one value, making the containers on the way. Raises UsageError for a step that leads nowhere."""
    at: Json = tree
    for depth, step in enumerate(change.place):
        last = depth == len(change.place) - 1
        if isinstance(at, dict):
            key: str | int = str(step)
        elif isinstance(at, list):
            key = _index(at, step, change.place[:depth])
        else:
            raise UsageError(f"{dotted(change.place[:depth])} is {_shown(at)}, which has no part {step!r}")
        if isinstance(at, list) and key == len(at):
            at.append(None)
        if last:
            at[key] = change.value
        elif (at.get(key) if isinstance(at, dict) else at[key]) is None:
            at[key] = [] if isinstance(change.place[depth + 1], int) else {}
        at = at[key]


def _index(rows: list[Json], step: str | int, place: Place) -> int:
    if isinstance(step, int) and step <= len(rows):
        return step
    word = "entry" if len(rows) == 1 else "entries"
    raise UsageError(
        f"{dotted(place)} is a list of {len(rows)} {word}, counted from 0; got {step!r}, "
        f"expected a number such as {dotted((*place, 0))}"
    )


def _problems(error: ValidationError, tree: Json, origins: Origins) -> list[str]:
    said: dict[str, str] = {}
    for one in error.errors(include_url=False):
        blamed = getattr(one.get("ctx", {}).get("error"), "place", ())
        place = _real_place((*one["loc"], *blamed), tree, one["type"] == "missing")
        text = _what(one["type"], one["msg"], one["input"], one.get("ctx", {}), place)
        where = f"{origins.of(place)}: {dotted(place)}".removesuffix(": ")
        # A union reports each of its branches; they are one problem.
        first = said.get(where)
        said[where] = text if first is None else f"{first} or {text.rpartition(', expected ')[2]}"
    return [f"{where}: {text}" for where, text in said.items()]


def _real_place(loc: Place, tree: Json, missing: bool) -> Place:
    """Pydantic's location without the steps that the user's tree does not have."""
    at, place = tree, []
    for i, step in enumerate(loc):
        there = (
            step in at if isinstance(at, dict) else isinstance(at, list) and isinstance(step, int) and step < len(at)
        )
        if there:
            at = at[step]
        if there or (missing and i == len(loc) - 1):
            place.append(step)
    return tuple(place)


def _what(kind: str, message: str, got: Json, context: Mapping[str, Json], place: Place) -> str:
    model = _model_at(place)
    if kind == "extra_forbidden":
        owner = _model_at(place[:-1])
        return f"unknown key; {did_you_mean(str(place[-1]), owner.model_fields if owner else ())}"
    if kind == "missing":
        owner = _model_at(place[:-1])
        described = owner.model_fields[str(place[-1])].description if owner else None
        return f"missing; {' '.join(described.split())}" if described else "missing"
    if kind == "value_error":
        return str(context["error"])
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", str(context["expected"]))
        return f"got {_shown(got)}; {did_you_mean(str(got), known)}"
    if kind == "model_type" and model is not None:
        return f"got {_shown(got)}, expected a mapping with {', '.join(sorted(model.model_fields))}"
    return f"got {_shown(got)}, expected {message.removeprefix('Input should be ')}"


def _model_at(place: Place) -> type[BaseModel] | None:
    model: type[BaseModel] | None = Recipe
    for step in place:
        if model is not None and step in model.model_fields:
            model = _model_in(model.model_fields[str(step)].annotation)
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part))), None)


def _shown(value: Json) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
