"""The wheel, built once, in an environment of its own: what a user installs is whole and works outside a checkout."""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parent.parent


def ran(words: Sequence[str | Path], folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    ran([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT], out)
    (built,) = out.glob("prefsmith-*.whl")
    return built


@pytest.fixture(scope="module")
def command(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`prefsmith` of a fresh environment that has the wheel and, through a path file, the packages of this one.

    Path files inside a folder added that way are not read, so an editable install here does not shine through.
    """
    place = tmp_path_factory.mktemp("fresh")
    venv.create(place, with_pip=False)
    python = place / "bin" / "python"
    ran([sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel], place)
    (site,) = place.glob("lib/python*/site-packages")
    (site / "packages.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("-packages")))
    where = ran([python, "-c", "import prefsmith; print(prefsmith.__file__)"], place)
    assert Path(where.strip()).is_relative_to(site)
    return place / "bin" / "prefsmith"


def test_the_wheel_holds_every_file_of_the_package_and_its_shelves(wheel: Path) -> None:
    held = {name for name in ZipFile(wheel).namelist() if name.startswith("prefsmith/")}
    inside = {path.relative_to(ROOT / "gen").as_posix(): path for path in (ROOT / "gen" / "prefsmith").rglob("*")}
    for shelf in ("judges", "prompts"):
        files = list((ROOT / shelf).glob("*.*"))
        assert files, f"{shelf}/ is empty"
        inside |= {f"prefsmith/{shelf}/{path.name}": path for path in files}
    wanted = {name for name, path in inside.items() if path.is_file() and "__pycache__" not in name}
    assert {"prefsmith/py.typed", "prefsmith/ledger/schema.sql"} <= wanted
    assert any(name.startswith("prefsmith/data/") for name in wanted)
    assert wanted - held == set()
    assert held - wanted == set()


def test_the_installed_command_says_its_version_and_its_flags(command: Path, tmp_path: Path) -> None:
    assert ran([command, "--version"], tmp_path).startswith("prefsmith ")
    assert "--judge-model" in ran([command, "run", "--help"], tmp_path)


def test_the_installed_command_finds_its_shelves_outside_a_checkout(command: Path, tmp_path: Path) -> None:
    asked = [command, "run", "p.jsonl", "--gen", "scripted:fake"]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    shipped = [path.stem for path in (ROOT / "judges").glob("*.toml")]
    assert shipped
    assert all(name in done.stderr for name in shipped)


def test_the_installed_command_makes_pairs_outside_a_checkout(command: Path, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("".join(f"Say something about {n}.\n" for n in range(40)))
    words = [command, "run", "prompts.txt", "--gen", "scripted:fake", "--n", "4", "--judge", "contains"]
    ran([*words, "--set", "judge.0.text=quality=9", "--to", "trl,openai", "-o", "out"], tmp_path)
    assert (tmp_path / "out" / "ledger.db").is_file()
    for name in ("trl", "openai"):
        assert any(path.read_text().strip() for path in (tmp_path / "out" / "export" / name).glob("*.jsonl"))
