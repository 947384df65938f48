"""Which requests run one at a time, or not at all, because processes died with them?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from aiokafka import ConsumerRecord

from embedmq_worker.decode import fail
from embedmq_worker.engine.seam import Fault
from embedmq_worker.jobs import Job, Outcome
from embedmq_worker.meter import Meter
from embedmq_worker.progress import Progress
from embedmq_worker.quiet import Quiet
from embedmq_worker.starts import UNRUN_FROM, Partition, Starts

UNRUN = Fault("processing_failed", f"{UNRUN_FROM} processes died while it was computed: it was not run again")


class Suspects:
    """Keeps the rules of `starts` on the road: what a suspect partition brings runs alone, record after record."""

    def __init__(self, starts: Starts, meter: Meter) -> None:
        self._starts = starts
        self._meter = meter
        self._quiet = Quiet()
        self._met: set[Progress] = set()
        self.some = False
        """Whether there are any: there hardly ever are, and every record would be asked for it."""
        self._waiting: set[Progress] = set()

    async def meet(self, records: Sequence[tuple[Progress, ConsumerRecord]]) -> None:
        """Judge the partitions of which these are the first records in their assignment."""
        heads: dict[Progress, int] = {}
        for progress, record in records:
            if progress not in self._met and not progress.revoked:
                heads.setdefault(progress, record.offset)
        if heads:
            self._met.update(heads)
            await self._starts.begin({_place(progress): offset for progress, offset in heads.items()})
            self.some = any(self._starts.alone(_place(progress)) for progress in self._met)

    def must_wait(self, progress: Progress) -> bool:
        """Whether the record before this one is not committed yet, in a partition whose records run alone."""
        if not self._starts.alone(_place(progress)) or _is_settled(progress):
            return False
        progress.hold("alone")
        self._waiting.add(progress)
        return True

    def release(self) -> bool:
        """Let partitions be read on whose last record is committed; whether there are any."""
        settled = {progress for progress in self._waiting if progress.revoked or _is_settled(progress)}
        for progress in settled:
            progress.release("alone")
        self._waiting -= settled
        return bool(settled)

    def mark(self, job: Job) -> Outcome | None:
        """Note on a job whether it runs alone; the failure of one that is not to be run at all."""
        place = _place(job.progress)
        if self._starts.unrun(place, job.record.offset):
            self._meter.unrun(job.envelope.id, *place, UNRUN_FROM)
            return fail(job, UNRUN)
        if self._starts.alone(place):
            job.alone = job.suspect = True
        return None

    @asynccontextmanager
    async def watch(self, jobs: Sequence[Job]) -> AsyncIterator[None]:
        """Cut or compute jobs inside of this: side by side with others, or alone if it is a suspect."""
        if not jobs[0].suspect:
            async with self._quiet.shared():
                yield
            return
        place, offset = _place(jobs[0].progress), jobs[0].record.offset
        async with self._quiet.alone():
            await self._starts.enter(place, offset)
            try:
                yield
            finally:
                await self._starts.leave(place, offset)

    async def end_revoked(self) -> None:
        """Partitions were taken away: nothing of them is run here any more."""
        await self._end({progress for progress in self._met if progress.revoked})

    async def end(self) -> None:
        """The worker stops, and leaves in good order."""
        await self._end(set(self._met))

    async def _end(self, gone: set[Progress]) -> None:
        self._met -= gone
        if gone:
            await self._starts.end([_place(progress) for progress in gone])


def _place(progress: Progress) -> Partition:
    return progress.topic, progress.partition


def _is_settled(progress: Progress) -> bool:
    """Whether all that was read is committed."""
    return progress.open == 0 and progress.committable() is None
