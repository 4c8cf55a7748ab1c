"""A marker that is asked for with its package missing fails its tests: a skip would read as a pass."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

NEEDS = {
    "trainers": (("torch", "trl"), "pip install -e '.[trainers]'"),
    "vllm": (("vllm",), "pip install -e '.[vllm]'"),
}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker, (packages, remedy) in NEEDS.items():
        missing = [name for name in packages if find_spec(name) is None]
        if missing and item.get_closest_marker(marker):
            pytest.fail(f"marked {marker!r}, but {' and '.join(missing)} cannot be imported: {remedy}", pytrace=False)
