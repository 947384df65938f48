"""A worker's outside, in a few lines, for testing producers: it speaks Kafka and Redis itself, as the wire says.

Requests are read as plain MessagePack, not with our structs, and answers are plain dictionaries: what a test sees here
is what another language would see.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError
from aiokafka.structs import ConsumerRecord, TopicPartition
from embedmq.consumer import close_consumer
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

Request = Mapping[str, Any]
Answer = Mapping[str, Any]
Answering = Callable[[Request], Answer | None]

WIDTH = 4
MAX_ENTRY = 64
STOP_TIMEOUT_S = 5.0


def vector(item: str | Sequence[int]) -> list[float]:
    """What the stand-in computes: enough to tell items and their order apart."""
    first = item[0] if item else 0
    return [float(len(item)), float(ord(first) if isinstance(first, str) else first), 1.0, -1.0]


def embedded(request: Request, **more: Any) -> Answer:
    """A success, as a worker writes it."""
    items = request["items"]
    data = b"".join(struct.pack("<4f", *vector(item)) for item in items)
    return {
        "type": "embedded",
        "id": request["id"],
        "model": request["model"],
        "revision": "r1",
        "computed_in": "float32",
        "count": len(items),
        "dense": {"dtype": "float32", "shape": [len(items), WIDTH], "data": data},
        "tokens": [len(item) for item in items],
        "truncated": [],
        "meta": request.get("meta"),
        "item_ids": request.get("item_ids"),
        "timing": {"queue_ms": 1.0, "tokenize_ms": 2.0, "forward_ms": 3.0},
        **more,
    }


def failed(request: Request, code: str, **more: Any) -> Answer:
    """A failure of the whole request."""
    message = f"the stand-in says {code}"
    return {"type": "failed", "id": request["id"], "model": request["model"], "code": code, "message": message, **more}


class StandIn:
    """Serves one model, with topics of its own, from when it starts; `answer` says how, None leaves a request open."""

    def __init__(self, kafka: str, redis: str, prefix: str, model: str = "minilm", *, shared: bool = False) -> None:
        self.answer: Answering = embedded
        self.records: list[ConsumerRecord[Any, Any]] = []
        self.requests: list[Request] = []
        self.redis = Redis.from_url(redis)
        self.prefix = prefix
        self.model = model
        self.loop = asyncio.get_running_loop()
        self._kafka = kafka
        self._topics = [f"{prefix}.{'shared' if shared else model}.{lane}" for lane in ("interactive", "bulk")]
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    async def __aenter__(self) -> Self:
        await create_topics(self._kafka, self._topics)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self._kafka, fetch_max_wait_ms=100)
        try:
            await self._start()
        except BaseException:
            await close_consumer(self._consumer)
            raise
        self._task = asyncio.create_task(self._run())
        return self

    async def _start(self) -> None:
        await self._consumer.start()
        places = [TopicPartition(topic, number) for topic in self._topics for number in range(2)]
        self._consumer.assign(places)
        await self._consumer.seek_to_beginning(*places)

    async def __aexit__(self, *_: object) -> None:
        """Ends in bounded time, whatever Kafka and Redis do, and leaves nothing running."""
        assert self._task is not None
        self._stopping = True  # a read is never cancelled: its consumer would be left out of step
        await asyncio.wait({self._task}, timeout=STOP_TIMEOUT_S)
        self._task.cancel()
        await close_consumer(self._consumer)
        await self.redis.aclose()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def announce(self, **entry: Any) -> None:
        """Write the model into the catalogue."""
        await self.redis.set(f"{self.prefix}:model:{self.model}", json.dumps({"name": self.model, **entry}), ex=90)

    async def wait_for(self, count: int) -> list[Request]:
        """The first `count` requests, once they have arrived."""
        async with asyncio.timeout(60):
            while len(self.requests) < count:
                self._arrived.clear()
                await self._arrived.wait()
        return self.requests[:count]

    async def reply(self, *answers: tuple[Request, Answer]) -> None:
        """Write answers where their requests want them."""
        streams: dict[str, list[bytes]] = {}
        pipe = self.redis.pipeline(transaction=False)
        for request, answer in answers:
            encoded = msgspec.msgpack.encode(answer)
            if (request.get("reply") or {}).get("type") == "stream":
                streams.setdefault(request["reply"]["client"], []).append(encoded)
            if request.get("keep_s"):
                key = f"{self.prefix}:result:{request['id']}"
                pipe.execute_command("SET", key, encoded, "EX", request["keep_s"])
                pipe.execute_command("SET", f"{{{key}}}:stub", '{"state":"completed"}', "XX", "KEEPTTL")
        for client, waiting in streams.items():
            for start in range(0, len(waiting), MAX_ENTRY):
                part = waiting[start : start + MAX_ENTRY]
                entry = b"\xdd" + len(part).to_bytes(4, "big") + b"".join(part)
                pipe.execute_command("XADD", f"{self.prefix}:replies:{client}", "*", "r", entry)
                pipe.execute_command("EXPIRE", f"{self.prefix}:replies:{client}", 600)
        await pipe.execute()

    async def _run(self) -> None:
        while not self._stopping:
            found = await self._consumer.getmany(timeout_ms=200)
            answers: list[tuple[Request, Answer]] = []
            for record in (record for records in found.values() for record in records):
                request = msgspec.msgpack.decode(record.value or b"")
                self.records.append(record)
                self.requests.append(request)
                answer = self.answer(request)
                if answer is not None:
                    answers.append((request, answer))
            if found:
                self._arrived.set()
            while answers and not self._stopping:
                try:
                    await self.reply(*answers)
                except ConnectionError:  # a connection from before a restart
                    continue
                break


async def create_topics(kafka: str, topics: Sequence[str]) -> None:
    """Create topics of two partitions; those that are there stay."""
    async with asyncio.timeout(60):
        while True:
            if await _create_topics(kafka, topics):
                return
            await asyncio.sleep(0.1)


async def _create_topics(kafka: str, topics: Sequence[str]) -> bool:
    """False while the broker that another test suspended is not let back in: no broker is known then."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, 2, 1) for topic in topics])
    except (KafkaError, AttributeError):  # the latter is aiokafka's way to say that it knows no controller
        return False
    else:
        return True
    finally:
        await admin.close()
