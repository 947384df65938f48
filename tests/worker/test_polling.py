"""Nothing is passed over, whatever falls into a look."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiokafka import TopicPartition
from embedmq_worker.partitions import Partitions
from embedmq_worker.polling import Polling

HERE = TopicPartition("t", 0)


@dataclass(frozen=True)
class Found:
    offset: int
    timestamp: int = 1
    value: bytes = b"x"


class Consumer:
    """Four records, of which the first look cannot read one; as aiokafka's, a look outlasts a rebalance and then hands
    out what the new assignment begins with. A real one cannot be told when."""

    def __init__(self) -> None:
        self.position_now, self.broken = 10, True
        self.rebalance: Callable[[], None] | None = None

    def subscription(self) -> frozenset[str]:
        return frozenset({HERE.topic})

    async def getmany(self, *partitions: TopicPartition, timeout_ms: int, max_records: int) -> object:
        if self.broken:
            self.broken = False
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")
        if self.rebalance is not None:
            rebalance, self.rebalance = self.rebalance, None
            rebalance()
        if self.position_now >= 14:
            return {}
        self.position_now += 1
        return {HERE: [Found(self.position_now - 1)]}

    async def committed(self, partition: TopicPartition) -> int:
        return 10

    async def position(self, partition: TopicPartition) -> int:
        return self.position_now

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self.position_now = offset

    def highwater(self, partition: TopicPartition) -> None:
        return None


async def test_a_rebalance_while_an_unreadable_record_is_looked_for_passes_nothing_over() -> None:
    """What is handed out then belongs to the new assignment, and is read by it."""
    partitions, consumer = Partitions(lambda: 0.0, lambda _: None), Consumer()
    partitions.assign([HERE])

    def rebalance() -> None:
        partitions.revoke()
        partitions.assign([HERE])
        consumer.position_now = 10

    consumer.rebalance = rebalance
    polling = Polling(consumer, partitions, asyncio.Event(), 100)
    read: list[int] = []
    for _ in range(6):
        read += [record.offset for progress, record in await polling.poll() if progress.start(record)]
    assert read == [10, 11, 12, 13]
