"""How do requests get into Kafka?"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from math import inf

from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from aiokafka.structs import RecordMetadata
from embedmq_schemas.headers import Headers
from embedmq_schemas.results import Result
from msgspec import Struct

from embedmq.errors import EmbedMQError, InvalidRequest, RequestCancelled, Unavailable
from embedmq.kafka import Kafka, explain

SPREAD_ITEMS = 64
"""Items of keyless records that go to one partition before the next one has its turn."""
KEYS_REMEMBERED = 4_096
CLOSED = "the client was closed"

_LOG = logging.getLogger(__name__)


class Record(Struct):
    """A request on its way. Its future fails when Kafka does not take it; with `confirm` it ends with Kafka's word.

    One that is sent `again` has been taken by Kafka before: if it is `refused` the second time, its caller waits on.
    """

    key: bytes | None
    value: bytes
    headers: Headers
    future: asyncio.Future[Result] | asyncio.Future[None]
    items: int = 1
    confirm: bool = False
    again: bool = False
    accepted: bool = False
    """Whether Kafka has it."""
    refused: bool = False
    """Whether one that is sent again was not taken, as far as is known here."""
    due: float = inf
    """The loop's time until which Kafka may take it; set when it is put."""

    @property
    def is_owed(self) -> bool:
        """Whether Kafka has yet to say something of it that somebody wants to know."""
        return not (self.accepted or self.refused or self.future.done())


