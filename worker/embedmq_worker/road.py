"""How does a request travel? decode → gather → encode → deliver → commit: five stages, in this order, in this file.

Between two stages lies a bounded queue: `room` bounds what is decoded and waits, `finished` what is computed and not
yet delivered. The device pulls: a batch is formed when it is about to be free, of all that waits. What waits for a
model that is not in memory lies aside, and is gathered when the model is there. A request that fails is a value and
travels on; the world failing is an exception and ends the road, or a pause. Shutdown is end-of-stream: the sources
stop, and everything behind them drains in order.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from embedmq_worker.absent import deadline_unix_ms
from embedmq_worker.answer import answer
from embedmq_worker.bisect import Relief, encode_parts
from embedmq_worker.decode import Decoder, fail
from embedmq_worker.delivery import Delivery
from embedmq_worker.device import Device
from embedmq_worker.engine.seam import Fault, ModelFacts
from embedmq_worker.gather import Gather
from embedmq_worker.jobs import Batch, Job, Outcome
from embedmq_worker.meter import Meter
from embedmq_worker.progress import Progress
from embedmq_worker.residents import Lease, Residents
from embedmq_worker.room import Room
from embedmq_worker.source import Source
from embedmq_worker.waiting import Waiting

FINISHED_BATCHES = 2
"""Batches whose results may wait for delivery: enough to keep the device busy, too few to hide a slow Redis."""
BATCHES_ON_DEVICE = 2
"""One computes while the other is copied in or out: a third would only be chosen too early."""


@dataclass(slots=True)
class Road:
    """The parts of one worker, and the five stages that connect them."""

    sources: Sequence[Source]
    decoder: Decoder
    gathering: Gather
    residents: Residents
    room: Room
    waiting: Waiting
    device: Device
    delivery: Delivery
    meter: Meter
    commit_interval_s: float
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a model has come or gone."""
    finished: asyncio.Queue[list[Outcome] | None] = field(default_factory=lambda: asyncio.Queue(FINISHED_BATCHES))

    async def run(self) -> None:
        """Run until the sources end; what they have read is delivered and committed first."""
        async with asyncio.TaskGroup() as stages:
            commits = [stages.create_task(self.commit(source)) for source in self.sources]
            delivering = stages.create_task(self.deliver())
            encoding = stages.create_task(self.encode())
            aside = [stages.create_task(self.admit()), stages.create_task(self.expire())]
            async with asyncio.TaskGroup() as decoding:
                for source in self.sources:
                    decoding.create_task(self.decode(source))
            await self.gathering.close()
            await encoding
            async with self.gathering.settled:  # whoever holds it has an answer in hand
                for stage in aside:
                    stage.cancel()
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
            passed: set[Progress] = set()
            for progress, record in records:
                if progress.revoked or progress in passed:
                    continue  # another worker has it now, or it is read again
                decoded = self.decoder.decode(record, progress, now_s)
                job = decoded if isinstance(decoded, Job) else decoded.job
                lane = job.envelope.lane
                if isinstance(decoded, Job) and self.gathering.hold(decoded):
                    source.put_back(progress, record.offset)
                    passed.add(progress)
                    continue
                if not self.room.enter(job.cost, lane):
                    await self.gather(jobs, refused)
                    jobs, refused = [], []
                    await self.room.wait(job.cost, lane)
                    if progress.revoked:
                        self.room.leave(job.cost, lane)
                        continue
                progress.start(record.offset)
                if not isinstance(decoded, Job):
                    refused.append(decoded)
                elif not self.gathering.lay_aside(decoded):
                    jobs.append(decoded)
            self.meter.read(source.lane, len(records))
            await self.gather(jobs, refused)
            # What is buffered is read without a pause: let the device start on this while the next is decoded.
            await asyncio.sleep(0)

    def revoke(self) -> None:
        """Partitions are no longer ours: drop what of them waits, and what it held up may be read again."""
        self.gathering.discard_revoked()
        self._release()

    async def gather(self, jobs: list[Job], refused: list[Outcome]) -> None:
        """Cut texts into tokens and let them wait for the device; refusals go straight to delivery."""
        refused += await self.gathering.gather(jobs)
        if refused:
            await self.finished.put(refused)

    async def admit(self) -> None:
        """Whenever a model has come, gone or failed, take up the requests that waited for it."""
        while True:
            change = await self.residents.next_change()
            async with self.gathering.settled:
                await self._settle(await self.gathering.take_up(change))
            self.changed.set()

    async def expire(self) -> None:
        """Answer what no one waits for any more while it waits for its model."""
        while True:
            await self.gathering.lateness()
            async with self.gathering.settled:
                await self._settle(self.gathering.expire())

    async def encode(self) -> None:
        """Give the device one batch after the other, each chosen when the device has taken the one before."""
        slots = asyncio.Semaphore(BATCHES_ON_DEVICE)
        async with asyncio.TaskGroup() as computing:
            while True:
                await slots.acquire()
                batch = await self.waiting.take()
                if batch is None:
                    return
                launched = asyncio.Event()
                task = computing.create_task(self._compute(batch, self.residents.lease(batch.model), launched))
                task.add_done_callback(lambda _: slots.release())
                await launched.wait()
                self.gathering.demand()

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

    async def _settle(self, refused: list[Outcome]) -> None:
        """Pass on what became of requests that waited for their models; what they held up may be read again."""
        if refused:
            await self.finished.put(refused)
        self._release()

    def _release(self) -> None:
        for source in self.sources:
            source.released.set()

    async def _compute(self, batch: Batch, lease: Lease, launched: asyncio.Event) -> None:
        """Compute one batch, less what nobody waits for any more, and pass on the jobs that it finishes."""
        with lease as engine:
            now_s, now_ms = time.monotonic(), time.time() * 1000
            late = [part.job for part in batch.parts if part.start == 0 and deadline_unix_ms(part.job) <= now_ms]
            if late:
                await self.finished.put([self._expire(job) for job in late])
                batch = without(batch, late)
            for part in batch.parts:
                job = part.job
                job.queue_ms = job.queue_ms or round((now_s - job.arrived_s) * 1000 - job.tokenize_ms, 3)
            if batch.parts:
                relief = Relief(
                    partial(self.residents.make_room, batch.model), partial(self.meter.relieved, batch.model)
                )
                start_s = time.perf_counter()
                await encode_parts(self.device, engine, batch.parts, relief, launched.set)
                self.meter.encoded(batch, time.perf_counter() - start_s)
                await self.finished.put(self._finish(batch, engine.facts))
            launched.set()

    def _finish(self, batch: Batch, facts: ModelFacts) -> list[Outcome]:
        """The outcomes of those jobs whose last part this was; another batch may hold another part of them."""
        jobs = {id(part.job): part.job for part in batch.parts}.values()
        done = [job for job in jobs if job.remaining == 0 and not job.answered]
        for job in done:
            job.answered = True
        return [Outcome(job, answer(job, facts)) for job in done]

    def _expire(self, job: Job) -> Outcome:
        """Nothing past its deadline reaches the device."""
        self.waiting.drop(job)
        return fail(job, Fault("deadline_exceeded", "the deadline passed while the request waited for the device"))


def without(batch: Batch, dropped: Sequence[Job]) -> Batch:
    """A batch less some of its jobs."""
    gone = {id(job) for job in dropped}
    parts = [part for part in batch.parts if id(part.job) not in gone]
    counts = [part.job.prepared.tokens[part.start : part.stop] for part in parts]
    return Batch(batch.model, parts, sum(map(len, counts)), sum(map(sum, counts)))
