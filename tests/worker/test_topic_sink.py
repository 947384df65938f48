"""A reply that Kafka will never take is undeliverable; dead letters and retries are never given up."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Literal

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.protocol.admin import CreateAclsRequest, DeleteAclsRequest
from embedmq_local.stack import Stack
from embedmq_schemas.names import Names
from embedmq_schemas.topics import RETRY_PARTITIONS
from embedmq_worker.config import Config, Kafka, Model, Worker
from embedmq_worker.metrics import Metrics
from embedmq_worker.plan import TopicWrite
from embedmq_worker.topic_sink import TopicSink
from embedmq_worker.topics import Topics, ensure, retry_topics, wanted

from tests.worker.conftest import StartWorker
from tests.worker.jobs import make_outcome
from tests.worker.world import JSON, Running, World, as_json, eventually, new_id, start, until

NULL = '[models.null]\ncheckpoint = "null:8"\n'
BROKEN = {"items": [7]}
TOPIC, LITERAL, ANY_HOST, EVERYBODY = 2, 3, "*", "User:ANONYMOUS"
ALL, WRITE = 2, 4
DENY, ALLOW = 2, 3
AUTHORIZER = """
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
"""


class Cluster:
    """What an administrator does to topics."""

    def __init__(self, admin: AIOKafkaAdminClient) -> None:
        self._admin = admin

    async def delete(self, topic: str) -> None:
        """Delete a topic and wait until it is gone."""
        await self._admin.delete_topics([topic])

        async def gone() -> bool | None:
            (found,) = await self._admin.describe_topics([topic])
            return bool(found["error_code"]) or None

        await eventually(gone, f"the end of {topic}")

    async def alter(self, topic: str, settings: Mapping[str, str]) -> None:
        """Give a topic these settings, and the broker's for all others."""
        await self._admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict(settings))])

    async def deny_writing(self, topic: str) -> None:
        """Whoever may do everything else may not write."""
        for operation, permission in ((ALL, ALLOW), (WRITE, DENY)):
            answer = await self._admin._send_request(
                CreateAclsRequest(TOPIC, topic, LITERAL, EVERYBODY, ANY_HOST, operation, permission)
            )
            assert [code for code, _ in answer.creation_responses] == [0]

    async def allow_writing(self, topic: str) -> None:
        await self._admin._send_request(DeleteAclsRequest(TOPIC, topic, LITERAL, EVERYBODY, ANY_HOST, WRITE, DENY))


@contextlib.asynccontextmanager
async def administer(kafka: str) -> AsyncIterator[Cluster]:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        yield Cluster(admin)
    finally:
        await admin.close()


@pytest.fixture
async def cluster(stack: Stack) -> AsyncIterator[Cluster]:
    async with administer(stack.kafka) as cluster:
        yield cluster


@pytest.fixture
def config(stack: Stack, prefix: str) -> Config:
    kafka = Kafka(bootstrap=stack.kafka.split(","), retry_partitions=3, replication=1)
    return Config(prefix=prefix, kafka=kafka, models={"m": Model(checkpoint="null:8")})


@pytest.fixture
async def sink(config: Config) -> AsyncIterator[TopicSink]:
    """A sink as the worker has it, with its topics there."""
    topics = Topics(config.kafka)
    await topics.start()
    sink = TopicSink(config, topics, Metrics())
    try:
        await ensure(topics, wanted(config, Names(config.prefix)))
        await sink.start()
        yield sink
    finally:
        await sink.close()
        await topics.close()


def record(topic: str, id: str, value: bytes, kind: Literal["reply", "dead", "retry"] = "reply") -> TopicWrite:
    return TopicWrite(topic, None, id.encode(), value, [], None, make_outcome(id=id), kind)


async def keys(world: World, topic: str) -> list[str]:
    return sorted(record.key.decode() for record in await world.records(topic))


