"""A backlog costs no memory: what is held is bounded, however much waits and however long Redis is away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import psutil
import pytest
from aiokafka import AIOKafkaProducer
from embedmq_local.redis_server import RedisServer
from embedmq_local.stack import Stack
from embedmq_schemas.limits import KIB, MIB

from tests.worker.conftest import StartWorker
from tests.worker.world import MSGPACK, POLL_S, Running, new_id, packed, until

SETTLED_S = 3.0
"""How long Redis stays away when all has been sent and the worker holds what it will hold."""
BOUND_BYTES = 8 * MIB
UNBOUND_BYTES = 4096 * MIB

LANES = ("interactive", "bulk")
PARTITIONS = 8
LARGEST_BYTES = 900 * KIB
BATCH_BYTES = 1_048_588
"""The largest batch that a request topic takes, unpacked (`max.message.bytes`): a fetch gives one whole, however small
`max_partition_fetch_bytes` is."""
COPIES = 4
"""A fetch that is just taken apart is in memory so often, at most, and each lane has one."""
FETCH_BYTES = max(256 * KIB, BATCH_BYTES) * (PARTITIONS + COPIES) * len(LANES)
"""One fetch a partition, and those on their way."""

SMALL_RECORDS, LARGE_RECORDS = 8_000, 24
"""In each lane."""


@dataclass
class Observed:
    """Bytes; `resident` is the growth from before the backlog to the most that was seen."""

    peak: float
    resident: int


async def backlog(kafka: str, worker: Running) -> int:
    """Fill both lanes with records of 1 KB, of the largest size allowed, and of 1 KB with headers of that size,
    compressed; returns how many."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, compression_type="gzip", max_request_size=2 * MIB)
    await producer.start()
    request = {"reply": {"type": "stream", "client": new_id()}}
    overhead = len(packed({**request, "id": new_id(), "items": [""]})) + 4
    sent = []
    try:
        for lane in LANES:
            for n in range(SMALL_RECORDS + LARGE_RECORDS):
                kind = n % (SMALL_RECORDS // LARGE_RECORDS)
                text = "word " * ((LARGEST_BYTES if kind == 0 else KIB) // 5 - overhead // 5 - 1)
                value = packed({**request, "id": new_id(), "items": [text]})
                headers = [*MSGPACK, ("x-large", b"x" * LARGEST_BYTES)] if kind == 1 else MSGPACK
                sent.append(await producer.send(worker.topic("null", lane), value, headers=headers))
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
    return len(sent)


async def observe(worker: Running, answered: asyncio.Event) -> int:
    """The most resident memory until all is answered, above what it is now."""
    process, most = psutil.Process(worker.process.pid), 0
    baseline = process.memory_info().rss
    while not answered.is_set():
        most = max(most, process.memory_info().rss - baseline)
        await asyncio.sleep(POLL_S)
    return most


async def outage(stack: Stack, redis: RedisServer, worker: Running, held_bytes: int) -> Observed:
    """Let a backlog arrive while Redis is away, until so many bytes are held; bring Redis back, and wait until all of
    it is answered."""
    redis.stop()
    ended = asyncio.Event()
    observing = asyncio.ensure_future(observe(worker, ended))
    total = await backlog(stack.kafka, worker)
    await until(lambda: worker.metric("in_flight_bytes") > held_bytes, f"more than {held_bytes} bytes held")
    await asyncio.sleep(SETTLED_S)
    redis.start()
    await until(lambda: worker.metric("requests_total", code="ok") >= total, f"{total} answers")
    ended.set()
    return Observed(worker.metric("in_flight_bytes_peak"), await observing)


@pytest.mark.parametrize("limit", [BOUND_BYTES, UNBOUND_BYTES], ids=["bound", "bound taken out"])
@pytest.mark.timeout(240)
async def test_a_backlog_costs_the_bound_and_one_fetch_a_partition(
    stack: Stack, own_redis: RedisServer, start_worker: StartWorker, limit: int
) -> None:
    """Mixed records of 1 KB and 900 KiB, compressed, on both lanes, Redis away: the peak of the bytes metric is at
    most `max_in_flight_bytes`, and resident memory grows by no more than that, one fetch a partition and those on their
    way. Without the bound the same measurement exceeds both."""
    env = {"EMBEDMQ_REDIS": own_redis.url, "EMBEDMQ_WORKER__MAX_IN_FLIGHT_BYTES": str(limit)}
    worker = start_worker('[models.null]\ncheckpoint = "null:8"\n', env=env)
    observed = await outage(stack, own_redis, worker, BOUND_BYTES // 2 if limit == BOUND_BYTES else 2 * BOUND_BYTES)
    print(f"peak {observed.peak / MIB:.1f} MiB, resident {observed.resident / MIB:.1f} MiB")
    if limit == BOUND_BYTES:
        assert observed.peak <= BOUND_BYTES
        assert observed.resident <= BOUND_BYTES + FETCH_BYTES
    else:
        assert observed.peak > 2 * BOUND_BYTES
        assert observed.resident > BOUND_BYTES + FETCH_BYTES
