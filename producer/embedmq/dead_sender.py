"""How are dead letters sent again, each of them with Kafka's word for it?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from embedmq.errors import EmbedMQError, InvalidRequest
from embedmq.kafka import Kafka
from embedmq.publisher import Publisher, Record

if TYPE_CHECKING:
    from embedmq.dead_replay import Replay
    from embedmq.settings import Setup

BATCH_RECORDS: Final = 256
BATCH_BYTES: Final = 8 * 1024 * 1024
"""What is on its way to Kafka at once."""


class DeadSender:
    """Writes to request topics as a client does: by key, without ever making a topic, and nothing twice."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    @classmethod
    @asynccontextmanager
    async def open(cls, setup: Setup) -> AsyncIterator[DeadSender]:
        """Connect; raises Unavailable."""
        kafka = Kafka(setup)
        await kafka.start()
        publisher = Publisher(kafka, setup.publish_timeout_s, asyncio.get_running_loop())
        try:
            yield cls(publisher)
        finally:
            await publisher.stop()
            await kafka.stop()

    async def send(self, batch: Sequence[Replay]) -> list[EmbedMQError | None]:
        """Send these, and wait for all; of each None once Kafka has it for good, else why it has not."""
        outcomes = await asyncio.gather(*map(self._send, batch), return_exceptions=True)
        found: list[EmbedMQError | None] = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, EmbedMQError):
                raise outcome
            found.append(outcome)
        return found

    async def _send(self, replay: Replay) -> None:
        if not await self._publisher.prepare(replay.topic):
            raise InvalidRequest(f"topic {replay.topic} is gone")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._publisher.put(replay.topic, Record(replay.key, replay.value, replay.headers, done, confirm=True))
        await done


def is_full(batch: Sequence[Replay]) -> bool:
    """Whether no more should be added to what is on its way at once."""
    return len(batch) >= BATCH_RECORDS or sum(len(replay.value) for replay in batch) >= BATCH_BYTES
