"""The house rules that a reader would otherwise have to check: floors, sizes, the public surface, a light start."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "gen" / "prefsmith"

FLOORS = {
    0: (
        "records",
        "outcomes",
        "reasons",
        "recipe",
        "endpoints",
        "errors",
        "shelf",
        "text",
        "progress",
        "version",
        "document",
        "origins",
        "merge",
        "prices",
    ),
    1: ("sources", "ledger"),
    2: ("backends", "limits", "lines", "lanes"),
    3: ("judging", "agreement", "gates", "pairing"),
    4: ("stages",),
    5: ("frontier", "purse", "abilities", "attempts", "engine", "session"),
    6: ("export", "report", "folder", "cost", "tally", "summary", "page", "explain", "recheck", "reread"),
    6.5: ("handoff", "held", "intake", "outlook", "job", "doctor", "evaluation", "benchmark"),
    7: ("cli", "api"),
    8: ("__init__", "__main__"),
}
FLOOR = {name: floor for floor, names in FLOORS.items() for name in names}
HEAVY = (
    "openai",
    "datasets",
    "pyarrow",
    "numpy",
    "torch",
    "vllm",
    "xllamacpp",
    "pydantic",
    "yaml",
    "sqlite3",
    "asyncio",
)


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(("prefsmith", *(parts[:-1] if parts[-1] == "__init__" else parts)))


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports_of(module: str) -> Iterator[str]:
    """The modules of ours that a module names, wherever in its text: at the top, in functions, for types alone."""
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "prefsmith")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            if node.module and node.module.split(".")[0] == "prefsmith":
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    yield whole if whole in MODULES else node.module


IMPORTS = {module: sorted(set(imports_of(module)) - {module}) for module in MODULES}


def top(module: str) -> str:
    """The part of the package that a module belongs to, as the floors name it."""
    if module == "prefsmith":
        return "__init__"
    return module.split(".")[1]


def test_every_module_has_a_floor() -> None:
    assert {top(module) for module in MODULES} <= set(FLOOR)


def test_a_module_imports_only_from_below_or_its_own_floor() -> None:
    upward = [
        f"{module} (floor {FLOOR[top(module)]}) imports {other} (floor {FLOOR[top(other)]})"
        for module, others in IMPORTS.items()
        for other in others
        if FLOOR[top(other)] > FLOOR[top(module)]
    ]
    assert upward == []


def test_packages_of_one_floor_do_not_import_each_other() -> None:
    packages = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    sideways = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        if top(module) != top(other)
        and {top(module), top(other)} <= packages
        and FLOOR[top(module)] == FLOOR[top(other)]
    ]
    assert sideways == []


def test_no_module_reaches_itself_through_its_imports() -> None:
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for other in IMPORTS[module]:
                visit(other, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def sources() -> list[Path]:
    return sorted(path for part in ("gen", "tests", "bench") for path in (ROOT / part).rglob("*.py"))


def n_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_no_file_is_longer_than_350_lines_and_the_engine_is_shorter_than_300() -> None:
    sizes = {path.relative_to(ROOT).as_posix(): n_lines(path) for path in sources()}
    assert {name: size for name, size in sizes.items() if size > 350} == {}
    assert sizes["gen/prefsmith/engine.py"] < 300


def test_no_function_is_longer_than_60_lines() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= 60
    ]
    assert long == []


def loaded_after(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter holds after `code`; what `code` prints goes nowhere."""
    script = (
        "import contextlib, io, sys\n"
        f"with contextlib.redirect_stdout(io.StringIO()):\n    {code}\n"
        "print(__import__('json').dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in json.loads(done.stdout)}


def test_the_public_surface_is_three_names() -> None:
    import prefsmith

    assert sorted(prefsmith.__all__) == ["Recipe", "Run", "run"]
    assert all(hasattr(prefsmith, name) for name in prefsmith.__all__)
    with pytest.raises(AttributeError):
        _ = prefsmith.Ledger  # type: ignore[attr-defined]


def test_importing_the_package_loads_nothing_heavy() -> None:
    assert loaded_after("import prefsmith") & set(HEAVY) == set()


def test_help_loads_nothing_heavy() -> None:
    loaded = loaded_after("from prefsmith.cli import main; main(['run', '--help'])")
    assert loaded & set(HEAVY) == set()
    assert "argparse" in loaded


def test_help_costs_less_than_half_a_second_of_cpu() -> None:
    def cpu_s() -> float:
        before = os.times()
        subprocess.run([sys.executable, "-m", "prefsmith", "--help"], capture_output=True, check=True)
        after = os.times()
        return after.children_user - before.children_user + after.children_system - before.children_system

    assert min(cpu_s() for _ in range(3)) < 0.5
