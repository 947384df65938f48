"""How do orders reach a worker?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError
from embedmq_schemas.names import Names

from embedmq_worker.config import Kafka
from embedmq_worker.errors import Unreachable
from embedmq_worker.login import connection_options
from embedmq_worker.parting import part

LONG_POLL_MS: Final = 30_000
"""How long Kafka holds a fetch with nothing to give; an order ends the wait at once."""
FETCHER_LOOK_MS: Final = 1_000
"""aiokafka's fetcher looks over its one partition this often even when nothing happened: whatever failed is tried again
then."""
LOOK_MS: Final = 200
"""The same where the topic is read to its end, whose last records may have been compacted away."""
WATCH_S: Final = 0.5
"""How often it is seen to that the topic is there: while it is not, aiokafka asks for it without a pause."""
AGAIN_S: Final = 1.0

log = logging.getLogger(__name__)


class News(NamedTuple):
    """Records that came; `anew` says that they are the whole log, and what another one said before counts no more."""

    records: Sequence[ConsumerRecord]
    anew: bool = False


class Control:
    """Reads the control topic from its beginning, in no group: every worker has all orders, and commits nothing."""

    def __init__(self, settings: Kafka, names: Names, worker_id: str) -> None:
        self._place = TopicPartition(names.control, 0)
        self._timeout_s = settings.start_timeout_s
        self._failing = False
        self._next = 0
        self._consumer = AIOKafkaConsumer(
            **connection_options(settings),
            client_id=f"embedmq-{worker_id}-control",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            metadata_max_age_ms=settings.metadata_max_age_ms,
            fetch_max_wait_ms=LONG_POLL_MS,
            consumer_timeout_ms=FETCHER_LOOK_MS,
        )

    async def start(self) -> list[ConsumerRecord]:
        """Connect; returns what is there.

        Raises:
            Unreachable: it cannot be read, so that nobody knows what is to be served.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._consumer.start()
                return await self._read_all()
        except (KafkaError, TimeoutError) as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else f"no answer in {self._timeout_s:g} s"
            raise Unreachable(f"the orders on {self._place.topic} cannot be read: {reason}") from error

    async def next(self) -> News:
        """The next record, whenever it comes. While Kafka does not let us read, the orders read before stay; those of a
        topic that was made anew come all at once, so that none is followed that was taken back later.
        """
        while True:
            try:
                found = await self._look()
            except (KafkaError, TimeoutError) as error:
                if not self._failing:
                    log.warning("control_not_read", extra={"error": f"{type(error).__name__}: {error}"})
                self._failing = True
                await asyncio.sleep(AGAIN_S)
                continue
            self._failing = False
            if found is not None:
                return found

    async def close(self) -> None:
        """Disconnect."""
        await part(self._consumer.stop())

    async def _look(self) -> News | None:
        """What comes within a moment; raises KafkaError, TimeoutError."""
        topic = self._place.topic
        if not self._consumer.assignment():
            if topic not in await self._consumer.topics():
                raise UnknownTopicOrPartitionError(f"{topic} is not there")
            async with asyncio.timeout(self._timeout_s):
                return News(await self._read_all(), anew=True)
        if not self._consumer.partitions_for_topic(topic):
            self._consumer.unsubscribe()
            return None
        expected, found = self._next, await self._fetch(int(WATCH_S * 1000))
        if not found:
            return None
        if found[0].offset >= expected:
            return News(found)
        while self._next < (self._consumer.highwater(self._place) or 0):
            if not (more := await self._fetch(LOOK_MS)):
                break
            found = [*found, *more]
        return News(found, anew=True)

    async def _read_all(self) -> list[ConsumerRecord]:
        """Read from the beginning to what is the end by now, and on from there."""
        # first: once records are fetched, an answer to anything else waits behind the long poll
        end: int = (await self._consumer.end_offsets([self._place]))[self._place]
        self._consumer.assign([self._place])  # and so, in no group, reads from the beginning
        self._next, found = 0, list[ConsumerRecord]()
        try:
            while await self._consumer.position(self._place) < end:
                found += await self._fetch(LOOK_MS)
        except BaseException:
            self._consumer.unsubscribe()  # what was read is lost with this: all is read again
            raise
        return found

    async def _fetch(self, timeout_ms: int) -> Sequence[ConsumerRecord]:
        """At most one record: one that has a header whose name is no UTF-8 cannot be read, and is passed over."""
        try:
            async with asyncio.timeout(WATCH_S):  # it is not known while the topic is gone
                at: int = await self._consumer.position(self._place)
        except TimeoutError:
            return ()
        try:
            found: Mapping[TopicPartition, Sequence[ConsumerRecord]] = await self._consumer.getmany(
                self._place, timeout_ms=timeout_ms, max_records=1
            )
        except UnicodeDecodeError:
            log.warning("order_refused", extra={"model": "", "why": f"the record at {at} cannot be read"})
            self._consumer.seek(self._place, at + 1)
            self._next = at + 1
            return ()
        records = found.get(self._place, ())
        if records:
            self._next = records[-1].offset + 1
        return records
