"""How does a batch, or a read, survive the one item in it that breaks the engine?"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import Executor

import numpy as np

from embedmq_worker.decode import asks, fail
from embedmq_worker.engine.finish import finish
from embedmq_worker.engine.seam import Encoded, Engine, Fault, Prepared, Slice
from embedmq_worker.jobs import Cost, Job, Outcome, Part

log = logging.getLogger(__name__)


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
        job.cost = Cost(job.cost.bytes, job.cost.items, sum(tokens.tokens))
    return []


async def encode_parts(engine: Engine, parts: Sequence[Part], device: Executor) -> None:
    """Give the jobs of a batch their vectors. A batch that breaks is halved until one item is alone and fails alone."""
    loop = asyncio.get_running_loop()
    slices = [Slice(part.job.prepared, part.job.options, part.start, part.stop) for part in parts]
    start_s = time.perf_counter()
    try:
        encoded = await loop.run_in_executor(device, _encode, engine, slices)
    except Exception as error:  # whatever a device throws, only the item at fault may fail
        for half in _halve(parts):
            await encode_parts(engine, half, device)
        if len(parts) == 1 and parts[0].stop - parts[0].start == 1:
            _fail_item(engine, parts[0], error)
        return
    forward_ms = round((time.perf_counter() - start_s) * 1000, 3)
    for part, vectors in zip(parts, encoded, strict=True):
        _hand(part, vectors, forward_ms)


async def _prepare(engine: Engine, jobs: Sequence[Job], threads: Executor) -> list[Prepared]:
    if not engine.facts.tokenizes:
        return engine.prepare(asks(jobs))
    return await asyncio.get_running_loop().run_in_executor(threads, engine.prepare, asks(jobs))


def _encode(engine: Engine, slices: Sequence[Slice]) -> list[Encoded]:
    return engine.launch(slices).collect()


def _halve(parts: Sequence[Part]) -> list[Sequence[Part]]:
    """Two halves; none of a single item."""
    if len(parts) > 1:
        return [parts[: len(parts) // 2], parts[len(parts) // 2 :]]
    part = parts[0]
    middle = (part.start + part.stop) // 2
    if middle == part.start:
        return []
    return [[Part(part.job, part.start, middle)], [Part(part.job, middle, part.stop)]]


def _hand(part: Part, vectors: Encoded, forward_ms: float) -> None:
    part.job.encoded.append((part.start, vectors))
    part.job.remaining -= part.stop - part.start
    part.job.forward_ms += forward_ms


def _fail_item(engine: Engine, part: Part, error: Exception) -> None:
    part.job.prepared.faults[part.start] = _fault(part.job, error)
    void = np.full((1, engine.facts.dimensions), np.nan, np.float32)
    _hand(part, finish(void, part.job.options, normalizes=False), 0.0)


def _fault(job: Job, error: Exception) -> Fault:
    """What the caller may know: the kind of error. Its text may quote the request, so that goes nowhere."""
    log.error("processing_failed", extra={"id": job.envelope.id, "error": type(error).__name__})
    return Fault("processing_failed", f"the engine failed on this alone: {type(error).__name__}")
