"""Did Kafka's retention remove records before they were read, and how close is it to those that wait?"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from embedmq_schemas.names import Reader

from embedmq_worker.lag import Stand
from embedmq_worker.metrics import Metrics
from embedmq_worker.partitions import Partitions
from embedmq_worker.polling import Read
from embedmq_worker.progress import Progress

LOOK_S: Final = 5.0
"""How often the age of what waits is looked at."""
ANSWER_S: Final = 5.0
"""How long Kafka may take to say where partitions end."""
WARN_S: Final = 60.0
"""How often, at most, the log warns of it."""
NEAR: Final = 0.5
"""Part of the retention from which on it does."""
ASK_S: Final = 1.0
"""How often, at most, Kafka is asked where partitions begin: transactions leave a gap each."""

Gap = tuple[int, int]
"""From the offset that should have come next up to the one that came."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Place:
    """Where the reading of one partition began in this assignment, what comes next, and when the last was sent."""

    start: int
    next: int
    read_unix_ms: int | None = None


@dataclass(slots=True)
class End:
    """Where one partition ended when Kafka was last asked, and when nothing of it was unread."""

    offset: int = 0
    reached_unix_ms: float | None = None


class Retention:
    """Watches what one reader reads. Missing offsets tell of retention only where the partition begins behind them:
    else they are gaps, as compaction and transactions leave them.
    """

    def __init__(
        self, consumer: AIOKafkaConsumer, partitions: Partitions, reader: Reader, metrics: Metrics, retention_ms: int
    ) -> None:
        self._consumer = consumer
        self._partitions = partitions
        self._reader = reader
        self._metrics = metrics
        self._retention_ms = retention_ms
        self._places: dict[TopicPartition, Place] = {}
        self._gaps: dict[TopicPartition, list[Gap]] = {}
        self._ends: dict[TopicPartition, End] = {}
        self._assigned_unix_ms = 0.0
        self._found = asyncio.Event()
        self._warned_s = float("-inf")
        self._silent_since_s: float | None = None

    @property
    def silent_s(self) -> float:
        """For how long Kafka has not said where partitions end; 0 while it does. May be read from any thread."""
        since_s = self._silent_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def assigned(self) -> None:
        """Reading begins anew, at the commits."""
        self._places, self._ends = {}, {}
        self._assigned_unix_ms = time.time() * 1000

    def stands(self) -> list[Stand]:
        """How much of each partition waits, and since when. May be asked at any time."""
        return [self._stand(tp, progress) for tp, progress in self._partitions.ours.items()]

    def lost_before(self, tp: TopicPartition, commit: int | None, beginning: int) -> int:
        """How many records (gaps between them included) were removed between the group's commit and the first one that
        was read, or can be.
        """
        if commit is None:
            return 0
        first = max(commit, beginning)
        place = self._places.setdefault(tp, Place(first, first))
        if place.start < commit:
            self._rewound(tp, commit, place.start)
        return max(0, min(beginning, place.start) - commit)

    def report(self, lost: Mapping[TopicPartition, int]) -> None:
        """Raise the alarm: this is the one loss that Kafka itself decides."""
        for tp, count in lost.items():
            if count:
                self._metrics.count("records_lost_total", count, self._reader)
                log.error("records_lost", extra={"topic": tp.topic, "partition": tp.partition, "records": count})

    def read(self, reads: Sequence[Read]) -> None:
        """Records were handed out."""
        for progress, batch in groupby(reads, itemgetter(0)):
            first, *rest = (record for _, record in batch)
            self._read(progress, first, (rest or [first])[-1].offset + 1)

    async def watch(self) -> None:
        """Look after both until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._found.wait(), LOOK_S)
            self._found.clear()
            self._look(time.time() * 1000)
            await self._ask_ends()
            if self._gaps:
                await self._ask()
                await asyncio.sleep(ASK_S)

    def _read(self, progress: Progress, first: ConsumerRecord, next: int) -> None:
        tp, offset = TopicPartition(progress.topic, progress.partition), first.offset
        place = self._places.setdefault(tp, Place(offset, offset))
        floor = place.start if progress.reached is None else progress.reached
        if offset < floor:
            self._rewound(tp, floor, offset)
            place.start = place.next = offset
        elif offset > place.next:
            self._gaps.setdefault(tp, []).append((place.next, offset))
            self._found.set()
        # what was put back comes twice, and is no news
        place.next, place.read_unix_ms = max(place.next, next), first.timestamp

    async def _ask(self) -> None:
        """Count those of the missing offsets that lie before the beginnings of their partitions."""
        asked, self._gaps = self._gaps, {}
        try:
            beginnings: dict[TopicPartition, int] = await self._consumer.beginning_offsets(asked)
        except KafkaError:  # asked again, unless it is another one's business now
            self._gaps = {tp: gaps + self._gaps.get(tp, []) for tp, gaps in asked.items() if tp in self._places}
            return
        self.report({tp: sum(removed(gap, beginnings[tp]) for gap in gaps) for tp, gaps in asked.items()})

    def _look(self, now_unix_ms: float) -> None:
        """Measure the age of the oldest record that waits, here or in Kafka, and warn when it may be removed soon."""
        ages: dict[TopicPartition, float] = {}
        for tp, progress in self._partitions.ours.items():
            stand = self._stand(tp, progress)
            if not stand.unread:
                self._ends.setdefault(tp, End()).reached_unix_ms = now_unix_ms
            ages[tp] = 0.0 if stand.oldest_unix_ms is None else max(0.0, now_unix_ms - stand.oldest_unix_ms)
        tp = max(ages, key=ages.__getitem__, default=None)
        age_ms = ages[tp] if tp else 0.0
        self._metrics.set("oldest_record_seconds", age_ms / 1000, self._reader)
        self._metrics.set("retention_left_seconds", (self._retention_ms - age_ms) / 1000, self._reader)
        now_s = time.monotonic()
        if tp and age_ms > self._retention_ms * NEAR and now_s - self._warned_s >= WARN_S:
            self._warned_s = now_s
            of = {"reader": self._reader, "topic": tp.topic, "partition": tp.partition}
            log.warning("retention_near", extra={**of, "age_s": round(age_ms / 1000)})

    def _stand(self, tp: TopicPartition, progress: Progress) -> Stand:
        """By what was fetched last, or by what Kafka was asked: nothing is fetched of a partition while it is held."""
        place, end = self._places.get(tp), self._ends.get(tp)
        next = place.start if progress.next is None and place is not None else progress.next
        ends: list[int | None] = [self._consumer.highwater(tp), end.offset if end is not None else None]
        known = max((offset for offset in ends if offset is not None), default=0)
        unread = 0 if next is None else max(0, known - next)
        oldest_unix_ms: float | None = progress.oldest_unix_ms
        if oldest_unix_ms is None and unread:
            oldest_unix_ms = self._unread_since_unix_ms(place, end)
        if oldest_unix_ms is not None and oldest_unix_ms <= 0:  # the producer said none
            oldest_unix_ms = self._assigned_unix_ms
        return Stand(tp.topic, unread, progress.open, oldest_unix_ms)

    def _unread_since_unix_ms(self, place: Place | None, end: End | None) -> float:
        """What is unread was sent after what was read last, and came after there was nothing unread. Where neither was
        seen yet, it waits since the assignment at least.
        """
        read = place.read_unix_ms if place is not None else None
        reached = end.reached_unix_ms if end is not None else None
        after = [moment for moment in (read, reached) if moment is not None and moment > 0]
        return max(after, default=self._assigned_unix_ms)

    async def _ask_ends(self) -> None:
        """Ask Kafka where partitions end of which something is unread: the client learns it only when it fetches on.
        Where all is read one is asked all the same: who has nothing to commit would not notice that Kafka is gone.
        """
        ours, asked_s = self._partitions.ours, time.monotonic()
        behind = [tp for tp, progress in ours.items() if self._stand(tp, progress).unread] or list(ours)[:1]
        found: dict[TopicPartition, int] = {}
        try:
            async with asyncio.timeout(ANSWER_S):
                found = await self._consumer.end_offsets(behind) if behind else {}
        except TimeoutError:
            self._silent_since_s = asked_s if self._silent_since_s is None else self._silent_since_s
            return  # what was known last holds
        except KafkaError:  # an answer, if no good one
            pass
        self._silent_since_s = None
        if ours is self._partitions.ours:
            for tp, offset in found.items():
                self._ends.setdefault(tp, End()).offset = offset

    def _rewound(self, tp: TopicPartition, expected: int, found: int) -> None:
        offsets = {"expected_offset": expected, "found_offset": found}
        log.warning("log_rewound", extra={"topic": tp.topic, "partition": tp.partition, **offsets})


def removed(gap: Gap, beginning: int) -> int:
    """How many of the offsets in a gap lie before the beginning of the partition."""
    return max(0, min(beginning, gap[1]) - gap[0])
