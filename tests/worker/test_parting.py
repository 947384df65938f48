"""A worker parts with Kafka within a bounded time, whatever Kafka makes of it."""

from __future__ import annotations

import asyncio

from aiokafka.errors import KafkaError
from embedmq_worker.parting import part


async def test_a_client_that_stops_parts_in_good_order() -> None:
    """Having done all that it does to stop."""
    done: list[bool] = []

    async def stop() -> None:
        await asyncio.sleep(0)
        done.append(True)

    assert await part(stop())
    assert done


async def test_a_client_whose_kafka_does_not_answer_is_abandoned() -> None:
    """Even one that takes no notice of being cancelled."""
    never, later = asyncio.Event(), asyncio.Event()

    async def stop() -> None:
        try:
            await never.wait()
        except asyncio.CancelledError:
            await later.wait()

    assert not await part(stop(), timeout_s=0.01)
    later.set()


async def test_what_kafka_refuses_at_the_end_ends_nothing_else() -> None:
    """The clients that are left have to stop, too."""

    async def stop() -> None:
        raise KafkaError("not yours")

    assert not await part(stop())
