"""While Redis or Kafka is away nothing is lost and nothing fails; when they are back, the worker goes on by itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from embedmq_local.redis_server import RedisServer
from embedmq_local.stack import Stack

from tests.worker.conftest import StartWorker
from tests.worker.world import JSON, MSGPACK, TIMEOUT_S, World, as_json, eventually, new_id, packed, start, until

NULL = '[models.null]\ncheckpoint = "null:8"\n'
COMMIT_TIMEOUT_S = 10.0
"""After which a commit that Kafka does not answer is given up, to be tried again."""


async def test_an_offset_is_committed_only_when_its_result_is_in_redis(
    stack: Stack, own_redis: RedisServer, start_worker: StartWorker
) -> None:
    """With Redis away requests are read and computed, and not committed, however long it lasts; once it is back their
    results arrive, in both lanes, the offsets move, and the catalogue is there again at once."""
    worker = start_worker(NULL, env={"EMBEDMQ_REDIS": own_redis.url})
    async with World(stack.kafka, own_redis.url) as world:
        group, topic = f"{worker.prefix}.interactive", worker.topic("null")
        await world.ask(worker, "null", {"items": ["before"]})

        async def offsets() -> int:
            return sum((await world.committed(group, topic)).values())

        async def first() -> bool | None:
            return await offsets() == 1 or None

        await eventually(first, "the first commit")
        own_redis.stop()
        ids = [new_id() for _ in range(20)]
        values = [packed({"id": id, "items": ["x"]}) for id in ids]
        await world.produce_all(topic, values[:10], MSGPACK)
        await world.produce_all(worker.topic("null", "bulk"), values[10:], MSGPACK)
        await until(lambda: worker.metric("items_total") >= 21, "all of it computed")
        await until(lambda: bool(worker.events("redis_away")), "a worker that has noticed")
        assert worker.metric("redis_up") == 0
        assert worker.get("/health")[0] == worker.get("/ready")[0] == 200
        assert await offsets() == 1
        own_redis.start()
        await world.redis.connection_pool.disconnect()
        for id in ids:
            assert (await world.kept(worker, id))["type"] == "embedded"

        async def moved() -> bool | None:
            return await offsets() == 11 or None

        await eventually(moved, "the commit of what was delivered")
        assert worker.metric("redis_up") == 1
        assert worker.metric("dead_letters_total") == 0

        async def published() -> bool | None:
            keys = await world.redis.keys(f"{worker.prefix}:worker:*")
            return (len(keys) == 1 and bool(await world.redis.get(f"{worker.prefix}:model:null"))) or None

        await eventually(published, "the catalogue")


async def test_a_stop_while_redis_is_away_ends_in_time_and_loses_nothing(
    stack: Stack, own_redis: RedisServer, start_worker: StartWorker
) -> None:
    """After the grace the worker leaves what it could not deliver uncommitted, and another one delivers it."""
    env = {"EMBEDMQ_REDIS": own_redis.url, "EMBEDMQ_WORKER__SHUTDOWN_GRACE_S": "1"}
    worker, id = start_worker(NULL, env=env), new_id()
    async with World(stack.kafka, own_redis.url) as world:
        own_redis.stop()
        await world.produce(worker.topic("null"), as_json({"id": id, "items": ["x"]}), JSON)
        await until(lambda: worker.metric("items_total") == 1, "the request computed")
        assert worker.process.stop(timeout_s=TIMEOUT_S) == 0
        assert worker.events("grace_passed")
        own_redis.start()
        await world.redis.connection_pool.disconnect()
        start_worker(NULL, env=env, ready=False)
        assert (await world.kept(worker, id))["type"] == "embedded"


async def test_a_key_of_another_type_is_one_request_undeliverable_and_no_outage(
    world: World, start_worker: StartWorker
) -> None:
    """What Redis refuses for good is not tried for ever."""
    worker, client = start_worker(NULL), new_id()
    await world.redis.set(f"{worker.prefix}:replies:{client}", "not a stream")
    id, after = new_id(), new_id()
    request = {"id": id, "items": ["x"], "reply": {"type": "stream", "client": client}}
    await world.produce(worker.topic("null"), packed(request), MSGPACK)
    assert (await world.kept(worker, id))["code"] == "undeliverable"
    assert (await world.ask(worker, "null", {"id": after, "items": ["x"]}))["type"] == "embedded"
    assert dict((await world.dead_letter(worker, id)).headers)["embedmq-error-code"] == b"undeliverable"


@pytest.fixture
async def own_stack() -> AsyncIterator[Stack]:
    """A Kafka of this test's own, to be stopped."""
    with Stack() as stack:
        yield stack


@pytest.mark.timeout(240)
async def test_kafka_may_go_and_come_back(own_stack: Stack, tmp_path: Path, prefix: str) -> None:
    """What was complete is committed once Kafka is back, although no further request comes; a reply to a topic waits
    for Kafka; nothing fails and nothing is a dead letter."""
    (broker,) = own_stack.brokers
    worker = start(own_stack, tmp_path, prefix, '[models.slow]\ncheckpoint = "null:8?batch_ms=1"\n')
    worker.process.wait_ready()
    group, topic = f"{prefix}.interactive", worker.topic("slow")

    async def outage(request: dict[str, object], sign: str) -> None:
        """Kafka goes while a request is on the device, and comes back when the worker has felt it."""
        with worker.hold.on("batch") as held:
            async with World(own_stack.kafka, own_stack.redis) as world:
                await world.produce(topic, as_json(request), JSON)
                await until(held, "the request on the device")
            broker.stop(kill=True)
        await until(lambda: bool(worker.events(sign)), sign, COMMIT_TIMEOUT_S + TIMEOUT_S)
        broker.start()

    await outage({"id": (kept := new_id()), "items": ["x"]}, "commit_failed")
    async with World(own_stack.kafka, own_stack.redis) as world:
        assert (await world.kept(worker, kept))["type"] == "embedded"

        async def committed() -> bool | None:
            return sum((await world.committed(group, topic)).values()) == 1 or None

        await eventually(committed, "the commit")
        replies = await world.create(new_id())
    await outage(
        {"id": (id := new_id()), "items": ["x"], "reply": {"type": "topic", "topic": replies}}, "produce_failed"
    )
    async with World(own_stack.kafka, own_stack.redis) as world:
        reply = await world.record(replies, lambda record: True)
        assert (reply.key, json.loads(reply.value)["type"]) == (id.encode(), "embedded")
        assert (await world.ask(worker, "slow", {"items": ["after"]}))["type"] == "embedded"
        assert worker.metric("dead_letters_total") == 0
