"""What does another program see of a worker: its records in Kafka, its keys in Redis, its HTTP answers, its log?"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from embedmq_local.server import Server
from embedmq_local.stack import Stack
from embedmq_local.worker import Worker
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from tests import held
from tests.held import Hold

T = TypeVar("T")

NO_HOLD = Hold(Path("of no worker"))
POLL_S = 0.02
TIMEOUT_S = 60.0
"""Guards against waiting for ever, and says nothing of how long anything may take."""
HTTP_TIMEOUT_S = 30.0

JSON = [("content-type", b"application/json")]
MSGPACK = [("content-type", b"application/msgpack")]
TEXT = [("content-type", b"text/plain")]

Headers = Sequence[tuple[str, bytes | None]]


async def eventually(probe: Callable[[], Awaitable[T | None]], what: str, timeout_s: float = TIMEOUT_S) -> T:
    """Ask until there is an answer; the test fails, saying what did not come, when the time is over."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    while (found := await probe()) is None:
        assert loop.time() < deadline_s, f"{what}: not within {timeout_s:g} s"
        await asyncio.sleep(POLL_S)
    return found


async def until(holds: Callable[[], bool], what: str, timeout_s: float = TIMEOUT_S) -> None:
    """Wait until something holds that needs no awaiting to be seen."""

    async def probe() -> bool | None:
        return holds() or None

    await eventually(probe, what, timeout_s)


def new_id() -> str:
    return uuid.uuid4().hex


def packed(request: Mapping[str, object]) -> bytes:
    return msgspec.msgpack.encode(request)


def as_json(request: Mapping[str, object]) -> bytes:
    return json.dumps(request).encode()


@dataclass
class Running:
    """One worker process under a prefix of its own."""

    process: Worker
    prefix: str
    hold: Hold = NO_HOLD

    def topic(self, model: str, lane: str = "interactive") -> str:
        return f"{self.prefix}.{model}.{lane}"

    @property
    def dead(self) -> str:
        return f"{self.prefix}.dead"

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of one HTTP request."""
        host, _, port = self.process.http.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=HTTP_TIMEOUT_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels; 0 when there are none."""
        return sum(
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics")[1])
            for sample in family.samples
            if sample.name == f"embedmq_{name}" and labels.items() <= sample.labels.items()
        )

    def lines(self) -> list[str]:
        """The log, less a line that is being written."""
        return self.process.log.read_text().split("\n")[:-1]

    def events(self, name: str | None = None, **fields: object) -> list[dict[str, Any]]:
        """The log, or the events of one name and with these fields."""
        events = [json.loads(line) for line in self.lines() if line.startswith("{")]
        return [
            event for event in events if (name is None or event["event"] == name) and fields.items() <= event.items()
        ]


