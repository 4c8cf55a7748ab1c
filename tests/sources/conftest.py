from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefsmith.recipe import Prompts
from prefsmith.records import Row
from prefsmith.sources import CONTROL_TOKENS, open_source

Read = Callable[..., list[Row]]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """read(content, name="x.jsonl", **prompts) -> rows of a file with that content; bytes, text or a list of lines."""

    def rows(content: bytes | str | list[str], name: str = "x.jsonl", **prompts: Any) -> list[Row]:
        if isinstance(content, list):
            content = "".join(line + "\n" for line in content)
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        source = open_source(Prompts(path=str(tmp_path / name), **prompts), CONTROL_TOKENS)
        found = list(source.rows())
        assert list(source.rows()) == found, "a source may be read any number of times"
        source.close()
        return found

    return rows
