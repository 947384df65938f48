"""Which records come next, from the partitions that are not held?"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import IllegalStateError, TopicAuthorizationFailedError

from embedmq_worker.partitions import Partitions
from embedmq_worker.progress import Progress

POLL_MS: Final = 5_000
"""How long one look at an idle queue lasts. Records end it at once, and so does a stop, or a partition let go."""
READ_AROUND_MS: Final = 500
DENIED_RETRY_S: Final = 1.0
REPEAT_S: Final = 30.0
"""How often the log says that a topic may not be read."""

Read = tuple[Progress, ConsumerRecord]
Batches = Mapping[TopicPartition, list[ConsumerRecord]]

log = logging.getLogger(__name__)


class Polling:
    """Asks the Kafka client for records, of at least one partition each time: asked for none, it would give of all."""

    def __init__(
        self, consumer: AIOKafkaConsumer, partitions: Partitions, released: asyncio.Event, max_records: int
    ) -> None:
        """`released` is set when a partition may have been let go."""
        self._consumer = consumer
        self._partitions = partitions
        self._released = released
        self._max_records = max_records
        self._denied_s = -REPEAT_S

    async def poll(self) -> list[Read]:
        """What has arrived, by the partitions that are ours by then; nothing after a while."""
        self._released.clear()
        if not self._consumer.subscription():  # until there is anything to read again, there is nothing to ask
            await self._released.wait()
            return []
        ours = self._partitions.ours
        free = [tp for tp, progress in ours.items() if not progress.held]
        try:
            found = await (self._fetch([]) if len(free) == len(ours) else self._fetch_until_released(free))
        except TopicAuthorizationFailedError as error:
            await self._denied(error)
            return []
        except UnicodeDecodeError:
            with contextlib.suppress(IllegalStateError):  # a rebalance: they are read anew
                return await self._read_around({tp: ours[tp] for tp in free})
            return []
        reads: list[Read] = []
        ours = self._partitions.ours  # now: during the look a rebalance may have replaced them
        for tp, batch in found.items():
            if tp in ours and ours[tp].held:
                self._consumer.seek(tp, batch[0].offset)  # since the look began
            elif tp in ours:
                reads += [(ours[tp], record) for record in batch]
        return reads

    async def _denied(self, error: TopicAuthorizationFailedError) -> None:
        """We may read a topic no longer. Its records wait in Kafka until we may again."""
        now_s = time.monotonic()
        if now_s - self._denied_s > REPEAT_S:
            self._denied_s = now_s
            log.error("read_denied", extra={"topic": str(error.args[0]), "remedy": "allow Read on the topic"})
        await asyncio.sleep(DENIED_RETRY_S)

    async def _fetch(self, partitions: list[TopicPartition]) -> Batches:
        found: Batches = await self._consumer.getmany(*partitions, timeout_ms=POLL_MS, max_records=self._max_records)
        return found

    async def _fetch_until_released(self, free: list[TopicPartition]) -> Batches:
        """Look at the free ones only until there may be more of them: what a held one brings ends no look."""
        released = asyncio.ensure_future(self._released.wait())
        fetching = asyncio.ensure_future(self._fetch(free)) if free else None
        try:
            await asyncio.wait({released, fetching} if fetching else {released}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            released.cancel()
            # Cancelled, it leaves aiokafka's count of running fetches wrong, which only its own poll interval looks at.
            if fetching and fetching.cancel():
                await asyncio.wait({fetching})
        return fetching.result() if fetching and not fetching.cancelled() else {}

    async def _read_around(self, free: Mapping[TopicPartition, Progress]) -> list[Read]:
        """Pass over a record that has a header whose name is no UTF-8: aiokafka cannot read it, and says not which.

        What the failed fetch had taken is read again, partition by partition, until the one record is found.
        """
        reads: list[Read] = []
        for tp, progress in random.sample(list(free.items()), len(free)):
            if not await self._rewind(tp, progress):
                continue
            try:
                while len(reads) < self._max_records:
                    found = await self._consumer.getmany(tp, timeout_ms=READ_AROUND_MS, max_records=1)
                    if not found:
                        break
                    if self._partitions.ours.get(tp) is not progress:  # a rebalance: its new assignment reads them
                        self._consumer.seek(tp, found[tp][0].offset)
                        return reads
                    reads += [(progress, record) for record in found[tp]]
            except UnicodeDecodeError:
                await self._pass_over(tp, progress)
        return reads

    async def _pass_over(self, tp: TopicPartition, progress: Progress) -> None:
        offset = await self._consumer.position(tp)
        if self._partitions.ours.get(tp) is not progress:
            return  # a rebalance: that is where its new assignment begins
        place = {"topic": tp.topic, "partition": tp.partition, "offset": offset}
        log.error("record_unreadable", extra={**place, "reason": "the name of a header is not UTF-8"})
        self._consumer.seek(tp, offset + 1)

    async def _rewind(self, tp: TopicPartition, progress: Progress) -> bool:
        """Go back to what was last handed out; whether there is anything behind it."""
        offset = progress.reached if progress.reached is not None else await self._consumer.committed(tp)
        if offset is None:
            await self._consumer.seek_to_beginning(tp)
            return True
        self._consumer.seek(tp, offset)
        end: int | None = self._consumer.highwater(tp)
        return end is None or offset < end
