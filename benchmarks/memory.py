"""Does a backlog cost memory? Two fresh workers: one finds a thousand records waiting, one half a million.

The records are small (one short text), wait on the bulk lane before the worker starts, and ask for no reply and no kept
result (`keep_s` 0), so that Redis stays as it is and only the worker's own memory can grow. Measured is the most
resident memory of the worker from its start until a second after the last record was answered. The worker may hold a
thousand items, so that both backlogs fill what it holds, and the difference is what waiting behind that costs.
"""

from __future__ import annotations

import time
from itertools import cycle

import psutil
import uvloop
from aiokafka import AIOKafkaProducer
from embedmq_local.worker import Worker
from embedmq_schemas.codec import encode_request
from embedmq_schemas.names import Names
from embedmq_schemas.requests import Embed

from benchmarks.harness import Scale, interleave
from benchmarks.peak import MIB, peak_over
from benchmarks.place import Place
from benchmarks.raw_loop import TEXT
from benchmarks.report import Row, Run, row
from benchmarks.scraping import scrape
from benchmarks.topics import PARTITIONS, create

MODEL = "null"
MODELS = f'[worker]\nmax_in_flight_items = 1000\n[models.{MODEL}]\ncheckpoint = "null:384"\npinned = true'
BATCH_BYTES = 65_536
ASK_PERIOD_S = 0.5
AFTER_S = 1.0
TIMEOUT_S = 180.0


def backlog(place: Place, scale: Scale) -> list[Row]:
    """Peak resident memory of the worker with many records waiting, against few."""
    large, small = interleave(
        scale.memory_runs, [lambda: _peak_mib(place, scale.backlog), lambda: _peak_mib(place, scale.small_backlog)]
    )
    runs = [Run(a, b) for a, b in zip(large, small, strict=True)]
    return [row("memory.backlog_mb", "MiB", "lower", runs, f"a backlog of {scale.small_backlog:,} records")]


def _peak_mib(place: Place, records: int) -> float:
    prefix = place.new_prefix()
    uvloop.run(_produce(place.stack.kafka, Names(prefix).requests(MODEL, "bulk"), records))
    start_s = time.perf_counter()
    with place.worker(prefix, MODELS) as worker:
        peak_bytes = _watch(worker, records)
    place.say(f"  {records:,} records: {peak_bytes / MIB:.1f} MiB, {time.perf_counter() - start_s:.1f} s")
    return peak_bytes / MIB


def _watch(worker: Worker, records: int) -> int:
    """The most resident memory seen until all records are answered, and shortly after."""
    process = psutil.Process(worker.pid)
    peak_bytes = 0
    deadline_s = time.perf_counter() + TIMEOUT_S
    answered = 0
    while answered < records:
        if time.perf_counter() > deadline_s:
            raise TimeoutError(f"{answered} of {records} records answered within {TIMEOUT_S:g} s")
        peak_bytes = max(peak_bytes, peak_over(process, ASK_PERIOD_S))
        answered = int(scrape(worker)["embedmq_requests_total"])
    return max(peak_bytes, peak_over(process, AFTER_S))


async def _produce(kafka: str, topic: str, records: int) -> None:
    """Create the topic as the worker would, and fill it in large batches."""
    await create(kafka, topic)
    values = (encode_request(Embed(items=[f"{number:08}{TEXT[8:]}"], keep_s=0)) for number in range(records))
    value = next(values, None)
    partitions = cycle(range(PARTITIONS))
    async with AIOKafkaProducer(bootstrap_servers=kafka, acks="all", max_batch_size=BATCH_BYTES) as producer:
        await producer.partitions_for(topic)
        while value is not None:
            batch = producer.create_batch()
            while value is not None and batch.append(key=None, value=value, timestamp=None) is not None:
                value = next(values, None)
            batch.close()
            await producer.send_batch(batch, topic, partition=next(partitions))
        await producer.flush()
