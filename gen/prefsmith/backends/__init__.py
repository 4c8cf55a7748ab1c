"""Backends: everything that can answer a Request, behind one verb. `resolve` finds the one that a model names."""

from prefsmith.backends.targets import Identity, Member, Resolved, resolve

__all__ = ["Identity", "Member", "Resolved", "resolve"]
