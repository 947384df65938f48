"""What a reader makes of a log that changes under it, of partitions that it must leave alone, and of a silent Kafka."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, RecordsToDelete
from embedmq_local.stack import Stack
from embedmq_schemas.envelope import Record
from embedmq_schemas.names import Reader
from embedmq_worker.assignor import Assignor
from embedmq_worker.config import Kafka
from embedmq_worker.metrics import Metrics
from embedmq_worker.polling import POLL_MS, Read
from embedmq_worker.progress import Progress
from embedmq_worker.source import Source

from tests.worker.conftest import StartWorker
from tests.worker.world import JSON, Running, World, as_json, eventually, new_id, until

NULL = '[models.null]\ncheckpoint = "null:8"\npinned = true\n'
LAZY = """
[models.lazy]
checkpoint = "null:8?load_ms=1"
shared = true

[models.tail]
checkpoint = "null:8"
pinned = true
shared = true
"""
QUICK = "[kafka]\nheartbeat_interval_ms = 200\nmetadata_max_age_ms = 1000\n"

SLOW = """
[models.slow]
checkpoint = "null:8?batch_ms=1"
pinned = true
"""

MakeSource = Callable[..., Awaitable[Source]]


class Events(logging.Handler):
    """The events of the worker's parts that run in this process."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append({"event": record.getMessage(), **vars(record)})

    def of(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.found if event["event"] == name]


@pytest.fixture
def events() -> Iterator[Events]:
    handler, logger = Events(), logging.getLogger("embedmq_worker")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
async def admin(stack: Stack) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await client.start()
    yield client
    await client.close()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


async def nothing_is_revoked() -> None:
    """There is no road behind these sources."""


@pytest.fixture
async def make_source(stack: Stack, prefix: str, metrics: Metrics) -> AsyncIterator[MakeSource]:
    """A source in this process that has joined its group."""
    made: list[Source] = []

    async def make(
        topic: str, reader: Reader = "interactive", kafka: str = stack.kafka, retention_ms: int = 7 * 24 * 3600 * 1000
    ) -> Source:
        found = Kafka(bootstrap=[kafka], heartbeat_interval_ms=200, retention_ms=retention_ms)
        source = Source(reader, f"{prefix}.{reader}", [topic], found, "w", metrics, nothing_is_revoked)
        made.append(source)
        await source.start()
        await asyncio.wait_for(source.joined.wait(), 60)
        return source

    yield make
    for source in made:
        await source.close()


