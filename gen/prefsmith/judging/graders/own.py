"""A user's own grader, FILE.py:NAME: `def grade(text, item) -> float | bool | None`, read here but never run here.

`item` is a fresh dict of the columns that the file's READS tuple names, or of all columns without one. What is hashed
is the file's bytes and NAME, so the same file in another folder is the same grader; modules that it imports are not in
the key. The source read here is what the worker runs, even when the file changes meanwhile. A file is the user's own
and trusted: it runs in a worker process with a time limit and without keys in its environment, not in a sandbox.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import symtable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from prefsmith.errors import UsageError, did_you_mean

SIGNATURE = "def {name}(text, item) -> float | bool | None"
_SPEC = re.compile(r"(?P<file>.+\.py):(?P<function>[^\W\d]\w*)")


@dataclass(frozen=True, slots=True)
class OwnGrader:
    """`content_hash` is over the file's bytes; `source` is their text; `reads` None means all columns."""

    path: Path
    function: str
    source: str
    content_hash: str
    reads: tuple[str, ...] | None


def is_own(use: str) -> bool:
    """The name means a file, be it written right or not."""
    return use.endswith(".py") or ".py:" in use


def load_own(use: str) -> OwnGrader:
    """Read FILE.py:NAME. Raises UsageError for a file or function that is missing or does not fit."""
    spec = _SPEC.fullmatch(use)
    if spec is None:
        raise UsageError(f"grader {use!r}: a grader of your own is written FILE.py:NAME, such as graders.py:grade")
    path, function = Path(spec["file"]), spec["function"]
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"grader {use!r}: cannot read {str(path)!r}: {error.strerror or error}") from None
    try:
        source = importlib.util.decode_source(content)
        tree = ast.parse(source, str(path))
        table = symtable.symtable(source, str(path), "exec")
    except (SyntaxError, ValueError, RecursionError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise UsageError(f"grader {use!r}: {str(path)!r}{line} is not Python: {error}") from None
    names = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    if function not in names:
        raise UsageError(f"grader {use!r}: {str(path)!r} has no function {function!r}; {did_you_mean(function, names)}")
    _check_signature(use, function, tree)
    content_hash = blake2b(content, digest_size=16).hexdigest()
    return OwnGrader(path.absolute(), function, source, content_hash, _reads(use, tree))


def _check_signature(use: str, function: str, tree: ast.Module) -> None:
    """What can be seen without running the file; a decorated, imported or computed function is taken as it is."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.AsyncFunctionDef) and node.name == function:
            kind = "a class" if isinstance(node, ast.ClassDef) else "async"
            raise UsageError(f"grader {use!r}: {function!r} is {kind}; expected `{SIGNATURE.format(name=function)}`")
        if isinstance(node, ast.FunctionDef) and node.name == function and not node.decorator_list:
            arguments = node.args
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Lambda) and _binds(node, function):
            arguments = node.value.args
        else:
            continue
        if not _takes_two(arguments):
            found = f"({ast.unparse(arguments)})"
            raise UsageError(
                f"grader {use!r}: {function!r} (line {node.lineno}) takes {found}; "
                f"expected `{SIGNATURE.format(name=function)}`"
            )


def _takes_two(arguments: ast.arguments) -> bool:
    positional = len(arguments.posonlyargs) + len(arguments.args)
    required = positional - len(arguments.defaults)
    named_only = sum(default is None for default in arguments.kw_defaults)
    return required <= 2 and (positional >= 2 or arguments.vararg is not None) and not named_only


def _binds(node: ast.Assign | ast.AnnAssign, name: str) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _reads(use: str, tree: ast.Module) -> tuple[str, ...] | None:
    """READS must stand there as plain text: it is part of a key, and keys are made without running the file."""
    reads: tuple[str, ...] | None = None
    for node in tree.body:
        if not isinstance(node, ast.Assign | ast.AnnAssign) or not _binds(node, "READS") or node.value is None:
            continue
        try:
            value = ast.literal_eval(node.value)
        except (ValueError, TypeError, SyntaxError):
            value = None
        if not isinstance(value, tuple | list) or not all(isinstance(name, str) for name in value):
            raise UsageError(
                f"grader {use!r}: READS (line {node.lineno}) must be a plain tuple of column names, "
                f'such as READS = ("check",); got {ast.unparse(node.value)}'
            )
        reads = tuple(sorted(set(value)))
    return reads
