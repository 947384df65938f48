"""Bulk reindex: every row of a source embedded into a sink, once per id, whatever is killed meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedmq.bulk.sinks.folder.load import load_vectors

__all__ = ["load_vectors"]


def __getattr__(name: str) -> object:
    """Import what is asked for, so that the command line starts without NumPy."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from embedmq.bulk.sinks.folder import load

    return getattr(load, name)
