"""Where the data that ships with prefsmith lies: judges, prompts, demo sets, the bundled model.

Installed, a shelf is a folder inside the package; in a checkout, `judges/` and `prompts/` stand beside `gen/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).resolve().parent


def shelf(name: Literal["judges", "prompts", "data"]) -> Path:
    """The folder of that name. Raises FileNotFoundError when the installation is not whole."""
    for place in (_PACKAGE / name, _PACKAGE.parent.parent / name):
        if place.is_dir():
            return place
    raise FileNotFoundError(f"{name}/ is missing from this installation of prefsmith ({_PACKAGE})")