def sample(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(f"embedmq_{name}", labels) or 0.0


class Reading:
    """All that a source hands out while it is read."""

    def __init__(self, source: Source) -> None:
        self.reads: list[Read] = []
        self._source = source

    async def __aenter__(self) -> Reading:
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._source.stop()
        await self._task

    async def _read(self) -> None:
        async for reads in self._source.read():
            self.reads += reads

    def offsets(self, partition: int = 0) -> list[int]:
        return [record.offset for _, record in self.reads if record.partition == partition]


def complete(reads: list[Read]) -> None:
    for progress, found in reads:
        if progress.start(found):
            place = (found.topic, found.partition, found.offset)
            progress.complete(Record(*place, found.timestamp, found.key, found.value, found.headers))


@asynccontextmanager
async def another_member(worker: Running, world: World, reader: Reader = "interactive") -> AsyncIterator[None]:
    """It joins and leaves the group, and wants none of the worker's partitions: all of them come back."""
    topic = await world.create(new_id())
    member = AIOKafkaConsumer(
        bootstrap_servers=world.kafka,
        group_id=f"{worker.prefix}.{reader}",
        partition_assignment_strategy=(Assignor("another"),),
        heartbeat_interval_ms=200,
        enable_auto_commit=False,
    )
    member.subscribe([topic])
    await member.start()
    try:
        yield
    finally:
        await member.stop()


async def test_partitions_that_are_added_while_it_runs_are_read(
    world: World, start_worker: StartWorker, admin: AIOKafkaAdminClient
) -> None:
    """From their first record on, within `metadata_max_age_ms` or so."""
    worker, id = start_worker(NULL, QUICK), new_id()
    await admin.create_partitions({worker.topic("null"): NewPartitions(9)})

    async def sent() -> bool | None:
        if await world.partitions(worker.topic("null")) < 9:
            return None
        await world.produce(worker.topic("null"), as_json({"id": id, "items": ["x"]}), JSON, partition=8)
        return True

    await eventually(sent, "a ninth partition")
    assert (await world.kept(worker, id))["type"] == "embedded"


async def test_a_topic_that_is_deleted_and_created_again_is_read_from_its_start(
    world: World, start_worker: StartWorker, admin: AIOKafkaAdminClient
) -> None:
    """Its records stand where others stood that were completed: none is skipped, nothing stalls, nothing counts as
    lost, and the commits go back."""
    worker = start_worker(NULL, QUICK)
    topic = worker.topic("null")

    async def answered(count: int) -> None:
        ids = [new_id() for _ in range(count)]
        for id in ids:
            await world.produce(topic, as_json({"id": id, "items": ["x"]}), JSON, partition=0)
        for id in ids:
            assert (await world.kept(worker, id))["type"] == "embedded"

        async def committed() -> bool | None:
            return (await world.committed(f"{worker.prefix}.interactive", topic)).get(0) == count or None

        await eventually(committed, f"a commit of {count}")

    await answered(9)
    await admin.delete_topics([topic])

    async def created() -> bool | None:
        try:
            await world.create(topic, 8)
        except Exception as error:
            if "TopicAlreadyExists" not in type(error).__name__:
                raise
            return None
        return True

    await eventually(created, "the topic anew")
    await answered(3)
    assert worker.metric("records_lost_total") == 0
    assert worker.metric("items_total") == 12


async def test_what_a_rebalance_hands_out_again_is_not_computed_again(world: World, start_worker: StartWorker) -> None:
    """Behind a request whose model is loading twenty are answered; nothing of them can be committed when another member
    joins and leaves. They are read again, and skipped; only the one that was not computed is begun anew."""
    worker = start_worker(LAZY, QUICK)
    topic, head, others = worker.topic("shared"), new_id(), [new_id() for _ in range(20)]
    with worker.hold.on("load"):
        await world.produce(topic, as_json({"id": head, "items": ["x"]}), JSON, key=b"lazy", partition=0)
        for id in others:
            await world.produce(topic, as_json({"id": id, "items": ["x"]}), JSON, key=b"tail", partition=0)
        for id in others:
            await world.kept(worker, id)
        async with another_member(worker, world):
            await until(lambda: worker.metric("records_repeated_total", fate="skipped") == 20, "all of them skipped")
        await until(lambda: worker.metric("records_repeated_total", fate="again") >= 1, "the first begun anew")
    assert (await world.kept(worker, head))["type"] == "embedded"

    async def committed() -> bool | None:
        return (await world.committed(f"{worker.prefix}.interactive", topic)).get(0) == 21 or None

    await eventually(committed, "the commit of all")
    assert worker.metric("items_total", model="tail") == 20


async def test_a_batch_that_outlives_its_assignment_is_delivered_all_the_same(
    world: World, start_worker: StartWorker
) -> None:
    """The revoke does not wait for the device; the record is read again meanwhile, and its first outcome counts."""
    worker, id = start_worker(SLOW, QUICK), new_id()
    topic, group = worker.topic("slow"), f"{worker.prefix}.interactive"
    with worker.hold.on("batch") as held:
        await world.produce(topic, as_json({"id": id, "items": ["x"]}), JSON, partition=0)
        await until(held, "the request on the device")
        async with another_member(worker, world):
            await until(lambda: worker.metric("records_repeated_total", fate="again") == 1, "the record read again")
    assert (await world.kept(worker, id))["type"] == "embedded"

    async def committed() -> bool | None:
        return (await world.committed(group, topic)).get(0) == 1 or None

    await eventually(committed, "its commit")
    assert worker.metric("batch_items_sum") == 1  # the one read again is identical, and on its way at the same time


async def test_what_retention_removed_before_a_worker_came_is_an_alarm_and_is_counted_once(
    world: World, start_worker: StartWorker, admin: AIOKafkaAdminClient
) -> None:
    """Of ten that wait six are removed: they are gone, the others are answered. Further rebalances count none anew."""
    worker = start_worker(NULL, QUICK)
    topic, group = worker.topic("null"), f"{worker.prefix}.interactive"

    async def began() -> bool | None:
        return (await world.committed(group, topic)).get(0) == 0 or None

    await eventually(began, "the first commit")
    worker.process.stop()
    ids = [new_id() for _ in range(10)]
    for id in ids:
        await world.produce(topic, as_json({"id": id, "items": ["x"]}), JSON, partition=0)
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(6)})
    again = start_worker(NULL, QUICK)
    for id in ids[6:]:
        assert (await world.kept(again, id))["type"] == "embedded"
    await until(lambda: again.metric("records_lost_total", reader="interactive") == 6, "the count of those lost")
    assert [(event["partition"], event["records"]) for event in again.events("records_lost")] == [(0, 6)]
    rebalances = again.metric("rebalances_total", lane="interactive")
    async with another_member(again, world):
        await until(lambda: again.metric("rebalances_total", lane="interactive") > rebalances, "a rebalance")
    assert (await world.ask(again, "null", {"items": ["after"]}))["type"] == "embedded"
    assert again.metric("records_lost_total") == 6


