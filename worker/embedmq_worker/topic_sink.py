"""How are replies and dead letters produced, and which can never be?"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    InvalidTimestampError,
    InvalidTopicError,
    KafkaError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from embedmq_schemas.topics import SLACK_BYTES

from embedmq_worker.check import check_reply_topic
from embedmq_worker.config import Config
from embedmq_worker.engine.seam import Fault
from embedmq_worker.jobs import Ending
from embedmq_worker.plan import TopicWrite
from embedmq_worker.topics import Topics

RETRY_S = 1.0
CLOSE_TIMEOUT_S = 5.0
"""How long a stop waits for replies that Kafka does not take."""
_FOR_GOOD = (
    InvalidTimestampError,
    InvalidTopicError,
    MessageSizeTooLargeError,
    PolicyViolationError,
    RecordTooLargeError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)

_TOO_LARGE = (MessageSizeTooLargeError, RecordTooLargeError)

log = logging.getLogger(__name__)


class TopicSink:
    """Produces until Kafka has everything; what Kafka refuses for good comes back as faults."""

    def __init__(self, config: Config, topics: Topics) -> None:
        limits = config.limits
        self._prefix = config.prefix
        self._allowed = list(config.worker.reply_topics)
        self._max_reply_bytes = limits.max_topic_reply_bytes
        self._topics = topics
        self._producer = AIOKafkaProducer(
            **config.kafka.options(),
            client_id="embedmq-replies",
            # Not idempotent: after a batch that Kafka refuses, aiokafka's sequence numbers have a gap, and Kafka would
            # take nothing more for that partition. Replies are at least once in any case.
            acks="all",
            max_request_size=max(limits.max_request_bytes, limits.max_topic_reply_bytes) + 2 * SLACK_BYTES,
        )

    async def start(self) -> None:
        """Connect; raises KafkaError."""
        await self._producer.start()

    async def close(self) -> None:
        """Send what is left, within bounds, and disconnect."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._producer.stop()
        except TimeoutError:
            log.warning("replies_left_behind")

    async def write(self, writes: Sequence[TopicWrite]) -> list[tuple[Ending, Fault]]:
        """Produce all and wait for the acknowledgements; returns the replies that can never be delivered."""
        faults = await asyncio.gather(*(self._write(write) for write in writes))
        return [(write.ending, fault) for write, fault in zip(writes, faults, strict=True) if fault is not None]

    async def _write(self, write: TopicWrite) -> Fault | None:
        while True:
            try:
                if write.kind == "reply" and (fault := await self._refuse(write)) is not None:
                    return fault
                sent = await self._producer.send(
                    write.topic,
                    write.value,
                    write.key,
                    write.partition,
                    timestamp_ms=write.timestamp_ms,
                    headers=write.headers,
                )
                await sent
            except _FOR_GOOD as error:
                if write.kind == "reply":
                    return Fault("undeliverable", f"Kafka refuses the reply to {write.topic}: {type(error).__name__}")
                log.exception("dead_letter_refused", extra=_place(write))
                if isinstance(error, _TOO_LARGE):
                    return None  # its caller has an answer; waiting would hold up everybody else for ever
            except AssertionError:
                # aiokafka's own view of the topic is older than ours, and lacks the partition
                await self._producer.client.force_metadata_update()
            except KafkaError as error:
                log.warning("produce_failed", extra={"topic": write.topic, "error": f"{type(error).__name__}: {error}"})
            else:
                return None
            await asyncio.sleep(RETRY_S * random.uniform(0.5, 1))

    async def _refuse(self, write: TopicWrite) -> Fault | None:
        """What is wrong with a reply's address, before the producer would wait for it."""
        if (fault := check_reply_topic(write.topic, self._prefix, self._allowed)) is not None:
            return fault
        size = len(write.value or b"")
        if size > self._max_reply_bytes:
            return Fault("undeliverable", f"a reply of {size} bytes exceeds {self._max_reply_bytes}: send fewer items")
        partitions = await self._topics.partitions(write.topic)
        if partitions == 0:
            return Fault("undeliverable", f"the reply topic {write.topic} does not exist")
        if write.partition is not None and not 0 <= write.partition < partitions:
            return Fault("undeliverable", f"the reply topic {write.topic} has {partitions} partitions")
        return None


def _place(write: TopicWrite) -> dict[str, object]:
    """Where a record lies that could not become a dead letter."""
    record = write.ending.job.record
    return {
        "id": write.ending.job.envelope.id,
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
    }
