"""How do orders reach a worker?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from embedmq_schemas.names import Names

from embedmq_worker.config import Kafka
from embedmq_worker.errors import Unreachable
from embedmq_worker.login import connection_options

LONG_POLL_MS: Final = 30_000
"""How long Kafka holds a fetch with nothing to give; an order ends the wait at once."""
FETCHER_LOOK_MS: Final = 1_000
"""aiokafka's fetcher looks over its one partition this often even when nothing happened: whatever failed is tried again
then."""
LOOK_MS: Final = 200
"""The same at start, where the last records of the topic may have been compacted away."""
AGAIN_S: Final = 1.0

log = logging.getLogger(__name__)


class Control:
    """Reads the control topic from its beginning, in no group: every worker has all orders, and commits nothing."""

    def __init__(self, settings: Kafka, names: Names, worker_id: str) -> None:
        self._place = TopicPartition(names.control, 0)
        self._timeout_s = settings.start_timeout_s
        self._failing = False
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
                # first: once records are fetched, an answer to anything else waits behind the long poll
                end: int = (await self._consumer.end_offsets([self._place]))[self._place]
                self._consumer.assign([self._place])  # and so, in no group, reads from the beginning
                found: list[ConsumerRecord] = []
                while await self._consumer.position(self._place) < end:
                    found += await self._fetch(LOOK_MS)
        except (KafkaError, TimeoutError) as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else f"no answer in {self._timeout_s:g} s"
            raise Unreachable(f"the orders on {self._place.topic} cannot be read: {reason}") from error
        return found

    async def next(self) -> ConsumerRecord:
        """The next record, whenever it comes. While Kafka does not let us read, the orders read before stay."""
        while True:
            try:
                found = await self._fetch(LONG_POLL_MS)
            except KafkaError as error:
                if not self._failing:
                    log.warning("control_not_read", extra={"error": f"{type(error).__name__}: {error}"})
                self._failing = True
                await asyncio.sleep(AGAIN_S)
                continue
            self._failing = False
            if found:
                return found[0]

    async def close(self) -> None:
        """Disconnect."""
        await self._consumer.stop()

    async def _fetch(self, timeout_ms: int) -> Sequence[ConsumerRecord]:
        """At most one record: one that has a header whose name is no UTF-8 cannot be read, and is passed over."""
        at: int = await self._consumer.position(self._place)
        try:
            found: Mapping[TopicPartition, Sequence[ConsumerRecord]] = await self._consumer.getmany(
                self._place, timeout_ms=timeout_ms, max_records=1
            )
        except UnicodeDecodeError:
            log.warning("order_refused", extra={"model": "", "why": f"the record at {at} cannot be read"})
            self._consumer.seek(self._place, at + 1)
            return ()
        return found.get(self._place, ())