async def test_what_retention_removes_while_it_reads_is_counted_and_gaps_of_transactions_are_not(
    world: World, admin: AIOKafkaAdminClient, make_source: MakeSource, metrics: Metrics, events: Events
) -> None:
    """Each transaction leaves a gap of one; of what is too much for one fetch, ten records are removed unread."""
    topic = await world.create(new_id())
    async with AIOKafkaProducer(bootstrap_servers=world.kafka, transactional_id=new_id()) as producer:
        for _ in range(3):
            async with producer.transaction():
                await producer.send_and_wait(topic, b"x", partition=0)
    for _ in range(20):
        await world.produce(topic, b"x" * 100_000, partition=0)
    source = await make_source(topic)
    async with asyncio.timeout(60):
        reading = source.read()
        offsets: list[int] = []
        while 6 not in offsets:
            reads = await anext(reading)
            offsets += [record.offset for _, record in reads]
            complete(reads)
        assert offsets[:4] == [0, 2, 4, 6]
        assert await source.commit()
        first_unread = offsets[-1] + 1
        await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(20)})
        while offsets[-1] < 25:
            reads = await anext(reading)
            offsets += [record.offset for _, record in reads]
            complete(reads)
        await reading.aclose()
    unread = set(range(first_unread, 20)) - set(offsets)
    assert unread, "all was fetched before it was removed"
    await until(lambda: sample(metrics, "records_lost_total", reader="interactive") > 0, "the alarm")
    assert sample(metrics, "records_lost_total", reader="interactive") == len(unread)
    assert [event["records"] for event in events.of("records_lost")] == [len(unread)]


async def test_a_deferred_record_comes_again_when_it_is_due_and_holds_up_only_its_partition(
    world: World, make_source: MakeSource
) -> None:
    """Never early; its neighbours on other partitions are read meanwhile, and what is behind it comes behind it."""
    topic = await world.create(new_id(), 3)
    for partition in (0, 0, 1, 2):
        await world.produce(topic, b"x", partition=partition)
    source, wait_s = await make_source(topic, "retry"), 1.0
    async with Reading(source) as reading:
        await until(lambda: len(reading.reads) == 4, "the records")
        progress, later = (next(p for p, record in reading.reads if record.partition == n) for n in (0, 2))
        source.defer(later, 0, 3_600.0)
        deferred_s = time.monotonic()
        source.defer(progress, 0, wait_s)
        assert progress.held
        assert not progress.is_due(0)
        await world.produce(topic, b"y", partition=1)
        await until(lambda: len(reading.offsets(1)) == 2, "the neighbour")
        await until(lambda: reading.offsets(0) == [0, 1, 0, 1], "the deferred one, and the one behind it")
        assert time.monotonic() - deferred_s >= wait_s
        assert progress.is_due(0)
        assert not progress.held
        assert (reading.offsets(2), later.held) == ([0], True)


async def test_a_partition_that_is_let_go_is_read_at_once(world: World, make_source: MakeSource) -> None:
    """Although a look at the others lasts for seconds, and nothing comes from them."""
    topic = await world.create(new_id(), 2)
    source = await make_source(topic)
    async with Reading(source) as reading:
        for partition in (0, 1):
            await world.produce(topic, b"x", partition=partition)
        await until(lambda: len(reading.reads) == 2, "a record of each")
        held = next(progress for progress, record in reading.reads if record.partition == 0)
        held.hold("model")
        source.released.set()
        await world.produce(topic, b"x", partition=0)
        await world.produce(topic, b"x", partition=1)
        await until(lambda: len(reading.offsets(1)) == 2, "the free one")
        assert reading.offsets(0) == [0]
        held.release("model")
        source.released.set()
        released_s = time.monotonic()
        await until(lambda: len(reading.offsets(0)) == 2, "the one that was held")
        assert time.monotonic() - released_s < POLL_MS / 1000