class World:
    """Kafka and Redis by their own clients."""

    def __init__(self, kafka: str, redis: str) -> None:
        self.kafka = kafka
        self.redis: Redis = Redis.from_url(redis)
        self._producer = AIOKafkaProducer(
            bootstrap_servers=kafka, acks="all", max_request_size=64 * 2**20, enable_idempotence=True
        )
        self._admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._stack.push_async_callback(self.redis.aclose)
        await self._producer.start()
        self._stack.push_async_callback(self._producer.stop)
        await self._admin.start()
        self._stack.push_async_callback(self._admin.close)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def produce(
        self,
        topic: str,
        value: bytes | None,
        headers: Headers = (),
        *,
        key: bytes | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
    ) -> tuple[int, int]:
        """Produce one record; its partition and offset."""
        sent = await self._producer.send_and_wait(
            topic, value, key, partition, timestamp_ms=timestamp_ms, headers=list(headers)
        )
        return sent.partition, sent.offset

    async def produce_all(self, topic: str, values: Sequence[bytes], headers: Headers = ()) -> None:
        """Produce many records as fast as Kafka takes them."""
        waiting = [await self._producer.send(topic, value, headers=list(headers)) for value in values]
        await asyncio.gather(*waiting)

    async def create(self, topic: str, partitions: int = 1, settings: Mapping[str, str] | None = None) -> str:
        """Create a topic and wait until it can be written to."""
        await self._admin.create_topics([NewTopic(topic, partitions, 1, topic_configs=dict(settings or {}))])

        async def led() -> bool | None:
            (found,) = await self._admin.describe_topics([topic])
            return (not found["error_code"] and all(p["leader"] >= 0 for p in found["partitions"])) or None

        await eventually(led, f"a leader for {topic}")
        return topic

    async def settings(self, topic: str) -> dict[str, str]:
        from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

        (answer,) = await self._admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        ((*_, entries),) = answer.resources
        return {entry[0]: entry[1] for entry in entries}

    async def partitions(self, topic: str) -> int:
        (found,) = await self._admin.describe_topics([topic])
        return len(found["partitions"])

    async def records(self, topic: str) -> list[ConsumerRecord]:
        """All that is on a topic now, in order of partition and offset."""
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka, fetch_max_wait_ms=50)
        await consumer.start()
        try:
            parts = [TopicPartition(topic, n) for n in range(await self.partitions(topic))]
            consumer.assign(parts)
            await consumer.seek_to_beginning(*parts)
            ends = await consumer.end_offsets(parts)
            found: list[ConsumerRecord] = []
            while any([await consumer.position(part) < ends[part] for part in parts]):
                for batch in (await consumer.getmany(timeout_ms=200)).values():
                    found += batch
            return sorted(found, key=lambda record: (record.partition, record.offset))
        finally:
            await consumer.stop()

    async def end_offsets(self, topic: str) -> dict[int, int]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.kafka)
        await consumer.start()
        try:
            parts = [TopicPartition(topic, n) for n in range(await self.partitions(topic))]
            return {part.partition: end for part, end in (await consumer.end_offsets(parts)).items()}
        finally:
            await consumer.stop()

    async def committed(self, group: str, topic: str) -> dict[int, int]:
        """What a group has committed of a topic, by partition; without those where it has not."""
        offsets = await self._admin.list_consumer_group_offsets(group)
        return {tp.partition: at.offset for tp, at in offsets.items() if tp.topic == topic and at.offset >= 0}

    async def record(self, topic: str, matches: Callable[[ConsumerRecord], bool]) -> ConsumerRecord:
        """The first record that matches, as soon as it is there."""

        async def probe() -> ConsumerRecord | None:
            return next((record for record in await self.records(topic) if matches(record)), None)

        return await eventually(probe, f"a record on {topic}")

    async def dead_letter(self, worker: Running, id: str) -> ConsumerRecord:
        """The dead letter of a request, by the id that its answer had."""
        return await self.record(worker.dead, lambda record: dict(record.headers)["embedmq-id"] == id.encode())

    async def dead_letters(self, worker: Running, id: str) -> list[ConsumerRecord]:
        """All dead letters of a request that are there now."""
        records = await self.records(worker.dead)
        return [record for record in records if dict(record.headers)["embedmq-id"] == id.encode()]

    async def kept_bytes(self, worker: Running, id: str, timeout_s: float = TIMEOUT_S) -> bytes:
        async def probe() -> bytes | None:
            value = await self.redis.get(f"{worker.prefix}:result:{id}")
            return value if isinstance(value, bytes) else None

        return await eventually(probe, f"the result of {id}", timeout_s)

    async def kept(self, worker: Running, id: str, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """The kept result of a request, as a program without our library reads it."""
        return decode(await self.kept_bytes(worker, id, timeout_s))

    async def entries(self, worker: Running, client: str) -> list[list[dict[str, Any]]]:
        """The entries of a client's reply stream: the results in each."""
        found: Any = await self.redis.xrange(f"{worker.prefix}:replies:{client}")
        return [msgspec.msgpack.decode(fields[b"r"]) for _, fields in found]

    async def replies(self, worker: Running, client: str, count: int, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:
        """The results on a client's stream by id, once there are `count`."""

        async def probe() -> dict[str, Any] | None:
            results = {result["id"]: result for entry in await self.entries(worker, client) for result in entry}
            return results if len(results) >= count else None

        return await eventually(probe, f"{count} replies to {client}", timeout_s)

    async def ask(
        self, worker: Running, model: str, request: Mapping[str, object], *, lane: str = "interactive"
    ) -> dict[str, Any]:
        """Send one request as JSON and wait for its kept result."""
        id = str(request.get("id", new_id()))
        await self.produce(worker.topic(model, lane), as_json({**request, "id": id}), JSON)
        return await self.kept(worker, id)


def decode(value: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(value) if value[:1] == b"{" else msgspec.msgpack.decode(value)
    return found


def kill(server: Server) -> None:
    """End a process of a test whatever it is doing, also when it has just ended by itself."""
    with contextlib.suppress(ProcessLookupError):
        server.stop(kill=True)
    if server.process is not None:
        server.process.wait(TIMEOUT_S)
    server.close()


def start(
    stack: Stack, folder: Path, prefix: str, models: str, settings: str = "", env: Mapping[str, str] | None = None
) -> Running:
    """Start a worker without waiting for it. `models` and `settings` are TOML. Where a model declares how long it
    takes, the worker can be held; `held.AHEAD` in `env` sets its clock."""
    config = folder / f"{prefix}-{len(stack.workers)}.toml"
    config.write_text(f'prefix = "{prefix}"\n{settings}\n{models}\n')
    hold = Hold(folder)
    program = held.command(config) if "_ms=" in models or held.AHEAD in (env or {}) else None
    return Running(stack.start_worker(config, {**hold.environment, **(env or {})}, program), prefix, hold)
