"""How are replies, dead letters and retries produced, and what happens when Kafka does not take one?

A reply that Kafka refuses for good is a fault. A dead letter or a retry is never given up, since the record's offset is
about to complete: its topic is created again if it went, and whatever else is wrong, the worker holds back and says so.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
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
from aiokafka.partitioner import DefaultPartitioner
from embedmq_schemas.names import Names
from embedmq_schemas.topics import SLACK_BYTES

from embedmq_worker.check import check_reply_topic
from embedmq_worker.config import Config
from embedmq_worker.engine.seam import Fault
from embedmq_worker.jobs import Ending
from embedmq_worker.login import connection_options
from embedmq_worker.metrics import Metrics
from embedmq_worker.plan import TopicWrite
from embedmq_worker.topics import Topics, wanted

RETRY_S = 1.0
BLOCKED_S = 5.0
"""How long a dead letter or a retry may go unacknowledged before it is looked into."""
REPEAT_S = 30.0
"""How often the log says that Kafka does not take something."""
CLOSE_TIMEOUT_S = 5.0
"""How long a stop waits for replies that Kafka does not take."""
_TOO_LARGE = (MessageSizeTooLargeError, RecordTooLargeError)
_BY_RECORD = (*_TOO_LARGE, InvalidTimestampError, PolicyViolationError)
"""Refusals of a whole batch that may be about another record in it."""
_FOR_GOOD = (*_BY_RECORD, InvalidTopicError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError)

log = logging.getLogger(__name__)


class TopicSink:
    """Produces until Kafka has everything; what Kafka refuses for good comes back as faults."""

    def __init__(self, config: Config, topics: Topics, metrics: Metrics) -> None:
        limits = config.limits
        self._prefix = config.prefix
        self._allowed = list(config.worker.reply_topics)
        self._max_reply_bytes = limits.max_topic_reply_bytes
        self._topics = topics
        self._metrics = metrics
        self._ours = {topic.name: topic for topic in wanted(config, Names(config.prefix))}
        self._mending = asyncio.Lock()
        self._partitioner = DefaultPartitioner()
        self._told_s: dict[str, float] = {}
        self._away_since_s: float | None = None
        self._producer = AIOKafkaProducer(
            **connection_options(config.kafka),
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

    @property
    def away_s(self) -> float:
        """For how long Kafka has not taken all that was produced; 0 while it does. May be read from any thread."""
        since_s = self._away_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    async def write(self, writes: Sequence[TopicWrite]) -> list[tuple[Ending, Fault]]:
        """Produce all and wait for the acknowledgements; returns the replies that can never be delivered, and the
        retries that are too large to be written.
        """
        faults = await asyncio.gather(*(self._write(write) for write in writes))
        if "dead_letter_blocked" in self._told_s:
            self._metrics.set("dead_letters_blocked", 0)
        self._told_s.clear()
        self._away_since_s = None
        return [(write.ending, fault) for write, fault in zip(writes, faults, strict=True) if fault is not None]

    async def _write(self, write: TopicWrite) -> Fault | None:
        alone = False
        while True:
            try:
                if write.kind != "reply":
                    await self._insist(write, alone=alone)
                elif (fault := await self._refuse(write)) is not None:
                    return fault
                else:
                    await self._produce(write, alone=alone)
            except _FOR_GOOD as error:
                if isinstance(error, _BY_RECORD) and not alone:
                    alone = True
                    continue
                if write.kind == "reply" or (write.kind == "retry" and isinstance(error, _TOO_LARGE)):
                    if isinstance(error, TopicAuthorizationFailedError):
                        return Fault("undeliverable", f"this worker may not Write to the reply topic {write.topic}")
                    return Fault("undeliverable", f"Kafka refuses what goes to {write.topic}: {type(error).__name__}")
                if isinstance(error, _TOO_LARGE):
                    self._metrics.count("dead_letters_refused_total")
                    log.exception("dead_letter_refused", extra=_place(write))
                    return None  # its caller has an answer; waiting would hold up everybody else for ever
                self._tell(write, f"{type(error).__name__}: {error}")
            except AssertionError:
                # aiokafka's own view of the topic is older than ours, and lacks the partition
                await self._producer.client.force_metadata_update()
            except KafkaError as error:
                self._tell(write, f"{type(error).__name__}: {error}")
            else:
                return None
            await asyncio.sleep(RETRY_S * random.uniform(0.5, 1))

    async def _produce(self, write: TopicWrite, *, alone: bool) -> None:
        """Produce one record and wait for its acknowledgement, with others in a batch or in one of its own.

        What is tried again goes to any partition, whatever its key: by its key it would come back to the same worker,
        which may be the one that cannot do it.
        """
        partition = write.partition
        if partition is None and (alone or write.kind == "retry"):
            partitions = sorted(await self._producer.partitions_for(write.topic))
            by_key = write.kind != "retry"
            partition = int(self._partitioner(write.key if by_key else None, partitions, partitions))
        if alone:
            batch = self._producer.create_batch()
            batch.append(timestamp=write.timestamp_ms, key=write.key, value=write.value, headers=write.headers)
            batch.close()
            sent = await self._producer.send_batch(batch, write.topic, partition=partition)
        else:
            sent = await self._producer.send(
                write.topic,
                write.value,
                write.key,
                partition,
                timestamp_ms=write.timestamp_ms,
                headers=write.headers,
            )
        await sent

    async def _insist(self, write: TopicWrite, *, alone: bool) -> None:
        """Produce a dead letter or a retry; while it is not acknowledged, see to its topic and say what is wrong."""
        await self._mend(write.topic)
        producing = asyncio.create_task(self._produce(write, alone=alone))
        try:
            while not (await asyncio.wait({producing}, timeout=BLOCKED_S))[0]:
                self._tell(write, await self._examine(write.topic))
            await producing
        finally:
            producing.cancel()

    async def _examine(self, topic: str) -> str:
        """Why Kafka may not acknowledge what was sent to one of our topics; a topic that is gone is created again."""
        try:
            if await self._mend(topic, BLOCKED_S / 2):
                return "the topic was gone"
        except KafkaError as error:
            return f"{type(error).__name__}: {error}"
        return "no acknowledgement: are fewer replicas in sync than `min.insync.replicas`?"

    async def _mend(self, topic: str, known_s: float = 30.0) -> bool:
        """Create one of our topics again if it is not there, and say whether that was so; what is known of it may be
        `known_s` old.

        Raises KafkaError when that cannot be known or done.
        """
        async with self._mending:
            if await self._topics.partitions(topic, known_s):
                return False
            refusals = await self._topics.create([self._ours[topic]])
        if refusals:
            raise KafkaError(refusals[0])
        log.warning("topic_created_again", extra={"topic": topic})
        return True

    def _tell(self, write: TopicWrite, error: str) -> None:
        """Say what Kafka does not take, now and then: it is tried again every second, for as long as it takes."""
        event = "produce_failed" if write.kind == "reply" else "dead_letter_blocked"
        now_s = time.monotonic()
        if self._away_since_s is None:
            self._away_since_s = now_s
        if now_s - self._told_s.get(event, -REPEAT_S) < REPEAT_S:
            return
        self._told_s[event] = now_s
        if write.kind == "reply":
            log.warning("produce_failed", extra={"topic": write.topic, "error": error})
            return
        self._metrics.set("dead_letters_blocked", 1)
        log.error("dead_letter_blocked", extra={"to": write.topic, "error": error, **_place(write)})

    async def _refuse(self, write: TopicWrite) -> Fault | None:
        """What is wrong with a reply's address, before the producer would wait for it."""
        if (fault := check_reply_topic(write.topic, self._prefix, self._allowed)) is not None:
            return fault
        size = len(write.value or b"")
        if size > self._max_reply_bytes:
            return Fault("undeliverable", f"a reply of {size} bytes exceeds {self._max_reply_bytes}: send fewer items")
        partitions = await self._topics.partitions(write.topic)
        if partitions == 0:
            return Fault(
                "undeliverable", f"the reply topic {write.topic} does not exist, or we may not Write to that topic"
            )
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
