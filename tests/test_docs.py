"""The pages say what is true today."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from shutil import copy

import pytest

from prefsmith.cli import main
from prefsmith.judging.load import judge_names

ROOT = Path(__file__).parent.parent


def test_the_recipe_page_is_what_the_recipe_says() -> None:
    spec = importlib.util.spec_from_file_location("recipe_page", ROOT / "tests" / "recipe_page.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "recipe.md").read_text() == module.page()


def test_every_file_that_a_page_links_is_there() -> None:
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")]
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links {target}"


def test_every_flag_in_the_readme_exists() -> None:
    from prefsmith.cli.parser import _parsers

    text = (ROOT / "README.md").read_text()
    known = {flag for sub in _parsers()[1].values() for flag in re.findall(r"--[a-z][a-z-]*", sub.format_help())}
    foreign = {"--model_name_or_path", "--dataset_name", "--max_length", "--output_dir"}
    used = set(re.findall(r"--[a-z][a-z_-]*", text)) - foreign
    assert used and used <= known, sorted(used - known)


def test_the_judges_page_names_every_judge_of_the_shelf() -> None:
    page = (ROOT / "docs" / "judges.md").read_text("utf-8")
    assert [name for name in judge_names() if f"`{name}`" not in page] == []
    assert f"{len(judge_names())} judges" in (ROOT / "README.md").read_text("utf-8")


def test_every_recipe_in_the_readme_plans_as_it_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("prompts.jsonl").write_text('{"question": "What is 2 + 2?", "answer": "4"}\n')
    copy(ROOT / "tests" / "data" / "tls" / "ca.pem", "corporate-ca.pem")
    recipes = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert len(recipes) == 2
    for text in recipes:
        Path("recipe.yaml").write_text(text, "utf-8")
        # What only shows `endpoints:` has its models and prompts from the command line.
        words = () if "sample:" in text else ("--gen", "cloud:a", "--gen", "inside:b", "--judge", "number")
        given = () if "prompts:" in text else ("--set", "prompts.path=prompts.jsonl", "--prompt", "question")
        assert main(["plan", "recipe.yaml", *words, *given]) == 0, text
