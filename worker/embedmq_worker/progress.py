"""How far may a partition be committed? Pure."""

from __future__ import annotations

from typing import Final, Literal, Protocol

from embedmq_schemas.envelope import Record

from embedmq_worker.past import Mark, Marks, Past

Reason = Literal["model", "due", "alone", "ahead", "paused", "leaving"]
"""Why no more is read of a partition for a while."""

MAX_AHEAD: Final = 100_000
"""Most records of a partition that are complete above its commit: as many are remembered, and no more is read then."""


class Fetched(Protocol):
    """A record as the Kafka client hands it out."""

    @property
    def offset(self) -> int: ...

    @property
    def timestamp(self) -> int: ...

    @property
    def value(self) -> bytes | None: ...


class Progress:
    """One partition during one assignment: the offsets that were read, and those among them that are complete.

    Completion comes in any order; `committable` is the offset below which everything is complete. Offsets are sparse
    (compaction and transactions leave gaps), so the next offset is that of the next record seen, never "plus one" of a
    record that is still open. After a rebalance the partition gets a new `Progress`; what an old one still completes
    commits nothing by itself, but counts for the new one where both mean the same record.
    """

    __slots__ = (
        "_committed",
        "_complete",
        "_due",
        "_open",
        "_past",
        "_reasons",
        "_seen",
        "partition",
        "revoked",
        "topic",
    )

    def __init__(self, topic: str, partition: int, past: Past | None = None) -> None:
        self.topic = topic
        self.partition = partition
        self.revoked = False
        self._past = past or Past()
        self._open: dict[int, Mark] = {}  # in order of offsets
        self._complete: dict[int, Mark] = {}  # above the commit
        self._seen = -1
        self._committed: int | None = None
        self._due: int | None = None
        self._reasons: set[Reason] = set()

    def start(self, record: Fetched) -> bool:
        """A record was read; records of one partition are read in order, or from an earlier one on anew. False: it was
        completed before, or the partition is another worker's now, so it is not to be computed here.
        """
        if self.revoked:
            return False
        offset = record.offset
        mark = (record.timestamp, hash(record.value))
        if offset <= self._seen:
            self._rewind(offset, mark)
        self._seen = offset
        if self._past.known and self._past.meet(offset, mark):
            self._complete[offset] = mark
            return False
        self._open[offset] = mark
        return True

    def complete(self, record: Record) -> None:
        """A record's outcome was acknowledged."""
        offset = record.offset
        mark = (record.timestamp_ms, hash(record.value))
        if self._open.get(offset) != mark:
            return  # an earlier assignment's job was faster, or the topic was made anew meanwhile
        del self._open[offset]
        if self.revoked:
            self._past.complete_late(offset, mark)
            return
        self._complete[offset] = mark
        if len(self._complete) >= MAX_AHEAD:
            self.hold("ahead")

    def committable(self) -> int | None:
        """The next offset to commit; None when nothing is new."""
        if self._seen < 0 or self.revoked:
            return None
        offset = next(iter(self._open), self._seen + 1)
        return offset if offset != self._committed else None

    def committed(self, offset: int) -> None:
        """Kafka acknowledged a commit."""
        self._committed = offset
        self._complete = above(offset, self._complete)
        self._past.committed(offset)
        if len(self._complete) < MAX_AHEAD:
            self.release("ahead")

    def hold(self, reason: Reason) -> None:
        """Have no more read of it, for this reason among others."""
        self._reasons.add(reason)

    def release(self, reason: Reason) -> None:
        """This reason is none any more."""
        self._reasons.discard(reason)

    def defer(self, offset: int) -> None:
        """Hold it until the record at an offset, which was handed out too early, is due."""
        self._due = offset
        self.hold("due")

    def is_due(self, offset: int) -> bool:
        """Whether a record was deferred, and the time for it has come, whatever a clock on the wall says."""
        return offset == self._due and "due" not in self._reasons

    @property
    def held(self) -> bool:
        """Whether there is any reason to read no more of it."""
        return bool(self._reasons)

    @property
    def reached(self) -> int | None:
        """The offset after the last record read; None before the first."""
        return None if self._seen < 0 else self._seen + 1

    @property
    def next(self) -> int | None:
        """The offset after the last record read, or before the first where it was committed that reading begins."""
        return self._committed if self._seen < 0 else self._seen + 1

    @property
    def open(self) -> int:
        """How many records are read and not complete."""
        return len(self._open)

    @property
    def oldest_unix_ms(self) -> int | None:
        """The timestamp of the first record that is read and not complete."""
        return next((timestamp for timestamp, _ in self._open.values()), None)

    def revoke(self, now_s: float) -> None:
        """The partition is taken away."""
        self.revoked = True
        self._past.keep(self._complete, self._open, now_s)
        self._complete = {}

    def complete_for(self, offset: int, mark: Mark) -> bool:
        """A job of an earlier assignment was completed; whether this one has been there already."""
        if self._open.get(offset) == mark:
            del self._open[offset]
            self._complete[offset] = mark
        return offset <= self._seen

    def _rewind(self, offset: int, mark: Mark) -> None:
        """From here on the log is read anew. What is open below is still under way; what is known of the rest holds
        only if it is the same log.
        """
        same = mark in (self._open.get(offset), self._complete.get(offset))
        self._past.rewind(above(offset, self._complete) if same else None)
        self._committed = None
        self._complete = below(offset, self._complete)
        self._open = below(offset, self._open)


def above(offset: int, marks: Marks) -> dict[int, Mark]:
    """Those from an offset on."""
    return {at: mark for at, mark in marks.items() if at >= offset}


def below(offset: int, marks: Marks) -> dict[int, Mark]:
    """Those before an offset."""
    return {at: mark for at, mark in marks.items() if at < offset}