class _Outbox:
    """What one partition has yet to take: `records` wait to be sent, `owed` are those and what is on its way."""

    __slots__ = ("items", "owed", "partition", "records", "task", "timer", "topic")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.records: deque[Record] = deque()
        self.owed: deque[Record] = deque()
        self.items = 0
        """How many items have come since the last batch was filled."""
        self.task: asyncio.Task[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    def take(self, due: float) -> list[Record]:
        """Take out what waits to be sent and is due by then: time limits are all the same, so the oldest."""
        taken: list[Record] = []
        while self.records and self.records[0].due <= due:
            taken.append(self.records.popleft())
        return taken

    def settle(self) -> None:
        """Forget what Kafka has answered."""
        while self.owed and not self.owed[0].is_owed:
            self.owed.popleft()


class _Spread(Struct):
    """The outboxes of a topic, and which one has its turn for records without a key."""

    partitions: list[int]
    outboxes: list[_Outbox]
    turn: int = 0


class Publisher:
    """Puts records into batches of its own, one partition each: all records of one turn of the event loop travel
    together, and one acknowledgement serves them all. Per record that is a fifth of what `AIOKafkaProducer.send` costs.

    While a partition waits for Kafka its records gather; nothing lingers when Kafka is quick.
    """

    def __init__(self, kafka: Kafka, publish_timeout_s: float, loop: asyncio.AbstractEventLoop) -> None:
        self._kafka = kafka
        self._timeout_s = publish_timeout_s
        self._loop = loop
        self._spreads: dict[str, _Spread] = {}
        self._hash = lru_cache(KEYS_REMEMBERED)(murmur2)
        self._stopped = False

    async def prepare(self, topic: str) -> bool:
        """Learn a topic's partitions before the first record is put; False when there is no such topic."""
        partitions = await self._kafka.find(topic)
        known = self._spreads.get(topic)
        if partitions and (known is None or known.partitions != partitions):
            self._spreads[topic] = _Spread(partitions, [_Outbox(topic, number) for number in partitions])
        return bool(partitions)

    def put(self, topic: str, record: Record) -> None:
        """Send a record to a prepared topic, by its key as every Kafka client does, else to each partition in turn.
        Once stopped, fail it.
        """
        if self._stopped:
            _fail([record], RequestCancelled(CLOSED))
            return
        spread = self._spreads[topic]
        if record.key is None:
            outbox = spread.outboxes[spread.turn]
            if not outbox.records or outbox.items >= SPREAD_ITEMS:
                spread.turn = (spread.turn + 1) % len(spread.outboxes)
                outbox = spread.outboxes[spread.turn]
        else:
            outbox = spread.outboxes[(self._hash(record.key) & 0x7FFFFFFF) % len(spread.outboxes)]
        record.due = self._loop.time() + self._timeout_s
        outbox.records.append(record)
        outbox.owed.append(record)
        outbox.items += record.items
        if outbox.timer is None:
            outbox.timer = self._loop.call_at(record.due, self._ring, outbox)
        if outbox.task is None:
            outbox.task = self._loop.create_task(self._drain(outbox))

    async def stop(self) -> None:
        """Stop sending; what has not been given to Kafka stays behind, and its callers are told."""
        self._stopped = True
        tasks = [box.task for spread in self._spreads.values() for box in spread.outboxes if box.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for spread in self._spreads.values():
            for box in spread.outboxes:
                if box.timer is not None:
                    box.timer.cancel()
                _fail(box.owed, RequestCancelled(CLOSED))
                box.records.clear()

    async def _drain(self, outbox: _Outbox) -> None:
        try:
            while outbox.records:
                await self._send(outbox)
        finally:
            outbox.task = None

    async def _send(self, outbox: _Outbox) -> None:
        """Give Kafka one batch; returns when it is queued there, which is when the partition's last one has gone.

        What it meets is the end of what waited when it began; what came since has a try of its own.
        """
        topic, sent = outbox.topic, list[Record]()
        waiting = self._loop.time() + self._timeout_s
        try:
            producer = await self._kafka.producer()
            if outbox.partition not in self._kafka.partitions(topic):
                raise InvalidRequest(f"topic {topic} has lost partition {outbox.partition}: was it deleted?")
            batch = producer.create_batch()
            while outbox.records:
                record = outbox.records[0]
                if not record.future.done():  # else its caller has gone
                    added = batch.append(timestamp=None, key=record.key, value=record.value, headers=record.headers)
                    if added is None:
                        break
                    sent.append(record)
                outbox.records.popleft()
            outbox.items = 0
            if not sent:
                return
            batch.close()
            acknowledged = await producer.send_batch(batch, topic, partition=outbox.partition)
        except (EmbedMQError, KafkaError) as error:
            _fail([*sent, *outbox.take(waiting)], explain(error, topic))
        else:
            acknowledged.add_done_callback(partial(self._acknowledge, outbox, sent))

    def _acknowledge(self, outbox: _Outbox, sent: Sequence[Record], done: asyncio.Future[RecordMetadata]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None:
            self._kafka.refused()
            _fail(sent, explain(error, outbox.topic))
        else:
            for record in sent:
                record.accepted = True
                if record.confirm and not record.future.done():
                    record.future.set_result(None)  # type: ignore[arg-type]  # `confirm` goes with a Future[None]
        outbox.settle()

    def _ring(self, outbox: _Outbox) -> None:
        """Give up what Kafka has not taken in time."""
        now = self._loop.time()
        outbox.settle()
        overdue: list[Record] = []
        while outbox.owed and outbox.owed[0].due <= now:
            overdue.append(outbox.owed.popleft())
        message = f"Kafka did not acknowledge a request to {outbox.topic} within {self._timeout_s:g} s"
        _fail(overdue, Unavailable(f"{message}; it may still take it when it is back"))
        outbox.take(now)
        outbox.settle()
        outbox.timer = self._loop.call_at(outbox.owed[0].due, self._ring, outbox) if outbox.owed else None


def _fail(records: Iterable[Record], error: EmbedMQError) -> None:
    left = 0
    for record in records:
        if not record.is_owed:
            continue
        if record.again:
            record.refused = True
            left += 1
        else:
            record.future.set_exception(_copy(error))
    if left:
        _LOG.warning("Kafka did not take %d requests that were sent again, and gets them once more: %s", left, error)


def _copy(error: EmbedMQError) -> EmbedMQError:
    """One exception a caller, so that each has its own traceback."""
    return type(error)(*error.args)
