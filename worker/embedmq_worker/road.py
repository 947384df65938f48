"""How does a request travel? decode → gather → encode → deliver → commit: five stages, in this order, in this file.

Between two stages lies a bounded queue: `room` bounds what is decoded and waits, `finished` what is computed and not
yet delivered. The device pulls: a batch is formed when it is free, of all that waits. A request that fails is a value
and travels on; the world failing is an exception and ends the road, or a pause. Shutdown is end-of-stream: the sources
stop, and everything behind them drains in order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from embedmq_worker.answer import answer
from embedmq_worker.bisect import encode_parts, prepare_jobs
from embedmq_worker.decode import Decoder, fail
from embedmq_worker.delivery import Delivery
from embedmq_worker.engine.seam import Engine, Fault
from embedmq_worker.jobs import Batch, Job, Outcome
from embedmq_worker.meter import Meter
from embedmq_worker.room import Room
from embedmq_worker.source import Source
from embedmq_worker.waiting import Waiting

FINISHED_BATCHES = 2
"""Batches whose results may wait for delivery: enough to keep the device busy, too few to hide a slow Redis."""


@dataclass(slots=True)
class Road:
    """The parts of one worker, and the five stages that connect them."""

    sources: Sequence[Source]
    decoder: Decoder
    engines: Mapping[str, Engine]
    room: Room
    waiting: Waiting
    delivery: Delivery
    meter: Meter
    tokenizers: Executor
    device: Executor
    commit_interval_s: float
    finished: asyncio.Queue[list[Outcome] | None] = field(default_factory=lambda: asyncio.Queue(FINISHED_BATCHES))

    async def run(self) -> None:
        """Run until the sources end; what they have read is delivered and committed first."""
        async with asyncio.TaskGroup() as stages:
            commits = [stages.create_task(self.commit(source)) for source in self.sources]
            delivering = stages.create_task(self.deliver())
            encoding = stages.create_task(self.encode())
            async with asyncio.TaskGroup() as decoding:
                for source in self.sources:
                    decoding.create_task(self.decode(source))
            self.waiting.close()
            await encoding
            await self.finished.put(None)
            await delivering
            for source in self.sources:
                source.finish()
            await asyncio.gather(*commits)

    async def decode(self, source: Source) -> None:
        """Turn records into jobs, as many as there is room for; what is wrong with one becomes its outcome."""
        async for records in source.read():
            now_s = time.monotonic()
            jobs: list[Job] = []
            refused: list[Outcome] = []
            for progress, record in records:
                if progress.revoked:
                    continue  # another worker has it now
                decoded = self.decoder.decode(record, progress, now_s)
                job = decoded if isinstance(decoded, Job) else decoded.job
                lane = job.envelope.lane
                if not self.room.enter(job.cost, lane):
                    await self.gather(jobs, refused)
                    jobs, refused = [], []
                    await self.room.wait(job.cost, lane)
                    if progress.revoked:
                        self.room.leave(job.cost, lane)
                        continue
                progress.start(record.offset)
                (jobs if isinstance(decoded, Job) else refused).append(decoded)  # type: ignore[arg-type]  # by its type
            self.meter.read(source.lane, len(records))
            await self.gather(jobs, refused)
            # What is buffered is read without a pause: let the device start on this while the next is decoded.
            await asyncio.sleep(0)

    async def gather(self, jobs: list[Job], refused: list[Outcome]) -> None:
        """Cut texts into tokens and let them wait for the device; refusals go straight to delivery."""
        by_model: dict[str, list[Job]] = {}
        for job in jobs:
            by_model.setdefault(job.envelope.model, []).append(job)
        for model, group in by_model.items():
            before = [job.cost for job in group]
            failed = await prepare_jobs(self.engines[model], group, self.tokenizers)
            for job, cost in zip(group, before, strict=True):
                self.room.change(cost, job.cost, job.envelope.lane)
            self.meter.prepared(model, group)
            broken = {id(outcome.job) for outcome in failed}
            ready = [job for job in group if id(job) not in broken]
            self.waiting.put([job for job in ready if not job.progress.revoked])
            self._discard([job for job in ready if job.progress.revoked])  # taken away while its text was cut
            refused += failed
        if refused:
            await self.finished.put(refused)

    async def encode(self) -> None:
        """Give the device one batch after the other, each chosen when the device is free."""
        while (batch := await self.waiting.take()) is not None:
            now_s, now_ms = time.monotonic(), time.time() * 1000
            late = [part.job for part in batch.parts if part.start == 0 and deadline_ms(part.job) <= now_ms]
            if late:
                await self.finished.put([self._expire(job) for job in late])
                batch = without(batch, late)
            for part in batch.parts:
                job = part.job
                job.queue_ms = job.queue_ms or round((now_s - job.arrived_s) * 1000 - job.tokenize_ms, 3)
            if batch.parts:
                start_s = time.perf_counter()
                await encode_parts(self.engines[batch.model], batch.parts, self.device)
                self.meter.encoded(batch, time.perf_counter() - start_s)
                facts = self.engines[batch.model].facts
                done = [part.job for part in batch.parts if part.job.remaining == 0]
                await self.finished.put([Outcome(job, answer(job, facts)) for job in done])

    async def deliver(self) -> None:
        """Deliver what is finished, several batches in one go when they wait; only then are their offsets complete."""
        ended = False
        while not ended:
            outcomes: list[Outcome] = []
            found = await self.finished.get()
            while found is not None:
                outcomes += found
                if self.finished.empty():
                    break
                found = self.finished.get_nowait()
            ended = found is None
            start_s = time.perf_counter()
            await self.delivery.deliver(outcomes)
            for outcome in outcomes:
                outcome.job.progress.complete(outcome.job.record.offset)
                self.room.leave(outcome.job.cost, outcome.job.envelope.lane)
            self.meter.delivered(outcomes, time.perf_counter() - start_s)
            for source in self.sources:
                source.wake.set()

    async def commit(self, source: Source) -> None:
        """Commit what is complete, at most once an interval; at the end, the rest."""
        while not source.finished:
            await source.wake.wait()
            source.wake.clear()
            await source.commit()
            if not source.finished:
                await asyncio.sleep(self.commit_interval_s)
        await source.commit_last()

    def discard_revoked(self) -> None:
        """A partition is no longer ours: drop what of it waits, so that only its new owner computes it."""
        self._discard(self.waiting.discard_revoked())

    def _discard(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.room.leave(job.cost, job.envelope.lane)

    def _expire(self, job: Job) -> Outcome:
        """Nothing past its deadline reaches the device."""
        self.waiting.drop(job)
        return fail(job, Fault("deadline_exceeded", "the deadline passed while the request waited for the device"))


def deadline_ms(job: Job) -> float:
    """When a request is no longer wanted, in Unix milliseconds."""
    deadline = job.request.deadline_unix_ms if job.request is not None else None
    return float("inf") if deadline is None else deadline


def without(batch: Batch, dropped: Sequence[Job]) -> Batch:
    """A batch less some of its jobs."""
    gone = {id(job) for job in dropped}
    parts = [part for part in batch.parts if id(part.job) not in gone]
    counts = [part.job.prepared.tokens[part.start : part.stop] for part in parts]
    return Batch(batch.model, parts, sum(map(len, counts)), sum(map(sum, counts)))
