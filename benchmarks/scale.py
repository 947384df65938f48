"""What do two workers do, and four, of what one does? Real processes, Kafka and Redis; a device that spends no CPU.

The model computes nothing and its batches take a set time, in which the worker sleeps. A batch holds 16 texts, so that
with 40 ms one worker answers 400 requests a second: four need less than two cores for everything, the client and the
brokers included. `scale.limit` takes the time away, which leaves the processes themselves: how much CPU each of them
used is said beside it: one that used a whole core is the limit, else the machine is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from embedmq import Client

from benchmarks import client_loop
from benchmarks.cpu import Cpu
from benchmarks.harness import Scale
from benchmarks.place import Place
from benchmarks.report import Row, Run, row
from benchmarks.sample import Sample
from benchmarks.transport import Loop, measure

MODEL: Final = "null"
BATCH_ITEMS: Final = 16
BATCH_MS: Final = 40.0
SETTINGS: Final = f"[worker]\nmax_batch_items = {BATCH_ITEMS}"
FEW: Final = 1
MORE: Final = 2
MOST: Final = 4
BATCHES_AHEAD: Final = 16
"""How many batches' requests are under way for each worker: enough that chance leaves none without work."""
TEXT: Final = "What is asked of a model that answers at once."


def workers(place: Place, scale: Scale) -> list[Row]:
    """Requests a second of two and of four, against so many times those of one."""
    with (
        _fleet(place, FEW, BATCH_MS) as one,
        _fleet(place, MORE, BATCH_MS) as two,
        _fleet(place, MOST, BATCH_MS) as four,
    ):
        measure(scale, [one, two, four])
        return [_row(one, MORE, two), _row(one, MOST, four)]


def limit(place: Place, scale: Scale) -> list[Row]:
    """Requests a second of four workers whose batches take no time."""
    with _fleet(place, MOST, 0.0) as four:
        measure(scale, [four])
        rates = [sample.items_per_s for sample in four.samples]
        used = four.cpu.per_request_us()
        for name, each_us in used.items():
            place.say(f"  {name}: {each_us:.0f} us a request, {each_us * max(rates) / 1e6:.0%} of a core")
        return [row("scale.limit", "requests/s", "higher", [Run(rate) for rate in rates], cpu_us={"ours": used})]


@contextmanager
def _fleet(place: Place, count: int, batch_ms: float) -> Iterator[Loop]:
    """So many workers in groups of their own, and a client that keeps all of them at work."""
    prefix, stack = place.new_prefix(), place.stack
    models = f'[models.{MODEL}]\ncheckpoint = "null:384?batch_ms={batch_ms:g}"\npinned = true'
    in_flight = count * BATCH_ITEMS * BATCHES_AHEAD

    async def drive(seconds: float) -> Sample:
        async with Client(stack.kafka, stack.redis, prefix=prefix, max_in_flight_items=in_flight) as client:
            return await client_loop.drive(client, MODEL, [TEXT], seconds, in_flight)

    with ExitStack() as processes:
        running = [processes.enter_context(place.worker(prefix, models, SETTINGS)) for _ in range(count)]
        pids = {f"worker_{number}": worker.pid for number, worker in enumerate(running, 1)}
        pids |= {"client": os.getpid(), "kafka": stack.brokers[0].pid, "redis": stack.redis_server.pid}
        yield Loop(f"{count} workers", "", drive, Cpu(pids), place.say)


def _row(one: Loop, count: int, many: Loop) -> Row:
    runs = [Run(a.items_per_s, count * b.items_per_s) for a, b in zip(many.samples, one.samples, strict=True)]
    used = {"ours": many.cpu.per_request_us(), "baseline": one.cpu.per_request_us()}
    return row(f"scale.workers_{count}", "requests/s", "higher", runs, f"{count} times one worker", used, goal=0.9)
