"""How do decoded jobs become work for the device, whether or not their model is in memory?"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

from embedmq_worker.absent import Absent
from embedmq_worker.bisect import prepare_jobs
from embedmq_worker.choose import Budget
from embedmq_worker.decode import Decoder, fail
from embedmq_worker.engine.seam import Fault, ModelFacts
from embedmq_worker.jobs import Job, Outcome
from embedmq_worker.meter import Meter
from embedmq_worker.progress import Progress
from embedmq_worker.residents import Change, Failed, Loaded, Residents
from embedmq_worker.room import Room
from embedmq_worker.waiting import Waiting


@dataclass(slots=True)
class Gather:
    """Texts are cut into tokens where their model is resident; elsewhere they wait, untouched, until it is."""

    decoder: Decoder
    residents: Residents
    absent: Absent
    waiting: Waiting
    room: Room
    meter: Meter
    tokenizers: Executor
    budget: Callable[[ModelFacts], Budget]
    settled: asyncio.Lock = field(default_factory=asyncio.Lock)
    """To be held while jobs are on their way from `absent` to `waiting`, or to their answers."""
    _laid: asyncio.Event = field(default_factory=asyncio.Event)
    _held: dict[Progress, str] = field(default_factory=dict[Progress, str])
    """Partitions of which no more is read, and the absent models that too many wait for."""

    async def gather(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Prepare jobs for the device, or lay them aside; returns what became of those that cannot be computed."""
        refused: list[Outcome] = []
        by_model: dict[str, list[Job]] = {}
        for job in jobs:
            by_model.setdefault(job.envelope.model, []).append(job)
        for model, found in by_model.items():
            group = self._ours(found)  # the one before may have taken long
            if not group:
                continue
            if self._is_absent(model):
                for job in group:
                    self._lay_aside(job)
            else:
                refused += await self._tokenize(model, group)
        self.demand()
        return refused

    def hold(self, job: Job) -> bool:
        """Whether too many wait for its model to read one more; then no more is read of its partition for a while."""
        model = job.envelope.model
        if self.residents.engine(model) is None and self.absent.full(model):
            self._hold(job)
            return True
        return False

    def lay_aside(self, job: Job) -> bool:
        """Let a job wait for its model if that is not in memory; whether it does."""
        if not self._is_absent(job.envelope.model):
            return False
        self._lay_aside(job)
        return True

    async def take_up(self, change: Change) -> list[Outcome]:
        """Gather what waited for a model that is there now; answer it when the model does not come."""
        model = change.model
        if isinstance(change, Loaded):
            self.meter.loaded(model, change.facts, change.load_s)
            self.waiting.budgets[model] = self.budget(change.facts)
            self.waiting.poke()
            taken = self.absent.take(model)
            self._release()
            sound, refused = self._check(taken, change.facts)
            return refused + await self.gather(sound)
        if isinstance(change, Failed):
            lost = [*self.absent.take(model), *self.waiting.withdraw(model)]
            self._release()
            self.meter.unavailable(model, change.error, len(lost))
            self.demand()
            return [fail(job, Fault("model_unavailable", str(change.error))) for job in lost]
        self.meter.evicted(model)
        self.demand()
        return []

    async def lateness(self) -> None:
        """Wait until something that waits for its model may be past its deadline."""
        while (left_ms := self.absent.soonest_unix_ms - time.time() * 1000) > 0:
            self._laid.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._laid.wait(), None if left_ms == float("inf") else left_ms / 1000)

    def expire(self) -> list[Outcome]:
        """Answer what is past its deadline while it waits for its model."""
        late = self.absent.expire(time.time() * 1000)
        self._release()
        self.demand()
        return [fail(job, Fault("deadline_exceeded", "the deadline passed while its model was loaded")) for job in late]

    def demand(self) -> None:
        """Say what waits, so that the models for it are loaded."""
        self.residents.demand([*self.absent.demands(), *self.waiting.demands()])

    async def close(self) -> None:
        """Nothing more is decoded: wait until every model that is waited for has come, or has failed."""
        closed = False
        while not closed:
            await self.absent.emptied()
            async with self.settled:  # whoever held it may have laid aside again what it had taken
                if closed := self.absent.empty:
                    self.waiting.close()

    def discard_revoked(self) -> None:
        """A partition is no longer ours: drop what of it waits, so that only its new owner computes it."""
        self._discard([*self.waiting.discard_revoked(), *self.absent.discard_revoked()])
        self._release()
        self.demand()

    async def _tokenize(self, model: str, jobs: list[Job]) -> list[Outcome]:
        before = [job.cost for job in jobs]
        with self.residents.hold(model) as engine:
            refused = await prepare_jobs(engine, jobs, self.tokenizers)
            facts = engine.facts
        for job, cost in zip(jobs, before, strict=True):
            self.room.change(cost, job.cost, job.envelope.lane)
        self.meter.prepared(model, jobs)
        refused += [found for job in _without(jobs, refused) if (found := self.decoder.check_tokens(job, facts))]
        self.waiting.put(self._ours(_without(jobs, refused)))
        return refused

    def _is_absent(self, model: str) -> bool:
        return self.residents.engine(model) is None or self.absent.count(model) > 0  # those before it come first

    def _lay_aside(self, job: Job) -> None:
        """Let a job wait for its model; where too many do, no more is read of the partition that brought it."""
        model = job.envelope.model
        if not self.absent.count(model):
            self.meter.absent(model)
        self.absent.put([job])
        self._laid.set()
        if self.absent.full(model):
            self._hold(job)

    def _hold(self, job: Job) -> None:
        job.progress.held = True
        self._held[job.progress] = job.envelope.model

    def _release(self) -> None:
        """Have partitions read again whose models are there now, or are not waited for by too many any more."""
        for progress, model in list(self._held.items()):
            if progress.revoked or self.residents.engine(model) is not None or not self.absent.full(model):
                progress.held = False
                del self._held[progress]

    def _check(self, jobs: Sequence[Job], facts: ModelFacts) -> tuple[list[Job], list[Outcome]]:
        """Hold what waited for a model's first load against what the model can do."""
        sound: list[Job] = []
        refused: list[Outcome] = []
        for job in jobs:
            before = job.cost
            checked = job if job.checked else self.decoder.check(job, facts)
            if isinstance(checked, Job):
                sound.append(checked)
            else:
                refused.append(checked)
            self.room.change(before, job.cost, job.envelope.lane)
        return sound, refused

    def _ours(self, jobs: list[Job]) -> list[Job]:
        """Those whose partitions were not taken away meanwhile; the others are dropped."""
        lost = [job for job in jobs if job.progress.revoked]
        if not lost:
            return jobs
        self._discard(lost)
        return [job for job in jobs if not job.progress.revoked]

    def _discard(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.room.leave(job.cost, job.envelope.lane)


def _without(jobs: list[Job], refused: Sequence[Outcome]) -> list[Job]:
    if not refused:
        return jobs
    gone = {id(outcome.job) for outcome in refused}
    return [job for job in jobs if id(job) not in gone]
