"""Kafka and Redis of the stack are real, and can be stopped and started."""

from __future__ import annotations

import signal
import socket
import sys
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from embedmq_local.errors import ConfigurationError, PortTaken
from embedmq_local.kafka import live_brokers
from embedmq_local.port import HOST, Port
from embedmq_local.redis_server import RedisServer, find_redis
from embedmq_local.stack import Stack
from redis.asyncio import Redis


async def create_topic(kafka: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 1, len(kafka.split(",")))])
    finally:
        await admin.close()


async def produce(kafka: str, topic: str, value: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all") as producer:
        await producer.send_and_wait(topic, value, partition=0)


async def first_value(kafka: str, topic: str) -> bytes:
    async with AIOKafkaConsumer(topic, bootstrap_servers=kafka, auto_offset_reset="earliest") as consumer:
        return bytes((await consumer.getone()).value)


async def test_a_record_goes_in_and_comes_out(kept: Stack) -> None:
    """The broker speaks Kafka's protocol."""
    await create_topic(kept.kafka, "road")
    await produce(kept.kafka, "road", b"text")
    assert await first_value(kept.kafka, "road") == b"text"


async def test_topics_are_never_created_by_asking_for_them(kept: Stack) -> None:
    """A misspelt topic stays an error."""
    async with AIOKafkaProducer(bootstrap_servers=kept.kafka, request_timeout_ms=500) as producer:
        with pytest.raises(KafkaError):
            await producer.send_and_wait("misspelt", b"text")
    async with AIOKafkaConsumer(bootstrap_servers=kept.kafka) as consumer:
        assert "misspelt" not in await consumer.topics()


async def test_redis_answers_and_evicts_nothing(kept: Stack) -> None:
    """A result is never thrown away for memory's sake."""
    async with Redis.from_url(kept.redis) as redis:
        await redis.set("key", "value")
        assert await redis.get("key") == b"value"
        assert await redis.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


@pytest.mark.parametrize("kill", [False, True])
async def test_a_broker_comes_back_on_its_port_with_its_data(kept: Stack, kill: bool) -> None:
    """Stopped or killed: what was acknowledged is there after the start."""
    topic = f"kept-{kill}"
    await create_topic(kept.kafka, topic)
    await produce(kept.kafka, topic, b"text")
    (broker,), address, pid = kept.brokers, kept.kafka, kept.brokers[0].pid
    code = broker.stop(kill=kill)
    assert code == (-signal.SIGKILL if kill else 128 + signal.SIGTERM)
    assert not broker.running
    broker.start()
    assert kept.kafka == address
    assert broker.pid != pid
    assert await first_value(kept.kafka, topic) == b"text"


async def test_redis_comes_back_on_its_port_with_its_data(kept: Stack) -> None:
    """With a data folder, Redis keeps what it was told."""
    async with Redis.from_url(kept.redis) as redis:
        await redis.set("kept", "value")
    assert kept.redis_server.stop() == 0
    kept.redis_server.start()
    async with Redis.from_url(kept.redis) as redis:
        assert await redis.get("kept") == b"value"


async def test_a_data_folder_serves_one_stack_of_one_size(kept: Stack) -> None:
    """A second stack on the same folder, and another number of brokers, are refused in one line."""
    folder = kept.brokers[0].log.parent.parent
    with pytest.raises(ConfigurationError, match="in use by another stack"), Stack(folder):
        pass
    with pytest.raises(ConfigurationError, match="2 brokers"):
        Stack(brokers=2)


async def test_three_brokers_survive_the_stop_of_one(cluster: Stack) -> None:
    """With one of three gone, a record acknowledged by all in-sync replicas can be written and read."""
    await create_topic(cluster.kafka, "replicated")
    cluster.brokers[1].stop()
    await produce(cluster.kafka, "replicated", b"text")
    assert await first_value(cluster.kafka, "replicated") == b"text"
    cluster.brokers[1].start()
    assert live_brokers(cluster.brokers[1].port.number) == {1, 2, 3}


async def test_two_stacks_stand_beside_each_other(kept: Stack, cluster: Stack) -> None:
    """Neither sees the other's ports or brokers."""
    assert not {*kept.kafka.split(","), kept.redis} & {*cluster.kafka.split(","), cluster.redis}
    assert live_brokers(kept.brokers[0].port.number) == {1}
    assert live_brokers(cluster.brokers[0].port.number) == {1, 2, 3}


def test_a_port_is_given_once() -> None:
    """A port that somebody holds is not a candidate."""
    held = Port()
    with pytest.raises(OSError, match="no free port"):
        Port(range(held.number, held.number + 1))
    held.close()
    Port(range(held.number, held.number + 1)).close()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a listener cannot join a port that is held")
def test_a_port_taken_by_another_program_has_its_own_error(tmp_path: Path) -> None:
    """So that the start can be tried again on another port."""
    (tmp_path / "logs").mkdir()
    server = RedisServer(find_redis(), tmp_path, None, persistent=False)
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thief.bind((HOST, server.port.number))
        thief.listen()
        with pytest.raises(PortTaken, match="redis ended with exit code 1"):
            server.start()
    server.start()
    server.stop()
    server.close()
