"""How is the topic of dead letters read, and shortened?"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError
from embedmq_schemas.names import Names
from msgspec import Struct

from embedmq.dead import DeadLetter, Place, read, unreadable
from embedmq.kafka import away, connection_options

if TYPE_CHECKING:
    from embedmq.settings import Setup

READ_RECORDS: Final = 500
"""Letters taken from the client at once; it reads 1 MiB of a partition ahead."""
POLL_MS: Final = 200

_T = TypeVar("_T")


class Span(Struct, frozen=True):
    """Offsets of one partition, from the first up to but without the second."""

    start: int
    end: int

    @property
    def length(self) -> int:
        return max(0, self.end - self.start)


class DeadTopic:
    """The dead letters that were there when it was opened; what comes later is not seen."""

    def __init__(self, setup: Setup) -> None:
        timeout_ms = int(1000 * setup.connect_timeout_s)
        self._setup = setup
        self._names = Names(setup.prefix)
        self._admin = AIOKafkaAdminClient(**connection_options(setup), request_timeout_ms=timeout_ms)
        self._consumer = AIOKafkaConsumer(
            **connection_options(setup),
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # of letters that go while they are read, those that are left are read
            request_timeout_ms=timeout_ms,
        )
        self._spans: dict[int, Span] = {}
        self.topics: frozenset[str] = frozenset()
        """All topics that we may see."""

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, setup: Setup) -> AsyncIterator[DeadTopic]:
        """Connect, and note what is there; raises Unavailable."""
        topic = cls(setup)
        try:
            await topic._ask(topic._admin.start())
            await topic._look()
            yield topic
        finally:
            await topic._consumer.stop()
            await topic._admin.close()

    async def spans(self, since_unix_ms: int | None) -> dict[int, Span]:
        """What is there by partition, without what is older; raises Unavailable."""
        if since_unix_ms is None:
            return self._spans
        firsts = await self._first_since(since_unix_ms)
        return {number: Span(firsts[number], span.end) for number, span in self._spans.items()}

    async def older(self, before_unix_ms: int) -> dict[int, Span]:
        """What comes before the first letter that is not older, by partition; raises Unavailable."""
        firsts = await self._first_since(before_unix_ms)
        return {number: Span(span.start, firsts[number]) for number, span in self._spans.items()}

    async def letters(
        self, spans: Mapping[int, Span], step: Callable[[], None] | None = None
    ) -> AsyncIterator[DeadLetter]:
        """Read letters, oldest first, those of one partition in their order; holds one fetch of each partition, and
        calls `step` for each letter. Raises Unavailable.
        """
        self._consumer.assign([self._at(number) for number in spans])
        readers = {number: self._partition(number, span) for number, span in spans.items()}
        heads = {number: letter for number, reader in readers.items() if (letter := await anext(reader, None))}
        while heads:
            number = min(heads, key=lambda number: (heads[number].buried_unix_ms, number))
            if step is not None:
                step()
            yield heads.pop(number)
            if (letter := await anext(readers[number], None)) is not None:
                heads[number] = letter

    async def letter(self, place: Place) -> DeadLetter | None:
        """One letter by its place; None where there is none. Raises Unavailable."""
        span = self._spans.get(place.partition)
        if span is None or not span.start <= place.offset < span.end:
            return None
        found = [letter async for letter in self.letters({place.partition: Span(place.offset, place.offset + 1)})]
        return found[0] if found else None

    async def remove(self, spans: Mapping[int, Span]) -> None:
        """Delete these letters and all before them, for good; raises Unavailable."""
        ends = {self._at(number): RecordsToDelete(before_offset=span.end) for number, span in spans.items()}
        await self._ask(self._admin.delete_records(ends), "Delete")

    async def _look(self) -> None:
        """Note what there is; the consumer could not tell whether a topic exists without having Kafka create it."""
        self.topics = frozenset(await self._ask(self._admin.list_topics()))
        if self._names.dead not in self.topics:
            return
        (facts,) = await self._ask(self._admin.describe_topics([self._names.dead]))
        parts = sorted(self._at(partition["partition"]) for partition in facts["partitions"])
        await self._ask(self._consumer.start())
        starts = await self._ask(self._consumer.beginning_offsets(parts))
        ends = await self._ask(self._consumer.end_offsets(parts))
        self._spans = {part.partition: Span(starts[part], ends[part]) for part in parts}

    async def _first_since(self, unix_ms: int) -> dict[int, int]:
        """The offset of the first letter of each partition that is not older; its end where all are."""
        times = {self._at(number): max(0, unix_ms) for number in self._spans}
        found = await self._ask(self._consumer.offsets_for_times(times)) if times else {}
        firsts = {part.partition: at.offset for part, at in found.items() if at is not None}
        return {number: min(firsts.get(number, span.end), span.end) for number, span in self._spans.items()}

    async def _partition(self, number: int, span: Span) -> AsyncIterator[DeadLetter]:
        part, at, most = self._at(number), span.start, READ_RECORDS
        self._consumer.seek(part, at)
        while at < span.end:
            try:
                records = await self._ask(self._some(part, most))
            except UnicodeDecodeError:
                # A header's name is no UTF-8. The client cannot read such a record, and says not which: look one by one
                if most == 1:
                    yield unreadable(Place(number, at), "the name of a header is not UTF-8")
                    at += 1
                most = 1 if most > 1 else READ_RECORDS
                self._consumer.seek(part, at)
                continue
            for record in records:
                if record.offset >= span.end:
                    return
                yield _read(record, self._names)
            at = await self._ask(self._consumer.position(part))

    async def _some(self, part: TopicPartition, most: int) -> list[ConsumerRecord]:
        """The next records of a partition, waiting for them; empty where only its position went on."""
        before = await self._consumer.position(part)
        while True:
            found = await self._consumer.getmany(part, timeout_ms=POLL_MS, max_records=most)
            if found or await self._consumer.position(part) != before:
                records: list[ConsumerRecord] = found.get(part, [])
                return records

    def _at(self, number: int) -> TopicPartition:
        return TopicPartition(self._names.dead, number)

    async def _ask(self, question: Awaitable[_T], operation: str = "Read") -> _T:
        """Kafka's answer in good time; `operation` is the right that it takes. Raises Unavailable."""
        try:
            async with asyncio.timeout(self._setup.connect_timeout_s):
                return await question
        except TopicAuthorizationFailedError as error:  # which not always says of which topic
            denial = TopicAuthorizationFailedError(self._names.dead)
            raise await away(self._setup, denial, operation) from error
        except (TimeoutError, KafkaError, OSError) as error:
            raise await away(self._setup, error, operation) from error


def _read(record: ConsumerRecord, names: Names) -> DeadLetter:
    place = Place(record.partition, record.offset)
    return read(place, record.timestamp, record.key, record.value, record.headers, names)
