"""How far may a partition be committed? Pure."""

from __future__ import annotations

from collections import deque


class Progress:
    """One partition during one assignment: the offsets that were read, and those among them that are complete.

    Completion comes in any order; `committable` is the offset below which everything is complete. Offsets are sparse
    (compaction and transactions leave gaps), so the next offset is that of the next record seen, never "plus one" of a
    record that is still open. After a rebalance the partition gets a new `Progress`; what an old one still completes is
    delivered but commits nothing. While it is `held`, no more is read of it: what it brings waits for its model.
    """

    __slots__ = ("_committed", "_complete", "_open", "_seen", "held", "partition", "revoked", "topic")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.revoked = False
        self.held = False
        self._open: deque[int] = deque()
        self._complete: set[int] = set()
        self._seen: int | None = None
        self._committed: int | None = None

    def start(self, offset: int) -> None:
        """A record was read; records of one partition are read in order."""
        self._open.append(offset)
        self._seen = offset

    def complete(self, offset: int) -> None:
        """A record's outcome was acknowledged."""
        self._complete.add(offset)
        while self._open and self._open[0] in self._complete:
            self._complete.discard(self._open.popleft())

    def committable(self) -> int | None:
        """The next offset to commit; None when nothing is new."""
        if self._seen is None or self.revoked:
            return None
        offset = self._open[0] if self._open else self._seen + 1
        return offset if offset != self._committed else None

    def committed(self, offset: int) -> None:
        """Kafka acknowledged a commit."""
        self._committed = offset

    @property
    def reached(self) -> int | None:
        """The offset after the last record read; None before the first."""
        return None if self._seen is None else self._seen + 1

    @property
    def open(self) -> int:
        """How many records are read and not complete."""
        return len(self._open)
