"""What do those see who wait with our client? Each call ends: in the right vectors, or in a named error."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Self

import embedmq
import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.faults import truth
from tests.faults.ledger import Asked
from tests.faults.plants import planted_in_client
from tests.faults.site import Site

LATE_S = 15.0
"""How much later than its time limit a call may end before it counts as hanging."""


class Callers:
    """Calls of one `embedmq.Client` at a site, which reaches Redis through the site's network."""

    def __init__(self, site: Site, timeout_s: float = 60.0, **settings: Any) -> None:
        self.results = 0
        self.errors: Counter[str] = Counter()
        self._site = site
        self._timeout_s = timeout_s
        self._client = embedmq.Client(
            site.stack.kafka, f"redis://{site.network.address}/0", prefix=site.prefix, **settings
        )
        self._calls: list[asyncio.Task[None]] = []
        self._asked: list[str] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._stack.enter_context(planted_in_client(self._site.plant))
        await self._stack.enter_async_context(self._client)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    @property
    def waiting(self) -> int:
        """Calls that have not ended."""
        return sum(not call.done() for call in self._calls)

    def call(self, count: int) -> None:
        """Begin so many calls."""
        asked = [self._site.asking.compose()[0] for _ in range(count)]
        self._asked += [each.id for each in asked]
        self._calls += [asyncio.create_task(self._call(each)) for each in asked]

    async def end(self) -> None:
        """Until all calls have ended; one that does not is a problem of the row."""
        _, hanging = await asyncio.wait(self._calls, timeout=self._timeout_s + LATE_S)
        if hanging:
            self._site.problem(f"I1: {len(hanging)} calls hang")
            for call in hanging:
                call.cancel()
        figures = self._site.figures
        figures.ids += len(self._asked)
        figures.answers += self.results
        figures.notes["named errors"] = figures.notes.get("named errors", 0) + self.errors.total()

    async def published(self) -> Counter[str]:
        """How often each of the calls is on Kafka."""
        found: Counter[str] = Counter()
        consumer = AIOKafkaConsumer(bootstrap_servers=self._site.stack.kafka)
        await consumer.start()
        try:
            parts = [tp for tp in await self._site.kafka.read_by_groups() if ".retry." not in tp.topic]
            consumer.assign(parts)
            await consumer.seek_to_beginning(*parts)
            ends: dict[TopicPartition, int] = await consumer.end_offsets(parts)
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found.update(msgspec.msgpack.decode(record.value)["id"] for record in records)
        finally:
            await consumer.stop()
        return Counter({id: found[id] for id in self._asked})

    async def _call(self, asked: Asked) -> None:
        embed: Callable[..., Awaitable[embedmq.Embeddings]] = self._client.embed
        try:
            got = await embed("null", asked.items, id=asked.id, timeout_s=self._timeout_s)
        except embedmq.EmbedMQError as error:
            self.errors[type(error).__name__] += 1
            return
        self.results += 1
        wanted = np.stack([truth.vector(text) for text in asked.items])
        if not np.array_equal(np.asarray(got.dense), wanted):
            self._site.problem(f"I3: {asked.id}: a caller got the vectors of other texts")
