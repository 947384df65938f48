"""What becomes of the requests of one batch?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from embedmq_worker.answer import answer
from embedmq_worker.bisect import Relief
from embedmq_worker.cancel import Cancellations
from embedmq_worker.decode import fail
from embedmq_worker.engine.seam import Fault, ModelFacts
from embedmq_worker.errors import DeviceLost
from embedmq_worker.gather import PAUSED, Gather
from embedmq_worker.guard import failed
from embedmq_worker.jobs import Batch, Ending, Job, Outcome, deadline_unix_ms, size
from embedmq_worker.meter import Meter
from embedmq_worker.residents import Lease, Residents
from embedmq_worker.retry import Retries
from embedmq_worker.supply import Supply
from embedmq_worker.suspects import Suspects
from embedmq_worker.tracing import Tracing
from embedmq_worker.waiting import Waiting

LATE: Final = Fault("deadline_exceeded", "the deadline passed while the request waited for the device")
CANCELLED: Final = Fault("cancelled", "the caller cancelled it before it was computed")
EXHAUSTED: Final = Fault("processing_failed", "the device had too little memory for it alone")
LOST: Final = Fault("processing_failed", "the device broke while it was computed")


@dataclass(slots=True)
class Forward:
    """Takes a batch to the device and back; `lost` once the device is broken, after which there is no more to do."""

    supply: Supply
    residents: Residents
    waiting: Waiting
    gathering: Gather
    suspects: Suspects
    cancellations: Cancellations
    retries: Retries
    meter: Meter
    tracing: Tracing | None = None
    lost: DeviceLost | None = None

    async def run(self, batch: Batch, lease: Lease, launched: asyncio.Event) -> list[Ending]:
        """Compute a batch, less what nobody waits for any more; returns what became of the jobs that this finishes.

        `launched` is set when the device can be given another.
        """
        with lease as engine:
            now_s = time.monotonic()
            wanted, endings = await self._drop_unwanted(batch)
            for part in wanted.parts:
                job = part.job
                job.queue_ms = job.queue_ms or round((now_s - job.arrived_s) * 1000 - job.tokenize_ms, 3)
            if wanted.parts:
                relief = Relief(
                    partial(self.residents.make_room, batch.model), partial(self.meter.relieved, batch.model)
                )
                try:
                    async with self.suspects.watch([wanted.parts[0].job]):
                        supplied = await self.supply.supply(engine, wanted, relief, launched.set)
                except DeviceLost as error:
                    if self.tracing is not None:
                        self.tracing.computed(wanted, engine.facts, now_s, None, type(error).__name__)
                    endings += self._lose(wanted, error)
                else:
                    if self.tracing is not None:
                        self.tracing.computed(wanted, engine.facts, now_s, supplied)
                    self.meter.encoded(wanted, supplied)
                    endings += self._finish(wanted, engine.facts)
            launched.set()
        return endings

    async def _drop_unwanted(self, batch: Batch) -> tuple[Batch, list[Ending]]:
        """Answer what is past its deadline or was cancelled: nothing of it reaches the device."""
        fresh = [part.job for part in batch.parts if part.start == 0]
        cancelled = await self.cancellations.among([job.envelope.id for job in fresh])
        now_ms = time.time() * 1000
        late = {id(job) for job in fresh if deadline_unix_ms(job) <= now_ms}
        if not cancelled and not late:
            return batch, []
        unwanted = [job for job in fresh if id(job) in late or job.envelope.id in cancelled]
        for job in unwanted:
            self.waiting.drop(job)
        self.gathering.pauses.undecided(batch.model)
        endings: list[Ending] = [fail(job, LATE if id(job) in late else CANCELLED) for job in unwanted]
        return without(batch, unwanted), endings

    def _finish(self, batch: Batch, facts: ModelFacts) -> list[Ending]:
        """What becomes of those jobs whose last part this was; another batch may hold another part of them."""
        done = [job for job in jobs_of(batch) if job.remaining == 0 and not job.answered]
        for job in done:
            job.answered = True
        endings: list[Ending] = []
        for job in done:
            self._end(job, facts, endings)
        return endings

    def _end(self, job: Job, facts: ModelFacts, endings: list[Ending]) -> None:
        """Answer a job, or try it again: when memory ran out on it alone, or when its model has just been paused. With
        it come those that a pause sends away.
        """
        if job.exhausted and (retry := self.retries.retry(job, EXHAUSTED, time.time() * 1000)) is not None:
            endings.append(retry)
            return
        outcome = Outcome(job, answer(job, facts))
        verdict = failed(outcome.result) if job.prepared.faults else False
        if verdict and self.gathering.pauses.blocks(job.envelope.model):
            endings.append(self.retries.park(job, PAUSED, time.time() * 1000))
            return
        endings.append(outcome)
        if verdict is None:
            self.gathering.pauses.undecided(job.envelope.model)
        else:
            endings += self.gathering.observe(job.envelope.model, failed=verdict)

    def _lose(self, batch: Batch, error: DeviceLost) -> list[Ending]:
        """The device is broken: have each request of the batch run elsewhere, alone."""
        lost = [job for job in jobs_of(batch) if not job.answered]
        for job in lost:
            job.answered = True
            self.waiting.drop(job)
        self.meter.device_lost(error, len(lost))
        self.lost = error
        return [self.retries.again(job, LOST, time.time() * 1000, alone=True) for job in lost]


def jobs_of(batch: Batch) -> list[Job]:
    """Each job once, though it may have several parts."""
    return list({id(part.job): part.job for part in batch.parts}.values())


def without(batch: Batch, dropped: Sequence[Job]) -> Batch:
    """A batch less some of its jobs."""
    gone = {id(job) for job in dropped}
    parts = [part for part in batch.parts if id(part.job) not in gone]
    return Batch(batch.model, parts, *size(parts))