async def test_every_delay_has_a_topic_of_its_own_before_the_worker_subscribes(
    world: World, worker: Running, config: Config
) -> None:
    """Retry topics are made like the dead letters', with partitions of their own count."""
    assert await world.partitions(f"{worker.prefix}.retry.1s") == RETRY_PARTITIONS
    bound = "max.message.bytes"
    assert (await world.settings(f"{worker.prefix}.retry.1s"))[bound] == (await world.settings(worker.dead))[bound]
    names = Names("p")
    minutes = Config(worker=Worker(retry_delays_s=[60, 90, 60]), models=config.models)
    assert retry_topics(minutes, names) == ["p.retry.1m", "p.retry.90s"]
    assert len({topic.name for topic in wanted(minutes, names)}) == len(wanted(minutes, names)) == 4


async def test_one_reply_that_is_too_large_does_not_refuse_the_others_of_its_batch(
    world: World, sink: TopicSink
) -> None:
    """Kafka refuses whole batches; those that fit alone get through, also where only the batch was too large."""
    topic = await world.create(new_id(), 1, {"max.message.bytes": "1000"})
    small = [record(topic, f"small-{n}", bytes(100)) for n in range(40)]
    faults = await sink.write([*small[:20], record(topic, "large", bytes(2_000)), *small[20:]])
    assert [(ending.job.envelope.id, fault.code) for ending, fault in faults] == [("large", "undeliverable")]
    assert await keys(world, topic) == sorted(f"small-{n}" for n in range(40))


async def test_a_retry_that_is_too_large_to_be_written_is_a_fault(
    world: World, sink: TopicSink, cluster: Cluster, config: Config
) -> None:
    """Its request fails then, rather than hold up all others; those that fit are written."""
    topic = Names(config.prefix).retry(10)
    await cluster.alter(topic, {"max.message.bytes": "1000"})
    writes = [record(topic, "large", bytes(2_000), "retry"), record(topic, "small", b"", "retry")]

    async def too_small() -> bool | None:
        return [fault.code for _, fault in await sink.write(writes)] == ["undeliverable"] or None

    await eventually(too_small, "the new setting")
    assert "large" not in (await keys(world, topic))[-1]


async def test_a_retry_topic_that_was_deleted_is_created_again_with_its_settings(
    world: World, sink: TopicSink, cluster: Cluster, config: Config
) -> None:
    """Also one that the producer has written to before, and that it believes to be there."""
    topic = Names(config.prefix).retry(300)
    assert await sink.write([record(topic, "before", b"x", "retry")]) == []
    settings = await world.settings(topic)
    await cluster.delete(topic)
    assert await sink.write([record(topic, f"after-{n}", b"x", "retry") for n in range(5)]) == []
    assert await keys(world, topic) == [f"after-{n}" for n in range(5)]
    assert (await world.partitions(topic), await world.settings(topic)) == (3, settings)


async def test_a_reply_topic_too_small_for_a_result_makes_it_undeliverable(world: World, worker: Running) -> None:
    """The failure is kept, a dead letter has the request, and the next reply that fits goes there."""
    topic, id, after = await world.create(new_id(), 1, {"max.message.bytes": "4000"}), new_id(), new_id()
    reply = {"type": "topic", "topic": topic}
    await world.produce(worker.topic("wide"), as_json({"id": id, "items": ["x"], "reply": reply}), JSON)
    failed = await world.kept(worker, id)
    assert (failed["type"], failed["code"]) == ("failed", "undeliverable")
    assert len(await world.dead_letters(worker, id)) == 1
    await world.produce(worker.topic("null"), as_json({"id": after, "items": ["x"], "reply": reply}), JSON)
    assert (await world.record(topic, lambda record: True)).key == after.encode()


