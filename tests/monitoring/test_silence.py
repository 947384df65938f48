"""That Kafka hangs is told by workers that have nothing to do, too."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from embedmq_local.stack import Stack
from embedmq_worker.config import Kafka
from embedmq_worker.metrics import Metrics
from embedmq_worker.source import Source

from tests.worker.world import World, new_id, until


@pytest.fixture
def own_stack() -> Iterator[Stack]:
    """A Kafka of this test's own, to be suspended."""
    with Stack() as stack:
        yield stack


async def nothing_is_revoked() -> None:
    """Nothing of it waits anywhere else."""


async def test_a_source_that_has_nothing_to_read_or_commit_notices_that_kafka_says_nothing(
    own_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For as long as that lasts, and no longer: the alarm is made of it."""
    monkeypatch.setattr("embedmq_worker.retention.LOOK_S", 0.5)
    (broker,) = own_stack.brokers
    async with World(own_stack.kafka, own_stack.redis) as world:
        topic = await world.create(new_id())
        settings = Kafka(bootstrap=[own_stack.kafka])
        source = Source("bulk", new_id(), [topic], settings, "w", Metrics(), nothing_is_revoked)
        await source.start()
        try:
            await until(source.joined.is_set, "the assignment")
            assert await source.commit()
            await until(lambda: source.away_s == 0, "an answer")
            assert broker.process is not None
            broker.process.signal(signal.SIGSTOP)
            try:
                await until(lambda: source.away_s > 1, "the silence")
            finally:
                broker.process.signal(signal.SIGCONT)
            await until(lambda: source.away_s == 0, "an answer again")
        finally:
            await source.close()
