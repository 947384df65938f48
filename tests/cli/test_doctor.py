"""`embedmq doctor` finds what is wrong with real servers and real topics, and says what to do about it."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from embedmq_local.redis_server import RedisServer, find_redis
from embedmq_local.stack import Stack
from redis import Redis

from tests.cli.conftest import Done, Run

DAY_MS = 24 * 3600 * 1000
GOOD = {"compression.type": "uncompressed", "retention.ms": str(7 * DAY_MS), "max.message.bytes": "10000000"}


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis of this module's own, to be set wrong."""
    folder = tmp_path_factory.mktemp("redis")
    server = RedisServer(find_redis(), folder, None, persistent=False)
    server.log.parent.mkdir()
    server.start()
    yield server
    server.stop(kill=True)
    server.close()


def by_name(done: Done) -> dict[str, dict[str, Any]]:
    """The checks of a run; of several under one name, the last."""
    return {check["name"]: check for check in done.lines}


def bad(done: Done, name: str) -> list[str]:
    """What was found bad under a name, each with its remedy."""
    return [f"{check['found']}: {check['remedy']}" for check in done.lines if check["name"] == name and not check["ok"]]


def create(stack: Stack, topics: Mapping[str, tuple[int, Mapping[str, str]]]) -> None:
    """Topics with so many partitions, and settings."""

    async def run() -> None:
        admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
        await admin.start()
        try:
            new = [NewTopic(name, count, 1, topic_configs=dict(own)) for name, (count, own) in topics.items()]
            answer = await admin.create_topics(new)
            assert {code for _, code, *_ in answer.topic_errors} == {0}, answer
        finally:
            await admin.close()

    asyncio.run(run())


@contextmanager
def black_hole() -> Iterator[int]:
    """A port where nobody says no, and nobody answers: whoever comes after the first few waits at the door."""
    with ExitStack() as stack:
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent.getsockname())
        yield silent.getsockname()[1]


def test_nothing_is_wrong_with_topics_made_here(embedmq: Run) -> None:
    """Everything from the ground up, each with what was found; the worker's part says how to have it looked at."""
    embedmq("topics", "create", "bge", "--shared")
    done = embedmq("doctor", "--json")
    found = by_name(done)
    assert done.code == 0
    assert [name for name, check in found.items() if check["ok"] is False] == []
    assert list(found)[:7] == ["settings", "kafka", "kafka brokers", "kafka version", "kafka rights", "topics", "lag"]
    assert "Kafka 4.0 or newer" in found["kafka version"]["found"]
    assert found["kafka rights"]["found"] == "Write on 4 request topics"
    assert found["redis eviction"]["found"] == "noeviction"
    assert found["configuration"]["ok"] is None
    assert "--config" in found["configuration"]["remedy"]
    assert embedmq("doctor").out.count("\n") == len(done.lines)


def test_each_fault_of_a_topic_is_named_with_the_topic_and_the_remedy(embedmq: Run, stack: Stack, prefix: str) -> None:
    """Topics that somebody made by hand, or that the broker made by itself."""
    week = str(7 * DAY_MS)
    create(
        stack,
        {
            f"{prefix}.one.interactive": (1, {**GOOD, "retention.ms": "3600000"}),
            f"{prefix}.one.bulk": (2, {**GOOD, "retention.ms": str(DAY_MS), "retention.bytes": "1000"}),
            f"{prefix}.two.bulk": (2, {**GOOD, "compression.type": "producer", "cleanup.policy": "compact"}),
            f"{prefix}.two.interactive": (2, {**GOOD, "max.message.bytes": "2000", "min.insync.replicas": "2"}),
            f"{prefix}.retry.10s": (1, {"retention.ms": week, "unclean.leader.election.enable": "true"}),
            f"{prefix}.control": (2, {}),
        },
    )
    done = embedmq("doctor", "--json")
    told = "\n".join(bad(done, "topics"))
    assert done.code == 1
    for what, remedy in (
        (f"{prefix}.dead is missing", "embedmq topics create"),
        (f"{prefix}.one.interactive, {prefix}.retry.10s: one partition", "--alter --partitions"),
        (f"{prefix}.one.interactive: keeps records for 0.0417 days", f"retention.ms={week}"),
        (f"{prefix}.one.bulk: keeps records for 1 days, where 7", f"retention.ms={week}"),
        (f"{prefix}.one.bulk: retention.bytes=1000", "retention.bytes=-1"),
        (f"{prefix}.two.bulk: compression.type=producer", "set compression.type=uncompressed"),
        (f"{prefix}.two.bulk: cleanup.policy=compact", "cleanup.policy=delete"),
        (f"{prefix}.two.interactive: max.message.bytes=2000", "max.message.bytes=1048588"),
        (f"{prefix}.two.interactive: min.insync.replicas=2 of 1 copies", "nothing can be written"),
        (f"{prefix}.retry.10s: unclean.leader.election.enable=true", "set it to false"),
        (f"{prefix}.control: 2 partitions", "make it anew"),
        (f"{prefix}.control: cleanup.policy=delete", "cleanup.policy=compact"),
    ):
        assert [line for line in told.splitlines() if what in line and remedy in line], (what, remedy, told)


