"""Bulk reindex: every row of a source embedded into a sink, once per id, whatever is killed meanwhile."""
