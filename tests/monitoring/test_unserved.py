"""What waits for a model that nobody serves is told by those who serve others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from embedmq_local.stack import Stack
from embedmq_schemas.names import Names
from embedmq_worker.config import Kafka, Model
from embedmq_worker.metrics import Metrics
from embedmq_worker.roster import Roster
from embedmq_worker.served import Served
from embedmq_worker.topics import Topics
from embedmq_worker.unserved import Place, Unserved, next_turn, unread

from tests.worker.world import World

FIRST = TopicPartition("p.m.bulk", 0)


@pytest_asyncio.fixture
async def world(stack: Stack) -> AsyncIterator[World]:
    """The stack's Kafka and Redis."""
    async with World(stack.kafka, stack.redis) as world:
        yield world


def said(metrics: Metrics) -> dict[tuple[str, str], float]:
    """By model and lane."""
    families = {family.name: family for family in metrics.registry.collect()}
    samples = families["embedmq_unserved_records"].samples
    return {(sample.labels["model"], sample.labels["lane"]): sample.value for sample in samples}


async def commit(stack: Stack, names: Names, tp: TopicPartition) -> None:
    """As a worker that has answered one request."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=stack.kafka, group_id=names.group("interactive"), enable_auto_commit=False
    )
    consumer.assign([tp])
    await consumer.start()
    try:
        await consumer.commit({tp: 1})
    finally:
        await consumer.stop()


async def test_requests_that_nobody_reads_are_counted_by_a_worker_that_serves_another_model(
    stack: Stack, world: World, prefix: str
) -> None:
    """Whether its file knows the model or not; what others commit, or it reads itself, is none of its business."""
    names, metrics, settings = Names(prefix), Metrics(), Kafka(bootstrap=[stack.kafka])
    for model in ("ours", "off", "gone", "others"):
        await world.create(names.requests(model, "interactive"), 2)
        for partition in (0, 1):
            await world.produce(names.requests(model, "interactive"), b"x", partition=partition)
    await world.create(names.shared("bulk"))
    await world.produce(names.shared("bulk"), b"x", partition=0)
    models = {"ours": Model(checkpoint="null:8"), "off": Model(checkpoint="null:8", served=False)}
    first, second = (TopicPartition(names.requests("others", "interactive"), number) for number in (0, 1))
    await commit(stack, names, first)
    topics = Topics(settings)
    await topics.start()
    try:
        unserved = Unserved(settings, names, Roster(Served(models)), topics, metrics)
        await unserved.look()
        assert said(metrics) == {}, "somebody may be about to read them"
        await commit(stack, names, second)
        await unserved.look()
        waiting = {("off", "interactive"): 2.0, ("gone", "interactive"): 2.0, ("shared", "bulk"): 1.0}
        assert said(metrics) == waiting
        await commit(stack, names, TopicPartition(names.requests("off", "interactive"), 0))
        await unserved.look()
        del waiting["off", "interactive"]
        assert said(metrics) == waiting
    finally:
        await topics.close()


def test_only_what_waited_before_and_of_which_nothing_was_committed_is_unread() -> None:
    """A request that has just come is not, and no long queue is that somebody works on."""
    assert unread(None, Place({}, 5)) == 0
    assert unread(Place({}, 0), Place({}, 5)) == 0
    assert unread(Place({FIRST: 7}, 9), Place({FIRST: 8}, 9)) == 0
    assert unread(Place({FIRST: 7}, 9), Place({FIRST: 7}, 12)) == 12
    assert unread(Place({FIRST: 7}, 9), Place({FIRST: 7}, 0)) == 0


def test_every_topic_has_its_turn() -> None:
    """However many there are; those that come and go keep nobody from it."""
    topics, last, seen = [f"t{number}" for number in range(7)], "", list[str]()
    for _ in range(4):
        turn = next_turn(topics, last, 2)
        last = turn[-1]
        seen += turn
    assert seen[:7] == topics
    assert seen[7:] == ["t0"]
    assert next_turn(topics, "t3x", 2) == ["t4", "t5"]
    assert next_turn([], "t3", 2) == []
