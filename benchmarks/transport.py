"""What does the queue itself cost? A model that computes nothing, against a raw loop on the same Kafka and Redis."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import uvloop
from embedmq import Client

from benchmarks import client_loop, raw_loop, topics
from benchmarks.cpu import Cpu
from benchmarks.harness import Scale, interleave
from benchmarks.place import Place
from benchmarks.report import Row, Run, row
from benchmarks.sample import Sample

MODEL = "null"
MODELS = f'[models.{MODEL}]\ncheckpoint = "null:384"\npinned = true'
RAW = "raw loop: aiokafka's send, one XADD a batch, XREAD"
BATCHES = "the same with batches of records filled by hand"


def throughput_256(place: Place, scale: Scale) -> list[Row]:
    """One text a record, 256 requests in flight."""
    return _one_text(place, scale, "transport.throughput_256", 256)


def throughput_64(place: Place, scale: Scale) -> list[Row]:
    """One text a record, 64 requests in flight."""
    return _one_text(place, scale, "transport.throughput_64", 64)


def items_32(place: Place, scale: Scale) -> list[Row]:
    """32 texts a record, 64 requests in flight."""
    with _loops(place, in_flight=64, items=32) as (ours, raw, _):
        measure(scale, [ours, raw])
        return [_throughput("transport.items_32", "items/s", ours, raw)]


def latency_1(place: Place, scale: Scale) -> list[Row]:
    """One text a record, one request at a time."""
    with _loops(place, in_flight=1, items=1) as (ours, raw, _):
        measure(scale, [ours, raw])
        return [_latency(f"transport.latency_1_p{percent}_ms", percent, ours, raw) for percent in (50, 99)]


@dataclass
class Loop:
    """One side of a comparison, and what it measured."""

    name: str
    baseline: str
    drive: Callable[[float], Coroutine[None, None, Sample]]
    cpu: Cpu
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        self.samples: list[Sample] = []

    def run(self, seconds: float) -> None:
        """Drive once more."""
        self.cpu.start()
        sample = uvloop.run(self.drive(seconds))
        self.cpu.stop(len(sample.latencies_s))
        self.samples.append(sample)
        self.say(f"  {self.name}: {sample.items_per_s:,.0f}/s, p50 {sample.percentile_ms(50):.2f} ms")

    def forget(self) -> None:
        """Leave out what was measured so far: it was the warm-up."""
        self.samples.clear()
        self.cpu.forget()


def measure(scale: Scale, loops: list[Loop]) -> None:
    """Warm up, then run all of them in turn."""
    for loop in loops:
        loop.run(scale.warm_s)
        loop.forget()
    interleave(scale.runs, [partial(loop.run, scale.seconds) for loop in loops])


def _one_text(place: Place, scale: Scale, name: str, in_flight: int) -> list[Row]:
    with _loops(place, in_flight=in_flight, items=1) as (ours, raw, batches):
        measure(scale, [ours, raw, batches])
        return [
            _throughput(name, "requests/s", ours, raw),
            _throughput(f"{name}_vs_batches", "requests/s", ours, batches),
        ]


def _throughput(name: str, unit: str, ours: Loop, other: Loop) -> Row:
    runs = [Run(a.items_per_s, b.items_per_s) for a, b in zip(ours.samples, other.samples, strict=True)]
    return row(name, unit, "higher", runs, other.baseline, _cpu_us(ours, other))


def _latency(name: str, percent: int, ours: Loop, other: Loop) -> Row:
    pairs = zip(ours.samples, other.samples, strict=True)
    runs = [Run(a.percentile_ms(percent), b.percentile_ms(percent)) for a, b in pairs]
    return row(name, "ms", "lower", runs, other.baseline, _cpu_us(ours, other))


def _cpu_us(ours: Loop, other: Loop) -> dict[str, dict[str, float]]:
    return {"ours": ours.cpu.per_request_us(), "baseline": other.cpu.per_request_us()}


@contextmanager
def _loops(place: Place, *, in_flight: int, items: int) -> Iterator[tuple[Loop, Loop, Loop]]:
    """Ours and the raw loop's two, side by side; a worker that is not asked sleeps in its fetch."""
    prefix, stack = place.new_prefix(), place.stack
    texts = [raw_loop.TEXT] * items

    async def ours(seconds: float) -> Sample:
        async with Client(stack.kafka, stack.redis, prefix=prefix, max_in_flight_items=in_flight * items) as client:
            return await client_loop.drive(client, MODEL, texts, seconds, in_flight)

    def raw(publish: raw_loop.Publish, seconds: float) -> Coroutine[None, None, Sample]:
        return raw_loop.drive(stack.kafka, stack.redis, seconds, in_flight, texts, publish)

    def cpu(worker: int) -> Cpu:
        kafka, redis = stack.brokers[0].pid, stack.redis_server.pid
        return Cpu({"client": os.getpid(), "worker": worker, "kafka": kafka, "redis": redis})

    uvloop.run(topics.create(stack.kafka, raw_loop.TOPIC))
    with (
        place.worker(prefix, MODELS) as worker,
        place.program("benchmarks.raw_loop", [stack.kafka, stack.redis]) as raw_worker,
    ):
        yield (
            Loop("ours", "", ours, cpu(worker.pid), place.say),
            Loop("raw", RAW, partial(raw, raw_loop.send), cpu(raw_worker.pid), place.say),
            Loop("raw, batches", BATCHES, partial(raw, raw_loop.send_batches), cpu(raw_worker.pid), place.say),
        )
