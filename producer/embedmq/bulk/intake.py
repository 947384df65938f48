"""Which rows does a sink take?"""

from __future__ import annotations

from collections.abc import Sequence

from embedmq.bulk.embedding import flaw_of, stack
from embedmq.bulk.errors import SinkRefused, ValueRefused
from embedmq.bulk.ports import Sink
from embedmq.bulk.rows import Flaw, Vectors
from embedmq.bulk.selection import Chosen
from embedmq.bulk.threads import Alone

MISFITS = 8
"""Rows that a sink may refuse before it has taken any: more, and it is the job that does not fit."""
REFUSED = "refused_by_sink"


class Intake:
    """Gives rows to a sink, in its thread, and finds out which it cannot hold."""

    def __init__(self, writing: Alone, sink: Sink) -> None:
        self._writing = writing
        self._sink = sink
        self._taken = False

    async def put(self, vectors: Vectors, chosen: Sequence[Chosen]) -> list[Flaw]:
        """Write rows, less those that the sink cannot hold; returns these. Raises SinkRefused, Away."""
        flaws: list[Flaw] = []
        while len(vectors):
            try:
                await self._writing.call(self._sink.write, vectors)
            except ValueRefused as error:
                if len(flaws) >= MISFITS and not self._taken:
                    raise SinkRefused(f"{error}; so it is with the first {MISFITS} rows") from error
                self._writing.failed = False  # nothing is lost
                bad = vectors.ids[error.row]
                flaws += [flaw_of(each, REFUSED, str(error)) for each in chosen if each.row.id == bad]
                rest = [vectors.part(0, error.row), vectors.part(error.row + 1, len(vectors))]
                vectors = stack([part for part in rest if len(part)]) or vectors.part(0, 0)
            else:
                self._taken = True
                break
        return flaws
