"""How is a reply topic read, by one program or by several that share the work?"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Iterable
from typing import Any, Unpack

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import IllegalStateError, KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition
from embedmq_schemas import headers as h
from embedmq_schemas.codec import Undecodable, decode_result, detect
from embedmq_schemas.results import Embedded, Failed, Scored

from embedmq.consumer import close_consumer, open_consumer
from embedmq.embeddings import Embeddings
from embedmq.errors import InvalidRequest, RequestFailed, Unavailable
from embedmq.scores import Scores
from embedmq.settings import Connections, Setup

Reply = Embeddings | Scores | Failed
"""An answer; all three have `id`, `model`, `meta` and `item_ids`."""

REMEMBERED_IDS = 100_000
"""How many ids a reader remembers, to pass over what comes twice."""
READ_AROUND_MS = 2_000
"""How long one partition may take to bring again what is known to be there."""
COMMIT_PERIOD_S = 1.0
"""How often what the caller is done with is committed."""
COMMIT_TIMEOUT_S = 2.0

_LOG = logging.getLogger(__name__)


async def replies(
    topic: str, *, kafka: str, group: str, **settings: Unpack[Connections]
) -> AsyncGenerator[Reply, None]:
    """Read the answers on a reply topic, the first of each id, for as long as the caller wants.

        async for r in embedmq.replies("vectors", kafka="127.0.0.1:9092", group="indexer"):
            if isinstance(r, embedmq.Failed):
                log(r.id, r.code, r.message)
            else:
                store(r.item_ids, r.dense)

    A failure is a value here, an `embedmq.Failed`; a success, whose `failures` may name items, is an `Embeddings` or a
    `Scores`. Readers of one `group` share the topic's partitions, and a new group begins with what Kafka still has.

    An answer is done with when the caller comes back for the next one, and only then is it committed: after a crash,
    after `break`, or when partitions change hands, the last ones come again (at least once). Within a process an id
    that has come is passed over, as long as it is among the last `REMEMBERED_IDS`; but a success that follows a failure
    comes once (a dead letter that was replayed), so each id comes at most twice. What is no reply is logged and passed
    over. `settings` are those of `Client`. A loop that is left early leaves the group soon after; inside
    `contextlib.aclosing` at once.

    Raises:
        InvalidRequest: the topic is not there. Unavailable. ValueError: a setting is wrong.
    """
    if not topic or not group:
        raise InvalidRequest("replies: name a topic and a group")
    setup = Setup.of(kafka, None, dict(settings))
    seen, progress = _Seen(REMEMBERED_IDS), _Progress()
    consumer = await open_consumer(setup, topic, group, progress)
    committing = asyncio.create_task(progress.commit_now_and_then(consumer))
    try:
        while True:
            record = await _next(consumer, progress)
            generation = progress.generation
            reply = _read(record)
            if reply is not None and seen.is_news(reply.id, not isinstance(reply, Failed)):
                yield reply
            progress.note(TopicPartition(record.topic, record.partition), record.offset, generation)
    finally:
        progress.ended.set()
        await asyncio.wait({committing})
        await close_consumer(consumer)


class _Seen:
    """The latest ids, and whether a success has come."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._ids: dict[str, bool] = {}

    def is_news(self, id: str, success: bool) -> bool:
        """Whether an id comes for the first time, or the first success after a failure; from now on it does not."""
        known = self._ids.get(id)
        if known is not None and (known or not success):
            return False
        self._ids[id] = success
        if len(self._ids) > self._most:
            del self._ids[next(iter(self._ids))]
        return True


class _Progress(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    """How far the caller is on each partition; what changes hands is committed before, and forgotten."""

    def __init__(self) -> None:
        self.generation = 0
        """Counts the changes of hands: a record from before one says nothing about the partition after it."""
        self.ended = asyncio.Event()
        self._done: dict[TopicPartition, int] = {}
        self._consumer: AIOKafkaConsumer | None = None

    def note(self, place: TopicPartition, offset: int, generation: int) -> None:
        """The caller is done with the record at an offset."""
        if generation == self.generation:
            self._done[place] = offset + 1

    async def commit_now_and_then(self, consumer: AIOKafkaConsumer) -> None:
        """Commit every `COMMIT_PERIOD_S`, and once more when reading has ended."""
        self._consumer = consumer
        while not self.ended.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.ended.wait(), COMMIT_PERIOD_S)
            await self.commit()

    async def commit(self) -> None:
        """Tell Kafka how far the caller is, in bounded time; what cannot be told now comes again."""
        done = dict(self._done)
        if not done or self._consumer is None:
            return
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                await self._consumer.commit(done)
        except (TimeoutError, KafkaError) as error:
            _LOG.info("could not commit what was read, which may come again: %s", str(error) or "no answer")
        else:
            self._done = {place: offset for place, offset in self._done.items() if done.get(place) != offset}

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Partitions change hands: all do, whatever is kept."""
        del revoked
        await self.commit()
        self._done = {}
        self.generation += 1

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Reading begins where was committed."""


async def _next(consumer: AIOKafkaConsumer, progress: _Progress) -> ConsumerRecord[Any, Any]:
    record: ConsumerRecord[Any, Any] | None = None
    try:
        while record is None:
            try:
                record = await consumer.getone()
            except UnicodeDecodeError:
                with contextlib.suppress(IllegalStateError):  # a rebalance: whoever has the partition now looks
                    record = await _read_around(consumer, progress)
    except KafkaError as error:
        raise Unavailable(f"the reply topic cannot be read: {str(error) or type(error).__name__}") from error
    return record


async def _read_around(consumer: AIOKafkaConsumer, progress: _Progress) -> ConsumerRecord[Any, Any] | None:
    """Pass over a record that has a header whose name is no UTF-8: aiokafka cannot read it, and says not which.

    Looks at one partition after the other, until one brings the record (None), or another that can be read.
    """
    places = list(consumer.assignment())
    for place in random.sample(places, len(places)):
        at, end = await consumer.position(place), consumer.highwater(place)
        if end is not None and at >= end:
            continue
        try:
            found = await consumer.getmany(place, timeout_ms=READ_AROUND_MS, max_records=1)
        except UnicodeDecodeError:
            generation = progress.generation
            offset = await consumer.position(place)
            if generation == progress.generation:
                name = f"{place.topic}-{place.partition} at offset {offset}"
                _LOG.warning("passed over a record of %s, which is no reply: a header's name is not UTF-8", name)
                consumer.seek(place, offset + 1)
                progress.note(place, offset, generation)
            return None
        if found:
            record: ConsumerRecord[Any, Any] = found[place][0]
            return record
    return None


def _read(record: ConsumerRecord[Any, Any]) -> Reply | None:
    """A record as an answer; None for one that is none."""
    value: bytes = record.value or b""
    codec = detect(h.last(record.headers, h.CONTENT_TYPE), value)
    try:
        result = decode_result(value.lstrip() if codec == "json" else value)
        if isinstance(result, Embedded):
            return Embeddings.read(result)
        return Scores(result) if isinstance(result, Scored) else result
    except (Undecodable, RequestFailed, ValueError, OverflowError) as error:
        place = f"{record.topic}-{record.partition} at offset {record.offset}"
        _LOG.warning("passed over a record of %s, which is no reply: %s", place, error)
        return None
