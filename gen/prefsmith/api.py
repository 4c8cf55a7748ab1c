"""prefsmith from Python: run a recipe, get its pairs as a data set and its records one by one."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from prefsmith.errors import BUDGET_REACHED, BudgetReached, ProviderError
from prefsmith.export import write
from prefsmith.folder import Folder
from prefsmith.job import run_job
from prefsmith.outcomes import Record
from prefsmith.recipe import Recipe, run_folder

if TYPE_CHECKING:
    from datasets import Dataset


class Run:
    """A finished run: what its folder holds under the recipe that it ran last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"Run({str(self._folder)!r})"

    def pairs(self) -> Dataset:
        """The pairs as TRL reads them: id, prompt, chosen, rejected (message lists), scores, margin, reference."""
        import pyarrow.parquet as pq
        from datasets import Dataset

        with Folder(self._folder) as folder, TemporaryDirectory(prefix="prefsmith-") as scratch:
            (written,) = write(folder.records(), ["trl-parquet"], Path(scratch), folder.naming())
            return Dataset(pq.read_table(written.path))

    def records(self) -> Iterator[Record]:
        """Every item with its completions, scores, gates and pairs, or the reason why it has no pair."""
        with Folder(self._folder) as folder:
            yield from folder.records()


def run(recipe: Recipe, folder: str | Path | None = None) -> Run:
    """Carry a recipe out, or go on with it, in `folder` (by default runs/ and the prompts' name).

    Works inside a running event loop, in a thread of its own. Raises PrefsmithError: ProviderError when calls are still
    owed, BudgetReached when the budget is used up; KeyboardInterrupt when it was interrupted.
    """
    place = Path(folder) if folder is not None else run_folder(recipe.prompts.path)
    if not _in_a_loop():
        code = _carried_out(recipe, place)
    else:
        with ThreadPoolExecutor(1) as pool:
            code = pool.submit(_carried_out, recipe, place).result()
    if code == ProviderError.exit_code:
        raise ProviderError(f"calls are still owed in {place}; run again to go on")
    if code == BUDGET_REACHED:
        raise BudgetReached(f"the budget of {place} is reached; run again with a larger one to go on")
    if code:
        raise KeyboardInterrupt
    return Run(place)


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _carried_out(recipe: Recipe, folder: Path) -> int:
    return run_job(recipe, folder, say=lambda remark: print(remark, file=sys.stderr))
