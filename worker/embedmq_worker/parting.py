"""How does a worker part with Kafka, which may refuse everything by then, or not answer?"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from aiokafka.errors import KafkaError

PART_TIMEOUT_S: Final = 3.0
"""How long a client of Kafka may take to stop: it leaves its group in milliseconds, but in the middle of a rebalance it
waits until the other members have heard of that by a heartbeat.
"""


async def part(stopping: Coroutine[Any, Any, None], timeout_s: float = PART_TIMEOUT_S) -> bool:
    """Await what stops a client, and abandon it after `timeout_s`; whether it parted in good order."""
    parting = asyncio.ensure_future(stopping)
    await asyncio.wait({parting}, timeout=timeout_s)
    if parting.cancel():  # not waited for: some of aiokafka's tasks take a cancellation for something else
        return False
    try:
        parting.result()
    except KafkaError:
        return False
    return True
