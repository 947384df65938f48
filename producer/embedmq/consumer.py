"""How is a topic read in a consumer group, and how does reading end?"""

from __future__ import annotations

import asyncio
import contextlib

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.errors import KafkaError

from embedmq.errors import InvalidRequest
from embedmq.kafka import away, connection_options
from embedmq.settings import Setup

SESSION_MS, HEARTBEAT_MS, REBALANCE_MS, BETWEEN_READS_MS = 45_000, 3_000, 60_000, 300_000
"""How long the group waits for a reader that is silent, and for one that takes long over a record."""
CLOSE_TIMEOUT_S = 5.0
"""How long closing waits for Kafka to let the reader go."""
ABANDON_STEP_S, ABANDON_STEPS = 0.2, 25
UNSEEN_LOOKS, LOOK_AGAIN_S = 4, 0.1


async def open_consumer(
    setup: Setup, topic: str, group: str, listener: ConsumerRebalanceListener | None
) -> AIOKafkaConsumer:
    """Join a group that reads a topic, from the beginning where it has not read before; what was read is committed by
    hand.

    Raises:
        InvalidRequest: the topic is not there. Unavailable: Kafka is not, or does not let us in.
    """
    consumer = AIOKafkaConsumer(
        **connection_options(setup),
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=SESSION_MS,
        heartbeat_interval_ms=HEARTBEAT_MS,
        rebalance_timeout_ms=REBALANCE_MS,
        max_poll_interval_ms=BETWEEN_READS_MS,
    )
    try:
        async with asyncio.timeout(setup.connect_timeout_s):
            await consumer.start()
            await _check_topic(consumer, topic)
        consumer.subscribe([topic], listener=listener)
    except (TimeoutError, KafkaError, OSError) as error:
        await close_consumer(consumer)
        raise await away(setup, error, "Read") from error
    except BaseException:
        await close_consumer(consumer)
        raise
    return consumer


async def close_consumer(consumer: AIOKafkaConsumer) -> None:
    """Leave the group and disconnect, in bounded time.

    `stop` cancels each of aiokafka's own tasks once and waits for it, and a task can miss that: the one that fetches,
    while it cancels what it had begun for other partitions; the one that coordinates, while Kafka is away. So what is
    left is cancelled until it has ended.
    """
    stopping = asyncio.create_task(consumer.stop())
    await asyncio.wait({stopping}, timeout=CLOSE_TIMEOUT_S)
    for _ in range(ABANDON_STEPS):
        left = {task for task in (stopping, *_tasks(consumer)) if not task.done()}
        if not left:
            break
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=ABANDON_STEP_S)
    if stopping.done():
        with contextlib.suppress(asyncio.CancelledError, KafkaError):
            stopping.result()
    await consumer._client.close()  # again, for a `stop` that did not get so far


async def _check_topic(consumer: AIOKafkaConsumer, topic: str) -> None:
    """Ask for all topics, since one that is asked for by its name might be created. A new one may be seen late."""
    looks = 0
    while looks < UNSEEN_LOOKS:
        try:
            found = await consumer.topics()
        except KafkaError:  # no broker is known yet
            pass
        else:
            looks += 1
            if topic in found:
                return
        await asyncio.sleep(LOOK_AGAIN_S)
    raise InvalidRequest(f"topic: {topic} is not there, or we may not Read it: topics are not created from here")


def _tasks(consumer: AIOKafkaConsumer) -> list[asyncio.Task[None]]:
    """What a consumer does in the background."""
    coordinator, fetcher = consumer._coordinator, consumer._fetcher
    owners = [(coordinator, name) for name in ("_coordination_task", "_reset_committed_task", "_heartbeat_task")]
    found = [getattr(owner, name, None) for owner, name in [*owners, (fetcher, "_fetch_task")]]
    pending: set[asyncio.Task[None]] = getattr(fetcher, "_pending_tasks", set())
    return [task for task in (*found, *pending) if task is not None]
