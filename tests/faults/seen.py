"""What became of each request, as anybody can read it in Kafka and Redis without our library?

Redis is read by plain commands, Kafka by a consumer without a group. Everything is remembered as it was first read:
what Redis loses later was there all the same.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, cast

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from msgspec import Struct
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.faults.ledger import Asked

Channel = Literal["stream", "topic", "kept", "dead", "retry"]
Streams = Sequence[tuple[bytes, Sequence[tuple[bytes, Mapping[bytes, bytes]]]]]
"""What XREAD answers."""
REQUEST_TIMEOUT_MS: Final = 5_000
REDIS_TIMEOUT_S: Final = 2.0
ENTRIES: Final = 500


class Seen(Struct, frozen=True):
    """One outcome in one place; `result` as any MessagePack or JSON library reads it, None for records of requests."""

    channel: Channel
    at_ns: int
    result: Mapping[str, Any] | None = None
    headers: Mapping[str, bytes] = {}


class Outcomes:
    """All that was seen, by id, in the order of reading."""

    def __init__(self) -> None:
        self.by_id: defaultdict[str, list[Seen]] = defaultdict(list)
        self.answered_ns: dict[str, int] = {}
        """When the first outcome of an id was seen."""

    def add(self, id: str, seen: Seen) -> None:
        self.by_id[id].append(seen)
        if seen.channel != "retry":
            self.answered_ns.setdefault(id, seen.at_ns)

    def of(self, id: str, where: Channel) -> list[Seen]:
        return [seen for seen in self.by_id.get(id, ()) if seen.channel == where]

    def answered(self, asked: Asked) -> bool:
        """Whether the caller has what it is to get: its answer; a dead letter where nobody waits."""
        return bool(self.of(asked.id, channel(asked)))


def channel(asked: Asked) -> Channel:
    """Where the caller of a request looks; a dead letter stands for it where nobody waits."""
    return "dead" if asked.where == "nobody" else asked.where


class RedisReader:
    """Reads all reply streams, with their whole history, and all kept results that are asked for."""

    def __init__(self, url: str, prefix: str, outcomes: Outcomes) -> None:
        self.client = Redis.from_url(
            url, socket_timeout=REDIS_TIMEOUT_S, socket_connect_timeout=REDIS_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )
        self._prefix = prefix
        self._outcomes = outcomes
        self._last: dict[bytes, bytes] = {}
        self._entries: set[bytes] = set()
        self._kept: dict[str, bytes] = {}

    async def read(self, clients: Sequence[str], kept: Sequence[str]) -> None:
        """Raises RedisError or OSError while Redis is away."""
        await self._read_streams(clients)
        for at in range(0, len(kept), ENTRIES):
            await self._read_kept(kept[at : at + ENTRIES])

    def forget_places(self) -> None:
        """Redis has lost its data: ids of entries begin anew."""
        self._last.clear()

    async def _read_streams(self, clients: Sequence[str]) -> None:
        keys = [f"{self._prefix}:replies:{client}".encode() for client in clients]
        while keys:
            places: dict[Any, Any] = {key: self._last.get(key, b"0") for key in keys}
            found = cast("Streams", await self.client.xread(places, count=ENTRIES))
            if not found:
                return
            for key, entries in found:
                for number, fields in entries:
                    self._last[key] = number
                    mark = hashlib.blake2b(key + number + fields[b"r"], digest_size=16).digest()
                    if mark not in self._entries:
                        self._entries.add(mark)
                        now_ns = time.monotonic_ns()
                        for result in msgspec.msgpack.decode(fields[b"r"]):
                            self._outcomes.add(result["id"], Seen("stream", now_ns, result))

    async def _read_kept(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        keys = [f"{self._prefix}:result:{id}" for id in ids]
        values = cast("Sequence[bytes | None]", await self.client.mget(keys))
        for id, value in zip(ids, values, strict=True):
            if value is not None and value != self._kept.get(id):
                self._kept[id] = value
                self._outcomes.add(id, Seen("kept", time.monotonic_ns(), decode(value)))


class KafkaReader:
    """Reads reply, dead and retry topics to their ends, and what the groups have committed."""

    def __init__(self, bootstrap: str, prefix: str, reply_topic: str, outcomes: Outcomes) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
            metadata_max_age_ms=2_000,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        )
        self._admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=REQUEST_TIMEOUT_MS)
        self._prefix = prefix
        self._reply_topic = reply_topic
        self._outcomes = outcomes

    async def start(self) -> None:
        await self._consumer.start()
        await self._admin.start()

    async def stop(self) -> None:
        await self._consumer.stop()
        await self._admin.close()

    async def read(self) -> None:
        """Read on to where the topics end now. Raises KafkaError while Kafka is away."""
        parts = await self._partitions()
        new = set(parts) - self._consumer.assignment()
        if new:
            positions = {tp: await self._consumer.position(tp) for tp in self._consumer.assignment()}
            self._consumer.assign(parts)
            for tp in parts:
                self._consumer.seek(tp, positions.get(tp, 0))
        if not parts:
            return
        ends = await self._consumer.end_offsets(parts)
        while any([await self._consumer.position(tp) < end for tp, end in ends.items()]):
            for records in (await self._consumer.getmany(timeout_ms=200)).values():
                for record in records:
                    self._take(record)

    async def committed(self) -> dict[TopicPartition, int]:
        """What the three groups have committed."""
        found: dict[TopicPartition, int] = {}
        for reader in ("interactive", "bulk", "retry"):
            offsets = await self._admin.list_consumer_group_offsets(f"{self._prefix}.{reader}")
            found |= {tp: at.offset for tp, at in offsets.items() if at.offset >= 0}
        return found

    async def ends(self, parts: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Where partitions end now."""
        found: dict[TopicPartition, int] = await self._consumer.end_offsets(list(parts))
        return found

    async def read_by_groups(self) -> list[TopicPartition]:
        """Every partition that a group of ours has to read."""
        return await self._partitions(".interactive", ".bulk", ".retry.")

    async def _partitions(self, *marks: str) -> list[TopicPartition]:
        names = [name for name in await self._admin.list_topics() if name.startswith(f"{self._prefix}.")]
        wanted = [name for name in names if any(mark in name for mark in marks or (".dead", ".retry."))]
        if not marks:
            wanted.append(self._reply_topic)
        described = await self._admin.describe_topics(wanted) if wanted else []
        return [
            TopicPartition(topic["topic"], part["partition"]) for topic in described for part in topic["partitions"]
        ]

    def _take(self, record: ConsumerRecord) -> None:
        headers = dict(record.headers)
        now_ns = time.monotonic_ns()
        if record.topic == self._reply_topic:
            result = decode(record.value)
            self._outcomes.add(result["id"], Seen("topic", now_ns, result, headers))
            return
        where: Channel = "dead" if record.topic.endswith(".dead") else "retry"
        self._outcomes.add(headers["embedmq-id"].decode(), Seen(where, now_ns, None, headers))


def decode(value: bytes) -> Mapping[str, Any]:
    found: Mapping[str, Any] = msgspec.json.decode(value) if value[:1] == b"{" else msgspec.msgpack.decode(value)
    return found
