"""What is the least that a queue can cost? A loop with no model, no checks and no bookkeeping, to measure ours against.

Records go through the same Kafka, replies through the same Redis, and carry as many bytes as ours: a 32-character text
there, a 384-dimensional float32 vector back for each item. Nothing is tracked, validated, committed or retried.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from dataclasses import dataclass

import msgspec
import redis.asyncio
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

TOPIC = "raw"
STREAM = "raw:replies"
VECTOR = bytes(4 * 384)
TEXT = "thirty-two characters of a text."


@dataclass
class Sample:
    """What one run measured: items a second, and the latency of each request."""

    items_per_s: float
    latencies_s: list[float]


async def work(kafka: str, url: str) -> None:
    """Consume, answer with one XADD a batch, until SIGTERM."""
    consumer = AIOKafkaConsumer(
        TOPIC, bootstrap_servers=kafka, group_id="raw", enable_auto_commit=False, auto_offset_reset="earliest"
    )
    await consumer.start()
    client = redis.asyncio.Redis.from_url(url)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("ready", flush=True)
    decode = msgspec.msgpack.Decoder(tuple[int, list[str]]).decode
    while not stop.is_set():
        found = await consumer.getmany(timeout_ms=200, max_records=1024)
        requests = [decode(record.value) for records in found.values() for record in records]
        replies = [(id, VECTOR * len(items)) for id, items in requests]
        if replies:
            await client.xadd(STREAM, {b"r": msgspec.msgpack.encode(replies)}, maxlen=1000, approximate=True)
    await consumer.stop()
    await client.aclose()


async def drive(kafka: str, url: str, seconds: float, in_flight: int, items: int) -> Sample:
    """Keep `in_flight` requests under way for a while."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka, acks="all", enable_idempotence=True)
    await producer.start()
    client = redis.asyncio.Redis.from_url(url)
    last = b"$"
    decode = msgspec.msgpack.Decoder(list[tuple[int, bytes]]).decode
    texts = [TEXT] * items
    sent_s: dict[int, float] = {}
    latencies_s: list[float] = []
    end_s = time.perf_counter() + seconds
    start_s = time.perf_counter()
    number = 0
    newest = await client.xrevrange(STREAM, count=1)
    last = newest[0][0] if newest else b"0"
    while (now_s := time.perf_counter()) < end_s or sent_s:
        while len(sent_s) < in_flight and now_s < end_s:
            sent_s[number] = now_s
            await producer.send(TOPIC, msgspec.msgpack.encode((number, texts)))
            number += 1
        for _, entries in await client.xread({STREAM: last}, count=16, block=2000):
            for last, fields in entries:
                now_s = time.perf_counter()
                latencies_s.extend(now_s - sent_s.pop(id) for id, _ in decode(fields[b"r"]))
    took_s = time.perf_counter() - start_s
    await producer.stop()
    await client.aclose()
    return Sample(len(latencies_s) * items / took_s, latencies_s)


async def create(kafka: str) -> None:
    """The topic, with as many partitions as ours."""
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka)
    await admin.start()
    await admin.create_topics([NewTopic(TOPIC, 8, 1)])
    await admin.close()


if __name__ == "__main__":
    uvloop.run(work(sys.argv[1], sys.argv[2]))
