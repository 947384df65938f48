"""How does a topic come to be before a worker makes it?"""

from __future__ import annotations

import asyncio
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

PARTITIONS: Final = 8
"""As many as a worker gives to its topics."""
TIMEOUT_S: Final = 10.0
POLL_S: Final = 0.05


async def create(kafka: str, topic: str) -> None:
    """Make it, and wait until each of its partitions has a leader; nothing happens when it is there.

    Raises:
        TimeoutError: Kafka did not get that far.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            await admin.create_topics([NewTopic(topic, PARTITIONS, 1)])
            await _led(admin, topic)
    finally:
        await admin.close()


async def _led(admin: AIOKafkaAdminClient, topic: str) -> None:
    while True:
        (found,) = await admin.describe_topics([topic])
        if not found["error_code"] and all(partition["leader"] >= 0 for partition in found["partitions"]):
            return
        await asyncio.sleep(POLL_S)