async def test_what_is_answered_is_committed_before_other_topics_are_read(
    world: World, make_source: MakeSource, prefix: str
) -> None:
    """Whether its topic stays or goes: nobody computes it again because of an order for another model."""
    stays, goes, comes = [await world.create(new_id(), 1) for _ in range(3)]
    source = await make_source(stays)
    await source.subscribe([stays, goes], 60)
    await until(lambda: source.partitions == 2, "both")
    async with Reading(source) as reading:
        for topic in (stays, goes):
            await world.produce(topic, b"x")
        await until(lambda: len(reading.reads) == 2, "a record of each")
        complete(reading.reads)
        await source.subscribe([stays, comes], 0)
    for topic in (stays, goes):
        assert await world.committed(f"{prefix}.interactive", topic) == {0: 1}


async def test_a_commit_of_what_was_given_up_has_nothing_to_settle(world: World, make_source: MakeSource) -> None:
    """It was not settled yet where its partitions begin when others, or none, were subscribed to: no worker ends of
    that, and what comes then is settled."""
    topics = [await world.create(new_id(), 1) for _ in range(2)]
    source = await make_source(topics[0])
    await source.subscribe([], 0)
    assert await source.commit()
    await source.subscribe(topics, 0)
    await until(lambda: source.partitions == 2, "both")
    assert await source.commit()


async def test_a_record_that_waits_for_more_than_half_of_the_retention_is_warned_of(
    world: World, make_source: MakeSource, metrics: Metrics, events: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in a while, not for each; the gauge says how old it is, and forgets it when it is complete."""
    monkeypatch.setattr("embedmq_worker.retention.LOOK_S", 0.1)
    topic = await world.create(new_id(), settings={"retention.ms": "-1"})
    for _ in range(5):
        await world.produce(topic, b"x", partition=0, timestamp_ms=int(time.time() * 1000) - 45_000)
    source = await make_source(topic, retention_ms=60_000)
    async with Reading(source) as reading:
        await until(lambda: len(reading.reads) == 5, "the records")
        for progress, record in reading.reads:
            assert progress.start(record)
        await until(lambda: sample(metrics, "oldest_record_seconds", reader="interactive") >= 45, "its age")
        (warning,) = events.of("retention_near")
        assert (warning["topic"], warning["partition"], warning["levelname"]) == (topic, 0, "WARNING")
        assert warning["age_s"] >= 45
        for progress, found in reading.reads:
            place = (found.topic, found.partition, found.offset)
            progress.complete(Record(*place, found.timestamp, found.key, found.value, found.headers))
        await until(lambda: sample(metrics, "oldest_record_seconds", reader="interactive") == 0, "nothing that waits")


@pytest.fixture
def own_stack() -> Iterator[Stack]:
    """A Kafka of this test's own, to be suspended."""
    with Stack() as stack:
        yield stack


async def test_a_revoke_returns_within_two_seconds_though_kafka_says_nothing(
    own_stack: Stack, make_source: MakeSource
) -> None:
    """The whole group waits for it. What could not be committed is read again by whoever is next. Those seconds count
    in which this process has its turn."""
    (broker,) = own_stack.brokers
    async with World(own_stack.kafka, own_stack.redis) as world:
        topic = await world.create(new_id())
        await world.produce(topic, b"x", partition=0)
        source = await make_source(topic, kafka=own_stack.kafka)
        async with asyncio.timeout(60):
            reading = source.read()
            reads = await anext(reading)
            await reading.aclose()
        complete(reads)
        progress: Progress = reads[0][0]
        assert broker.process is not None
        broker.process.signal(signal.SIGSTOP)
        try:
            revoking = asyncio.create_task(source.revoked({TopicPartition(topic, 0)}))
            tenths = 0
            while not revoking.done():
                await asyncio.wait({revoking}, timeout=0.1)
                tenths += 1
            await revoking
            assert tenths < 20
            assert progress.revoked
        finally:
            broker.process.signal(signal.SIGCONT)
