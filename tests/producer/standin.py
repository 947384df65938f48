"""A worker's outside, in a few lines, for testing producers: it speaks Kafka and Redis itself, as the wire says.

Requests are read with plain MessagePack, not with our structs, and answers are plain dictionaries: what a test sees
here is what another language would see.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer
from aiokafka.structs import ConsumerRecord, TopicPartition
from redis.asyncio import Redis

Answer = Mapping[str, Any]
Answering = Callable[[Mapping[str, Any]], "Answer | None"]

WIDTH = 4
MAX_ENTRY = 64


def vector(item: str | Sequence[int]) -> list[float]:
    """What the stand-in computes: enough to tell items and their order apart."""
    return [float(len(item)), float(ord(item[0])) if isinstance(item, str) and item else 0.0, 1.0, -1.0]


def embedded(request: Mapping[str, Any], **more: Any) -> Answer:
    """A success, as a worker writes it."""
    items = request["items"]
    rows = [vector(item) for item in items]
    data = b"".join(struct.pack("<4f", *row) for row in rows)
    return {
        "type": "embedded",
        "id": request["id"],
        "model": request["model"],
        "revision": "r1",
        "computed_in": "float32",
        "count": len(items),
        "dense": {"dtype": "float32", "shape": [len(items), WIDTH], "data": data},
        "tokens": [len(item) for item in items],
        "meta": request.get("meta"),
        "item_ids": request.get("item_ids"),
        "timing": {"queue_ms": 1.0, "tokenize_ms": 2.0, "forward_ms": 3.0},
        **more,
    }


def failed(request: Mapping[str, Any], code: str, **more: Any) -> Answer:
    """A failure of the whole request."""
    message = f"the stand-in says {code}"
    return {"type": "failed", "id": request["id"], "model": request["model"], "code": code, "message": message, **more}


class StandIn:
    """Reads all partitions of its topics from their end and answers by `answer`; None leaves a request unanswered."""

    def __init__(self, kafka: str, redis: str, topics: Sequence[str]) -> None:
        self.answer: Answering = embedded
        self.records: list[ConsumerRecord[Any, Any]] = []
        self.requests: list[Mapping[str, Any]] = []
        self.keep = True
        self.arrived = asyncio.Event()
        self._topics = topics
        self._kafka = kafka
        self._redis = Redis.from_url(redis)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> StandIn:
        self._consumer = AIOKafkaConsumer(bootstrap_servers=self._kafka, fetch_max_wait_ms=100)
        await self._consumer.start()
        await self._consumer._client.force_metadata_update()
        places = [
            TopicPartition(topic, number)
            for topic in self._topics
            for number in sorted(self._consumer.partitions_for_topic(topic) or ())
        ]
        assert places, f"no topics {self._topics}"
        self._consumer.assign(places)
        await self._consumer.seek_to_end(*places)
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        await self._consumer.stop()
        await self._redis.aclose()

    async def wait_for(self, count: int) -> None:
        """Until `count` requests have arrived."""
        async with asyncio.timeout(20):
            while len(self.requests) < count:
                self.arrived.clear()
                await self.arrived.wait()

    async def reply(self, *answers: tuple[Mapping[str, Any], Answer]) -> None:
        """Write answers where their requests want them."""
        streams: dict[str, list[bytes]] = {}
        for request, answer in answers:
            encoded = msgspec.msgpack.encode(answer)
            if request.get("reply", {}).get("type") == "stream":
                streams.setdefault(request["reply"]["client"], []).append(encoded)
            if request.get("keep_s") and self.keep:
                key = f"embedmq:result:{request['id']}"
                await self._redis.set(key, encoded, ex=request["keep_s"])
                await self._redis.set(f"{{{key}}}:stub", b'{"state":"completed"}', xx=True, keepttl=True)
        pipe = self._redis.pipeline(transaction=False)
        for client, encoded_answers in streams.items():
            for start in range(0, len(encoded_answers), MAX_ENTRY):
                part = encoded_answers[start : start + MAX_ENTRY]
                entry = b"\xdd" + len(part).to_bytes(4, "big") + b"".join(part)
                pipe.execute_command("XADD", f"embedmq:replies:{client}", "*", "r", entry)
                pipe.execute_command("EXPIRE", f"embedmq:replies:{client}", 600)
        await pipe.execute()

    async def _run(self) -> None:
        while True:
            found = await self._consumer.getmany(timeout_ms=200)
            answers: list[tuple[Mapping[str, Any], Answer]] = []
            for records in found.values():
                for record in records:
                    request = msgspec.msgpack.decode(record.value)
                    self.records.append(record)
                    self.requests.append(request)
                    answer = self.answer(request)
                    if answer is not None:
                        answers.append((request, answer))
            if found:
                self.arrived.set()
            if answers:
                await self.reply(*answers)