async def test_a_dead_letter_too_large_for_its_topic_is_counted_and_holds_up_nobody(
    world: World, prefix: str, start_worker: StartWorker
) -> None:
    """Its caller has an answer, the log its place; dead letters that fit are written."""
    await world.create(f"{prefix}.dead", 1, {"max.message.bytes": "2000"})
    worker = start_worker(NULL)
    large, small = new_id(), [new_id() for _ in range(10)]
    requests = [as_json({"id": id, **BROKEN}) for id in small]
    requests.append(as_json({"id": large, **BROKEN, "meta": {"k": "v" * 3_000}}))
    await world.produce_all(worker.topic("null"), requests, JSON)
    assert (await world.kept(worker, large))["code"] == "malformed"
    for id in small:
        await world.dead_letter(worker, id)
    await until(lambda: worker.metric("dead_letters_refused_total") == 1, "the count")
    (event,) = worker.events("dead_letter_refused")
    assert event["id"] == large
    assert (await world.ask(worker, "null", {"items": ["after"]}))["type"] == "embedded"


async def test_a_dead_letter_topic_that_was_deleted_is_created_again(
    world: World, cluster: Cluster, start_worker: StartWorker
) -> None:
    """Nothing is lost, nothing fails, and the log says so."""
    worker = start_worker(NULL)
    before, after = new_id(), new_id()
    await world.produce(worker.topic("null"), as_json({"id": before, **BROKEN}), JSON)
    await world.dead_letter(worker, before)
    settings = await world.settings(worker.dead)
    await cluster.delete(worker.dead)
    await world.produce(worker.topic("null"), as_json({"id": after, **BROKEN}), JSON)
    await until(lambda: bool(worker.events("topic_created_again")), "the topic")
    await world.dead_letter(worker, after)
    assert (await world.partitions(worker.dead), await world.settings(worker.dead)) == (1, settings)
    assert (await world.ask(worker, "null", {"items": ["after"]}))["type"] == "embedded"


@pytest.fixture
def guarded_stack() -> Iterator[Stack]:
    """A Kafka that checks who may do what."""
    with Stack() as stack:
        (broker,) = stack.brokers
        broker.stop(kill=True)
        with (broker.log.parent.parent / broker.name / "server.properties").open("a") as properties:
            properties.write(AUTHORIZER)
        broker.start()
        yield stack


@pytest.mark.timeout(120)
async def test_a_denied_reply_is_undeliverable_and_a_denied_dead_letter_is_waited_for(
    guarded_stack: Stack, tmp_path: Path, prefix: str
) -> None:
    """The caller chose the reply's topic, so its request fails. Of the dead letters the worker holds back what follows
    until it may write them: an alarm in log and metrics, no commit, none lost.
    """
    worker = start(guarded_stack, tmp_path, prefix, NULL)
    worker.process.wait_ready()
    group, source, id, held = f"{prefix}.interactive", worker.topic("null"), new_id(), new_id()
    async with World(guarded_stack.kafka, guarded_stack.redis) as world, administer(guarded_stack.kafka) as cluster:

        async def committed() -> int:
            return sum((await world.committed(group, source)).values())

        await cluster.deny_writing(topic := await world.create(new_id()))
        request = {"id": id, "items": ["x"], "reply": {"type": "topic", "topic": topic}}
        await world.produce(source, as_json(request), JSON)
        failed = await world.kept(worker, id)
        assert (failed["code"], "may not Write" in failed["message"]) == ("undeliverable", True)
        await world.dead_letter(worker, id)

        await cluster.deny_writing(worker.dead)
        await world.produce(source, as_json({"id": held, **BROKEN}), JSON)
        await until(lambda: bool(worker.events("dead_letter_blocked")), "the alarm")
        assert worker.events("dead_letter_blocked", to=worker.dead, topic=source, id=held)
        assert worker.metric("dead_letters_blocked") == 1
        assert worker.get("/ready")[0] == 200
        assert await committed() <= 1
        assert await world.dead_letters(worker, held) == []

        await cluster.allow_writing(worker.dead)
        await world.dead_letter(worker, held)

        async def moved() -> bool | None:
            return await committed() == 2 or None

        await eventually(moved, "the commit")
        assert worker.metric("dead_letters_blocked") == 0
