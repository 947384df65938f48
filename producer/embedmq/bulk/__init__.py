"""Bulk reindex: every row of a source embedded into a sink, once per id, whatever is killed meanwhile."""

from __future__ import annotations

from embedmq.bulk.sinks.folder.load import load_vectors

__all__ = ["load_vectors"]