def test_what_waits_for_longer_than_half_of_the_retention_is_told(embedmq: Run, stack: Stack, prefix: str) -> None:
    """Before Kafka removes it. What was written since then is not counted."""
    embedmq("topics", "create", "bge")

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=stack.kafka) as producer:
            old_ms = int(time.time() * 1000) - 4 * DAY_MS
            for age_ms in (old_ms, old_ms, None):
                await producer.send_and_wait(f"{prefix}.bge.bulk", b"{}", partition=0, timestamp_ms=age_ms)

    asyncio.run(send())
    done = embedmq("doctor", "--json")
    assert done.code == 1
    (told,) = bad(done, "lag")
    assert f"{prefix}.bge.bulk has 2: start workers" in told


def test_a_redis_that_would_lose_results_is_told(embedmq: Run, redis: RedisServer) -> None:
    """Eviction, and no room; `CONFIG SET` on a real one."""
    with closing(Redis.from_url(redis.url)) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
        client.config_set("maxmemory", 1)
        try:
            done = embedmq("doctor", "--redis", redis.url, "--json")
        finally:
            client.config_set("maxmemory", 0)
            client.config_set("maxmemory-policy", "noeviction")
    found = by_name(done)
    assert found["redis eviction"]["found"] == "allkeys-lru"
    assert "maxmemory-policy noeviction" in found["redis eviction"]["remedy"]
    assert "raise maxmemory" in found["redis room"]["remedy"]
    assert found["clock"]["ok"]


def test_a_replica_is_not_taken_for_a_primary(embedmq: Run, redis: RedisServer, stack: Stack) -> None:
    """It would refuse every write."""
    with closing(Redis.from_url(redis.url)) as client:
        client.replicaof("127.0.0.1", "1")
        try:
            found = by_name(embedmq("doctor", "--redis", redis.url, "--json"))
        finally:
            client.replicaof("NO", "ONE")
    assert found["redis role"]["ok"] is False
    assert "name the one primary" in found["redis role"]["remedy"]


def test_servers_that_are_not_there_are_told_and_all_else_is_skipped(embedmq: Run) -> None:
    """With exit code 3, also where nobody refuses, but nobody answers either."""
    with black_hole() as port:
        began_s = time.monotonic()
        done = embedmq("--kafka", f"127.0.0.1:1,127.0.0.1:{port}", "--redis", "redis://127.0.0.1:1", "doctor", "--json")
        took_s = time.monotonic() - began_s
    found = by_name(done)
    assert done.code == 3
    assert took_s < 60
    assert "127.0.0.1:1: " in found["kafka"]["found"]
    assert f"127.0.0.1:{port}: no answer" in found["kafka"]["found"]
    assert found["kafka"]["remedy"]
    assert not found["redis"]["ok"]
    for name in ("kafka brokers", "kafka version", "kafka rights", "topics", "lag"):
        assert found[name]["found"] == "not looked at: Kafka is not reached"
    for name in ("redis version", "redis rights", "redis eviction", "clock"):
        assert found[name]["found"] == "not looked at: Redis is not reached"


def test_one_dead_address_of_two_is_told_and_the_rest_looked_at(embedmq: Run, stack: Stack) -> None:
    """Until the other one is away, nobody notices."""
    embedmq("topics", "create", "bge")
    found = by_name(embedmq("--kafka", f"127.0.0.1:1,{stack.kafka}", "doctor", "--json"))
    assert found["kafka"]["ok"]
    assert "no answer from 127.0.0.1:1" in found["kafka brokers"]["found"]
    assert found["topics"]["ok"]


def test_a_wrong_setting_is_a_finding_as_well(embedmq: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With exit code 2, and no secret of an address that cannot be read."""
    monkeypatch.setenv("EMBEDMQ_KAFKA__SASL_MECHANISM", "PLAIN")
    done = embedmq("doctor", "--json")
    assert done.code == 2
    assert "EMBEDMQ_KAFKA__SASL_USERNAME" in by_name(done)["settings"]["found"]
    assert by_name(done)["kafka"]["found"] == "not looked at: the settings are wrong"
    monkeypatch.delenv("EMBEDMQ_KAFKA__SASL_MECHANISM")
    done = embedmq("doctor", "--redis", "redis://:s3cr/et@127.0.0.1:6379")
    assert done.code == 2
    assert "percent-encode" in done.out
    assert "s3cr" not in done.out + done.err


def test_a_worker_is_looked_at_for_its_own_needs(embedmq: Run, prefix: str, tmp_path: Path) -> None:
    """Rights, and topics that do not agree with its configuration; a model is loaded where that is asked for."""
    embedmq("topics", "create", "tiny", "--retention-days", "8")
    file = tmp_path / "worker.toml"
    text = '[worker]\nhttp = "127.0.0.1:0"\nretry_delays_s = [10]\n[models.tiny]\ncheckpoint = "null:8?mib=3"\n'
    file.write_text(f"{text}[kafka]\nretention_ms = {9 * DAY_MS}\n[redis]\nwait_replicas = 1\n")
    done = embedmq("doctor", "--config", str(file), "--load", "--json")
    found = by_name(done)
    assert done.code == 1
    assert "kafka rights" not in found
    assert found["worker's kafka rights"]["ok"], json.dumps(found)
    assert found["worker's redis rights"]["ok"]
    assert found["retry topics"]["found"] == f"not read: {prefix}.retry.5m"
    assert f"{prefix}.tiny.bulk keeps 192 h" in found["retention"]["found"]
    assert "says 216 h" in found["retention"]["found"]
    assert "3 MiB" in found["load tiny"]["found"]
