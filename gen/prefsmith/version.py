"""The version, from the installed package's metadata: pyproject.toml is the one place that names it."""

from __future__ import annotations

from importlib.metadata import version

VERSION = version("prefsmith")
