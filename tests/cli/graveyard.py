"""Where do dead letters come from in the tests of the command line? Written by hand, as the wire says."""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

from aiokafka.structs import ConsumerRecord
from embedmq_local.stack import Stack

from tests.worker.world import World

T = TypeVar("T")

HOUR_MS = 3_600_000
SECRET = b'{"items": ["the secret text"], "id": "own"}'


class Graveyard:
    """The topics of one prefix, written by hand."""

    def __init__(self, stack: Stack, prefix: str) -> None:
        self._stack = stack
        self.prefix = prefix
        self.dead = f"{prefix}.dead"
        self.now_ms = int(time.time() * 1000)

    def do(self, work: Callable[[World], Awaitable[T]]) -> T:
        async def run() -> T:
            async with World(self._stack.kafka, self._stack.redis) as world:
                return await work(world)

        return asyncio.run(run())

    def create(self, topic: str, partitions: int = 1) -> str:
        return self.do(lambda world: world.create(topic, partitions))

    def records(self, topic: str) -> list[ConsumerRecord]:
        return self.do(lambda world: world.records(topic))

    def headers(self, id: str, code: str, topic: str, offset: int = 7) -> dict[str, bytes | None]:
        """What a worker writes, as the wire says."""
        return {
            "embedmq-first-seen": str(self.now_ms - 9 * HOUR_MS).encode(),
            "kafka_dlt-original-topic": topic.encode(),
            "kafka_dlt-original-partition": struct.pack(">i", 3),
            "kafka_dlt-original-offset": struct.pack(">q", offset),
            "embedmq-id": id.encode(),
            "embedmq-lane": b"bulk",
            "embedmq-attempt": b"4",
            "embedmq-error-code": code.encode(),
            "kafka_dlt-exception-fqcn": b"embedmq.ProcessingFailed",
            "kafka_dlt-exception-message": b"the device failed on this item",
        }

    def bury(
        self,
        id: str,
        code: str = "processing_failed",
        *,
        model: str = "minilm",
        age_h: float = 0,
        value: bytes | None = SECRET,
        key: bytes | None = b"tenant",
        partition: int = 0,
        change: Mapping[str, bytes | None] | None = None,
        without: str = "",
        before: list[tuple[str, bytes | None]] | None = None,
    ) -> str:
        """Write a letter; gives its place. `change` and `without` break its headers, `before` stood there already."""
        found = {**self.headers(id, code, f"{self.prefix}.{model}.bulk"), **(change or {})}
        found.pop(without, None)
        headers = [*(before or []), *found.items()]
        then = self.now_ms - int(age_h * HOUR_MS)

        async def produce(world: World) -> str:
            place = await world.produce(self.dead, value, headers, key=key, partition=partition, timestamp_ms=then)
            return "{}/{}".format(*place)

        return self.do(produce)
