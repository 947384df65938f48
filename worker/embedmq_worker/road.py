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
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from functools import partial

from aiokafka import ConsumerRecord

from embedmq_worker.changes import Failed, Loaded
from embedmq_worker.decode import Decoder
from embedmq_worker.delivery import Delivery
from embedmq_worker.errors import DeviceLost
from embedmq_worker.forward import Forward
from embedmq_worker.gather import Gather
from embedmq_worker.jobs import Batch, Ending, Job, Load, Stray
from embedmq_worker.meter import Meter
from embedmq_worker.progress import Progress
from embedmq_worker.residents import Lease, Residents
from embedmq_worker.retry import Retries
from embedmq_worker.room import Room
from embedmq_worker.roster import Roster
from embedmq_worker.source import Source
from embedmq_worker.strays import Strays
from embedmq_worker.suspects import Suspects
from embedmq_worker.tracing import Tracing
from embedmq_worker.waiting import Waiting

FINISHED_BATCHES = 2
"""Batches whose results may wait for delivery: enough to keep the device busy, too few to hide a slow Redis."""
BATCHES_ON_DEVICE = 2
"""One computes while the other is copied in or out: a third would only be chosen too early."""


@dataclass(slots=True)
class Road:
    """The parts of one worker, and the five stages that connect them."""

    roster: Roster
    sources: Sequence[Source]
    decoder: Decoder
    suspects: Suspects
    strays: Strays
    retries: Retries
    gathering: Gather
    residents: Residents
    room: Room
    waiting: Waiting
    forward: Forward
    delivery: Delivery
    meter: Meter
    commit_interval_s: float
    tracing: Tracing | None = None
    lost: DeviceLost | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a model has come or gone."""
    finished: asyncio.Queue[list[Ending] | None] = field(default_factory=lambda: asyncio.Queue(FINISHED_BATCHES))

    async def run(self) -> None:
        """Run until the sources end; what they have read is delivered and committed first."""
        async with asyncio.TaskGroup() as stages:
            commits = [stages.create_task(self.commit(source)) for source in self.sources]
            delivering = stages.create_task(self.deliver())
            encoding = stages.create_task(self.encode())
            aside = [stages.create_task(stage) for stage in (self.admit(), self.resume(), self.expire())]
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
        if self.lost is not None:
            raise self.lost

    async def decode(self, source: Source) -> None:
        """Turn records into jobs, as many as there is room for; what is wrong with one becomes its outcome."""
        async for records in source.read():
            now_s = time.monotonic()
            read, later = Load(), set[Progress]()
            await self.suspects.meet(records)
            for progress, record in records:
                if progress.revoked or progress in later or self.gathering.abandoned:
                    continue  # another worker has it now, or it is read again
                found = self._open(source, progress, record, now_s)
                if found is None:
                    later.add(progress)
                    continue
                job = found if isinstance(found, Job) else found.job
                if not self.room.enter(job.cost, job.envelope.lane):
                    await self.gather(read)
                    read = Load()
                    await self.room.wait(job.cost, job.envelope.lane)
                if not progress.start(record):
                    self.room.leave(job.cost, job.envelope.lane)
                    continue
                self.meter.started(job)
                if self.tracing is not None:
                    self.tracing.begin(job, source.reader)
                if not (isinstance(found, Job) and self.gathering.lay_aside(found)):
                    read.add(found)
            self.meter.read(source.reader, len(records))
            await self.gather(read)
            # What is buffered is read without a pause: let the device start on this while the next is decoded.
            await asyncio.sleep(0)

    def _open(
        self, source: Source, progress: Progress, record: ConsumerRecord, now_s: float
    ) -> Job | Ending | Stray | None:
        """Decode one record; None if its partition is to be read on from it later."""
        if source.reader == "retry" and not progress.is_due(record.offset):
            wait_s = self.retries.wait_s(record.topic, record.headers, time.time() * 1000)
            if wait_s > 0:
                source.defer(progress, record.offset, wait_s)
                return None
        if self.suspects.some and self.suspects.must_wait(progress):
            source.put_back(progress, record.offset)
            return None
        found = self.decoder.decode(record, progress, now_s)
        if not isinstance(found, Job):
            return found
        if self.suspects.some and (unrun := self.suspects.mark(found)) is not None:
            return unrun
        if self.gathering.crowd.refuses(found):
            turned_away = self.gathering.crowd.turn_away(found)
            if turned_away is None:
                source.put_back(progress, record.offset)
            return turned_away
        return found

    def revoke(self) -> Awaitable[None]:
        """Partitions are no longer ours: drop what of them waits, and what it held up may be read again. What is left
        to be awaited takes a second at most.
        """
        self.gathering.discard_revoked()
        self._release()
        return self.suspects.end_revoked()

    async def gather(self, read: Load) -> None:
        """Cut texts into tokens and let them wait for the device; refusals go straight to delivery."""
        endings = read.endings + await self.gathering.gather(read.jobs)
        if read.strays:
            endings += await self.strays.settle(read.strays)
        if endings:
            await self.finished.put(endings)

    async def admit(self) -> None:
        """Whenever a model has come, gone or failed, take up the requests that waited for it."""
        while True:
            change = await self.residents.next_change()
            if isinstance(change, Failed) and isinstance(change.error, DeviceLost):
                self._abandon(change.error)
            if self.tracing is not None and isinstance(change, Loaded):
                self.tracing.loaded(change)
            async with self.gathering.settled:
                await self._settle(await self.gathering.take_up(change))
            self.changed.set()
            await asyncio.sleep(0)  # whatever is told in a row, others have their turn

    async def resume(self) -> None:
        """Whenever the pause of a model is over, try one of its requests, and go on with all when that went well."""
        while True:
            await self.gathering.resumption()
            async with self.gathering.settled:
                await self._settle(await self.gathering.resume())

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
                lease, launched = self.residents.lease(batch.model), asyncio.Event()
                taken = BATCHES_ON_DEVICE if batch.alone else 1
                for _ in range(taken - 1):
                    await slots.acquire()
                task = computing.create_task(self._compute(batch, lease, launched))
                task.add_done_callback(partial(_release, slots, taken))
                await launched.wait()
                self.gathering.demand()

    async def deliver(self) -> None:
        """Deliver what is finished, several batches in one go when they wait; only then are their offsets complete."""
        ended = False
        while not ended:
            endings: list[Ending] = []
            found = await self.finished.get()
            while found is not None:
                endings += found
                if self.finished.empty():
                    break
                found = self.finished.get_nowait()
            ended = found is None
            start_s = time.perf_counter()
            await self.delivery.deliver(endings)
            for ending in endings:
                job = ending.job
                job.progress.complete(job.record)
                self.gathering.leave(job)
            deliver_s = time.perf_counter() - start_s
            traced = None if self.tracing is None else self.tracing.delivered(endings, deliver_s)
            self.meter.delivered(endings, deliver_s, traced)
            for source in self.sources:
                source.wake.set()

    async def commit(self, source: Source) -> None:
        """Commit what is complete, at most once an interval; at the end, the rest."""
        while not source.finished:
            await source.wake.wait()
            source.wake.clear()
            await source.commit()
            if self.suspects.release():
                self._release()
            if not source.finished:
                await asyncio.sleep(self.commit_interval_s)
        await source.commit_last()

    async def _settle(self, endings: list[Ending]) -> None:
        """Pass on what became of requests that waited for their models; what they held up may be read again."""
        if endings:
            await self.finished.put(endings)
        self._release()

    def _release(self) -> None:
        for source in self.sources:
            source.released.set()

    async def _compute(self, batch: Batch, lease: Lease, launched: asyncio.Event) -> None:
        """Compute one batch and pass on what it finishes; a broken device ends the road."""
        endings = await self.forward.run(batch, lease, launched)
        if self.forward.lost is not None:
            self._abandon(self.forward.lost)
        if endings:
            await self.finished.put(endings)
        await self.forward.supply.remember()

    def _abandon(self, error: DeviceLost) -> None:
        """The device is broken: deliver what is computed, leave the rest to others, and end."""
        self.lost = error
        self.gathering.abandon()
        for source in self.sources:
            source.stop()


def _release(slots: asyncio.Semaphore, taken: int, _: asyncio.Task[None]) -> None:
    for _number in range(taken):
        slots.release()
