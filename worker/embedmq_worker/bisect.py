"""How does a batch, or a read, survive the one item in it that breaks the engine, or a device too small for it?

Out of memory has a ladder: free the allocator's cache, evict a model that is idle, halve the batch, fail the item.
Every other failure goes to the halving at once. Only the item that fails alone fails. A device that is lost is no
item's fault, and would fail them all: that ends the batch.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from embedmq_worker.decode import asks, fail
from embedmq_worker.device import Device
from embedmq_worker.engine.seam import Encoded, Engine, Fault, Prepared, Slice
from embedmq_worker.engine.void import void
from embedmq_worker.errors import DeviceLost, OutOfMemory
from embedmq_worker.jobs import Cost, Job, Outcome, Part

Computed = Callable[[Part, Encoded], None]
"""Told of a part that the device computed: some of its items may have faults by now."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Relief:
    """What helps a device that is out of memory: `make_room` evicts an idle model, if there is one."""

    make_room: Callable[[], Awaitable[bool]]
    count: Callable[[str], None]
    """Told of each step of the ladder."""


async def prepare_jobs(engine: Engine, jobs: Sequence[Job], threads: Executor) -> list[Outcome]:
    """Cut the texts of jobs into tokens; returns those that failed. A read that breaks is halved until one is alone."""
    start_s = time.perf_counter()
    try:
        prepared = await _prepare(engine, jobs, threads)
    except Exception as error:  # whatever a tokenizer throws, only the request at fault may fail
        if len(jobs) == 1:
            return [fail(jobs[0], _fault(jobs[0], error))]
        middle = len(jobs) // 2
        return await prepare_jobs(engine, jobs[:middle], threads) + await prepare_jobs(engine, jobs[middle:], threads)
    tokenize_ms = round((time.perf_counter() - start_s) * 1000, 3)
    for job, tokens in zip(jobs, prepared, strict=True):
        job.prepared = tokens
        job.tokenize_ms = tokenize_ms
        if job.trace is not None:
            job.trace.cut_s, job.trace.cutting_s = time.monotonic(), tokenize_ms / 1000
        job.cost = Cost(job.cost.bytes, job.cost.items, sum(tokens.tokens))
    return []


async def encode_parts(
    device: Device,
    engine: Engine,
    parts: Sequence[Part],
    relief: Relief,
    launched: Callable[[], None],
    computed: Computed,
) -> None:
    """Give the jobs of a batch their vectors; `launched` is called when the device can be given another batch.

    Jobs of which an item found too little memory even alone are `exhausted`. That may pass, so they may be tried again;
    for those that are not, the item has failed like any other that fails alone.

    Raises:
        DeviceLost: nothing more can be computed; some parts may have their vectors, which are worth nothing then.
    """
    error = await _attempt(device, engine, parts, launched, computed)
    if isinstance(error, OutOfMemory):
        error = await _relieve(device, engine, parts, relief, computed)
    if error is None:
        return
    for half in _halve(parts):
        await encode_parts(device, engine, half, relief, nothing, computed)
    if len(parts) == 1 and parts[0].stop - parts[0].start == 1:
        if isinstance(error, OutOfMemory):
            relief.count("fail")
            parts[0].job.exhausted = True  # before its last item is handed out, which another batch may wait for
        _fail_item(engine, parts[0], error)


def hand(part: Part, vectors: Encoded, forward_ms: float) -> None:
    """Give the items of a part their vectors."""
    part.job.encoded.append((part.start, vectors))
    part.job.remaining -= part.stop - part.start
    part.job.forward_ms += forward_ms


def nothing() -> None:
    """The device is not given another batch while this one is taken apart."""


async def _attempt(
    device: Device, engine: Engine, parts: Sequence[Part], launched: Callable[[], None], computed: Computed
) -> Exception | None:
    """Compute; returns what went wrong with it.

    Raises:
        DeviceLost: it is not this batch that went wrong.
    """
    slices = [Slice(part.job.prepared, part.job.options, part.start, part.stop) for part in parts]
    start_s = time.perf_counter()
    try:
        encoded = await device.encode(engine, slices, launched)
    except DeviceLost:
        raise
    except Exception as error:  # whatever a device throws, only the item at fault may fail
        return error
    forward_ms = round((time.perf_counter() - start_s) * 1000, 3)
    for part, vectors in zip(parts, encoded, strict=True):
        hand(part, vectors, forward_ms)
        computed(part, vectors)
    return None


async def _relieve(
    device: Device, engine: Engine, parts: Sequence[Part], relief: Relief, computed: Computed
) -> Exception | None:
    """The first steps of the ladder, each with another attempt; returns what is still wrong."""
    relief.count("free_cache")
    await device.free_cache(engine)
    found = await _attempt(device, engine, parts, nothing, computed)
    while isinstance(found, OutOfMemory) and await relief.make_room():
        relief.count("evict")
        found = await _attempt(device, engine, parts, nothing, computed)
    if isinstance(found, OutOfMemory):
        relief.count("halve")
        log.warning("out_of_memory", extra={"items": sum(part.stop - part.start for part in parts)})
    return found


async def _prepare(engine: Engine, jobs: Sequence[Job], threads: Executor) -> list[Prepared]:
    if not engine.facts.tokenizes:
        return engine.prepare(asks(jobs))
    return await asyncio.get_running_loop().run_in_executor(threads, engine.prepare, asks(jobs))


def _halve(parts: Sequence[Part]) -> list[Sequence[Part]]:
    """Two halves; none of a single item."""
    if len(parts) > 1:
        return [parts[: len(parts) // 2], parts[len(parts) // 2 :]]
    part = parts[0]
    middle = (part.start + part.stop) // 2
    if middle == part.start:
        return []
    return [[Part(part.job, part.start, middle)], [Part(part.job, middle, part.stop)]]


def _fail_item(engine: Engine, part: Part, error: Exception) -> None:
    part.job.prepared.faults[part.start] = _fault(part.job, error)
    hand(part, void(engine.facts, part.job.options, 1), 0.0)


def _fault(job: Job, error: Exception) -> Fault:
    """What the caller may know: the kind of error. Its text may quote the request, so that goes nowhere."""
    log.error("processing_failed", extra={"id": job.envelope.id, "error": type(error).__name__})
    return Fault("processing_failed", f"the engine failed on this alone: {type(error).__name__}")
