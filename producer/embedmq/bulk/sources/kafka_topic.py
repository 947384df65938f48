"""How is a topic read by blocking code, one partition after the other, up to where each ended?"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, Final, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError, TopicAuthorizationFailedError
from msgspec import Struct

from embedmq.bulk.errors import Away, SourceRefused
from embedmq.bulk.rows import MAX_BLOCK_ROWS
from embedmq.bulk.sources.fields import suggest
from embedmq.consumer import close_consumer
from embedmq.kafka import connection_options, why_not
from embedmq.settings import Setup

READ_TIMEOUT_S: Final = 30.0
"""How long Kafka may take over the next records of a partition that has some."""
POLL_MS: Final = 200
UNSEEN_LOOKS, LOOK_AGAIN_S = 4, 0.1

_R = TypeVar("_R")


class Unread(Struct, frozen=True):
    """Offsets from `first` up to but without `next` that cannot be read, and why."""

    first: int
    next: int
    reason: str


class Records(Struct, frozen=True):
    """Some records as they follow each other, and the offset behind them, where nothing else may stand."""

    found: Sequence[ConsumerRecord[Any, Any]]
    next: int


class Topic:
    """A topic's records as they were when it was opened, without those of transactions that were not committed.

    It has a loop of its own, which turns while something is asked, and only then.
    """

    def __init__(self, setup: Setup, name: str) -> None:
        self._setup = setup
        self._name = name
        self._runner = asyncio.Runner()
        self._consumer: AIOKafkaConsumer | None = None
        self.firsts: dict[int, int] = {}
        """The first offset that each partition has."""
        self.ends: dict[int, int] = {}
        """The offset behind the last one."""

    def open(self) -> None:
        """Connect, and note what is there; raises SourceRefused, Away."""
        self._run(self._open())

    def close(self) -> None:
        """Disconnect, in bounded time."""
        consumer, self._consumer = self._consumer, None
        try:
            if consumer is not None:
                self._runner.run(close_consumer(consumer))
        finally:
            self._runner.close()

    def read(self, partition: int, offset: int) -> Iterator[Records | Unread]:
        """A partition from an offset on, some records at a time; raises Away."""
        part, end = TopicPartition(self._name, partition), self.ends[partition]
        at, most = offset, MAX_BLOCK_ROWS
        consumer = self._started()
        self._run(_begin(consumer, part, at))
        while at < end:
            try:
                records = self._run(_some(consumer, part, most, READ_TIMEOUT_S))
            except OffsetOutOfRangeError:
                gone, at = at, min(end, self._run(_first(consumer, part)))
                if at <= gone:
                    raise SourceRefused(f"{self._where}: partition {partition} has lost what was behind {at}") from None
                yield Unread(gone, at, "retention has deleted them before they were read")
                consumer.seek(part, at)
            except UnicodeDecodeError:
                # The name of a header is no UTF-8: the client cannot read the record and says not which: one by one.
                if most == 1:
                    yield Unread(at, at + 1, "the name of a header is not UTF-8")
                    at += 1
                most = 1 if most > 1 else MAX_BLOCK_ROWS
                consumer.seek(part, at)
            else:
                at = min(records.next, end)
                yield Records([record for record in records.found if record.offset < end], at)

    def _run(self, question: Coroutine[Any, Any, _R]) -> _R:
        return self._runner.run(self._explained(question))

    def _started(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise RuntimeError("not open")
        return self._consumer

    async def _explained(self, question: Coroutine[Any, Any, _R]) -> _R:
        try:
            return await question
        except OffsetOutOfRangeError:
            raise
        except TopicAuthorizationFailedError as error:
            raise SourceRefused(
                f"{self._where}: we may not read it: it wants READ and DESCRIBE on the topic"
            ) from error
        except (TimeoutError, KafkaError, OSError) as error:
            reason = await why_not(self._setup) or str(error) or "no answer"
            raise Away(f"{self._where}: {reason}") from error

    @property
    def _where(self) -> str:
        return f"topic {self._name} of Kafka at {','.join(self._setup.kafka.bootstrap)}"

    async def _open(self) -> None:
        self._consumer = consumer = AIOKafkaConsumer(
            **connection_options(self._setup),
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
        )
        async with asyncio.timeout(self._setup.connect_timeout_s):
            await consumer.start()
            parts = [TopicPartition(self._name, number) for number in await self._partitions(consumer)]
            starts, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
        self.firsts = {part.partition: starts[part] for part in parts}
        self.ends = {part.partition: ends[part] for part in parts}

    async def _partitions(self, consumer: AIOKafkaConsumer) -> list[int]:
        """Look at all topics, since one that is asked for by its name might be created. A new one may be seen late."""
        there: list[str] = []
        for _ in range(UNSEEN_LOOKS):
            seen = await consumer._client.fetch_all_metadata()
            if found := seen.partitions_for_topic(self._name):
                return sorted(found)
            there = sorted(seen.topics())
            await asyncio.sleep(LOOK_AGAIN_S)
        raise SourceRefused(f"{self._where} is not there, or we may not see it: {suggest(self._name, there)}")


async def _begin(consumer: AIOKafkaConsumer, part: TopicPartition, offset: int) -> None:
    consumer.assign([part])
    consumer.seek(part, offset)


async def _first(consumer: AIOKafkaConsumer, part: TopicPartition) -> int:
    """The first offset that is still there."""
    firsts: dict[TopicPartition, int] = await consumer.beginning_offsets([part])
    return firsts[part]


async def _some(consumer: AIOKafkaConsumer, part: TopicPartition, most: int, timeout_s: float) -> Records:
    """The next records, perhaps none where only the position went on; raises TimeoutError."""
    loop = asyncio.get_running_loop()
    before, last_s = await consumer.position(part), loop.time() + timeout_s
    while loop.time() < last_s:
        found = (await consumer.getmany(part, timeout_ms=POLL_MS, max_records=most)).get(part, [])
        if found or await consumer.position(part) != before:
            return Records(found, await consumer.position(part))
    raise TimeoutError(f"no record for {timeout_s:g} s")
