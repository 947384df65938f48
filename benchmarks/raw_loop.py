"""What is the least that a queue can cost? A loop with no model, no checks and no bookkeeping, to measure ours against.

Records go through the same Kafka and as many partitions, replies through the same Redis, and the payload is as many
bytes as ours: the same texts there, a 384-dimensional float32 vector back for each. Like ours it runs on uvloop,
encodes with MessagePack, publishes with acks=all, writes one stream entry for each batch of replies and trims the
stream once a second. Unlike ours nothing has headers, an id that others could know, a deadline or a future of its own;
nothing is validated, committed or retried.

It publishes in one of two ways: `send` calls aiokafka's `send` for each record, as anybody would; `send_batches` fills
batches itself, as our client does, which saves half of the producer's time for each record.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import count, islice
from typing import Final, cast

import msgspec
import redis.asyncio
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.sample import Sample
from benchmarks.topics import PARTITIONS

Publish = Callable[[AIOKafkaProducer, Sequence[bytes]], Awaitable[None]]
Entries = Sequence[tuple[bytes, Mapping[bytes, bytes]]]

TOPIC: Final = "raw"
STREAM: Final = "raw:replies"
VECTOR: Final = bytes(4 * 384)
BATCH_BYTES: Final = 65_536
ANSWER_TIMEOUT_MS: Final = 5_000
TRIM_PERIOD_S: Final = 1.0
TEXT: Final = "thirty-two characters of a text."


async def work(kafka: str, url: str) -> None:
    """Consume, answer with one XADD a batch, until SIGTERM."""
    consumer = AIOKafkaConsumer(
        TOPIC, bootstrap_servers=kafka, group_id="raw", enable_auto_commit=False, auto_offset_reset="latest"
    )
    await consumer.start()
    client = redis.asyncio.Redis.from_url(url)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    for partition in consumer.assignment():
        await consumer.position(partition)  # from here on nothing is missed
    print("ready", flush=True)
    decode = msgspec.msgpack.Decoder(tuple[int, list[str]]).decode
    while not stop.is_set():
        found = await consumer.getmany(timeout_ms=500, max_records=1024)
        requests = [decode(record.value) for records in found.values() for record in records]
        replies = [(id, VECTOR * len(items)) for id, items in requests]
        if replies:
            await client.xadd(STREAM, {b"r": msgspec.msgpack.encode(replies)})
    await consumer.stop()
    await client.aclose()


async def drive(kafka: str, url: str, seconds: float, in_flight: int, texts: list[str], publish: Publish) -> Sample:
    """Keep `in_flight` requests under way for a while."""
    producer = AIOKafkaProducer(
        bootstrap_servers=kafka, acks="all", enable_idempotence=True, max_batch_size=BATCH_BYTES
    )
    await producer.start()
    await producer.partitions_for(TOPIC)
    client = redis.asyncio.Redis.from_url(url)
    decode = msgspec.msgpack.Decoder(list[tuple[int, bytes]]).decode
    numbers = count()
    sent_s: dict[int, float] = {}
    latencies_s: list[float] = []
    await client.delete(STREAM)
    last = b"0"
    start_s = now_s = trimmed_s = time.perf_counter()
    end_s = start_s + seconds
    while now_s < end_s or sent_s:
        if now_s < end_s:
            fresh = list(islice(numbers, in_flight - len(sent_s)))
            sent_s.update(dict.fromkeys(fresh, now_s))
            await publish(producer, [msgspec.msgpack.encode((number, texts)) for number in fresh])
        if now_s > trimmed_s + TRIM_PERIOD_S:
            await client.xtrim(STREAM, minid=last)
            trimmed_s = now_s
        entries = await read(client, last)
        now_s = time.perf_counter()
        for _, fields in entries:
            latencies_s.extend(now_s - sent_s.pop(id) for id, _ in decode(fields[b"r"]))
        last = entries[-1][0]
    took_s = now_s - start_s
    await producer.stop()
    await client.aclose()
    return Sample(len(latencies_s) * len(texts) / took_s, latencies_s)


async def read(client: redis.asyncio.Redis, last: bytes) -> Entries:
    """The entries after `last`, as soon as there are some."""
    found = await client.xread({STREAM: last}, count=16, block=ANSWER_TIMEOUT_MS)
    if not found:
        raise TimeoutError(f"the raw loop's worker did not answer within {ANSWER_TIMEOUT_MS} ms")
    return cast("list[tuple[bytes, Entries]]", found)[0][1]


async def send(producer: AIOKafkaProducer, values: Sequence[bytes]) -> None:
    """One record after the other; aiokafka chooses partitions and fills batches."""
    for value in values:
        await producer.send(TOPIC, value)


async def send_batches(producer: AIOKafkaProducer, values: Sequence[bytes]) -> None:
    """As few batches as hold them, each to any partition."""
    waiting = deque(values)
    while waiting:
        batch = producer.create_batch()
        while waiting and batch.append(key=None, value=waiting[0], timestamp=None) is not None:
            waiting.popleft()
        batch.close()
        await producer.send_batch(batch, TOPIC, partition=random.randrange(PARTITIONS))


if __name__ == "__main__":
    uvloop.run(work(sys.argv[1], sys.argv[2]))
