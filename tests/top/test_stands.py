"""Where a worker's partitions stand, of which it reads nothing: against real Kafka."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest_asyncio
from embedmq_local.stack import Stack
from embedmq_schemas.envelope import Record
from embedmq_worker.config import Kafka
from embedmq_worker.lag import Stand
from embedmq_worker.metrics import Metrics
from embedmq_worker.source import Source

from tests.worker.world import World, new_id, until


@pytest_asyncio.fixture
async def world(stack: Stack) -> AsyncIterator[World]:
    """The stack's Kafka and Redis."""
    async with World(stack.kafka, stack.redis) as world:
        yield world


async def nothing_is_revoked() -> None:
    """Nothing of it waits anywhere else."""


async def test_what_comes_is_counted_though_nothing_is_read(stack: Stack, world: World, prefix: str) -> None:
    """As under overload: what was fetched is not taken, so Kafka is asked where the partition ends. Nothing was read of
    the first record, so it has waited since the assignment at least; once it is read, its own time counts.
    """
    topic = await world.create(new_id())
    sent_ms = int(time.time() * 1000) - 3_600_000
    settings = Kafka(bootstrap=[stack.kafka], heartbeat_interval_ms=200)
    source = Source("bulk", f"{prefix}.bulk", [topic], settings, "w", Metrics(), nothing_is_revoked)
    await source.start()
    try:
        await world.produce(topic, b"x", partition=0, timestamp_ms=sent_ms)
        await until(source.joined.is_set, "the assignment")
        assert await source.commit()

        def waiting() -> Stand:
            return max(source.stands())

        await until(lambda: waiting().unread == 1, "the first")
        assert (waiting().oldest_unix_ms or 0) > sent_ms + 3_000_000
        for _ in range(4):
            await world.produce(topic, b"x", partition=0, timestamp_ms=sent_ms + 1)
        await until(lambda: waiting().unread == 5, "those that came since")
        async for reads in source.read():
            for progress, record in reads:
                assert progress.start(record)
                assert waiting().oldest_unix_ms == sent_ms
            stand = waiting()
            assert (stand.records, stand.oldest_unix_ms) == (5, sent_ms)
            for progress, found in reads:
                place = (found.topic, found.partition, found.offset)
                progress.complete(Record(*place, found.timestamp, found.key, found.value, found.headers))
            assert sum(stand.records for stand in source.stands()) == 5 - len(reads)
            source.stop()
    finally:
        await source.close()
