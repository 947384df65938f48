"""How do decoded jobs become work for the device, whether or not their model is in memory?"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import InitVar, dataclass, field
from typing import Final

from embedmq_worker.absent import Absent
from embedmq_worker.bisect import prepare_jobs
from embedmq_worker.choose import Budget
from embedmq_worker.crowd import Crowd
from embedmq_worker.decode import Decoder, fail
from embedmq_worker.engine.seam import Fault, ModelFacts
from embedmq_worker.errors import WorkerError
from embedmq_worker.jobs import Ending, Job, begin_anew
from embedmq_worker.meter import Meter
from embedmq_worker.pauses import Pauses
from embedmq_worker.quotas import Quotas
from embedmq_worker.residents import Change, Failed, Loaded, Repointed, Residents
from embedmq_worker.retry import Retries
from embedmq_worker.room import Room
from embedmq_worker.suspects import Suspects
from embedmq_worker.twins import Twins
from embedmq_worker.waiting import Waiting

PAUSED: Final = Fault("processing_failed", "its model fails and is paused")


@dataclass(slots=True)
class Gather:
    """Texts are cut into tokens where their model is resident; elsewhere they wait, untouched, until it is.

    So do those of a model that is paused. `crowd` says how many may.
    """

    decoder: Decoder
    residents: Residents
    absent: Absent
    waiting: Waiting
    room: Room
    meter: Meter
    tokenizers: Executor
    budget: Callable[[ModelFacts], Budget]
    pauses: Pauses
    retries: Retries
    suspects: Suspects
    twins: Twins
    quotas: Quotas
    shared_topics: InitVar[frozenset[str]]
    max_waiting: InitVar[int]
    settled: asyncio.Lock = field(default_factory=asyncio.Lock)
    """To be held while jobs are on their way from `absent` to `waiting`, or to their answers."""
    abandoned: bool = False
    crowd: Crowd = field(init=False)

    def __post_init__(self, shared_topics: frozenset[str], max_waiting: int) -> None:
        away, paused = self._is_absent, self.pauses.blocks
        self.crowd = Crowd(self.absent, self.retries, shared_topics, max_waiting, away, paused)

    async def gather(self, jobs: Sequence[Job]) -> list[Ending]:
        """Prepare jobs for the device, or lay them aside; returns what became of those that cannot be computed."""
        refused: list[Ending] = []
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

    def lay_aside(self, job: Job) -> bool:
        """Let a job wait for its model if that is not in memory; whether it does."""
        if self.abandoned or not self._is_absent(job.envelope.model):
            return False
        self._lay_aside(job)
        return True

    async def take_up(self, change: Change) -> list[Ending]:
        """Gather what waited for a model that is there now; answer it when the model does not come."""
        model = change.model
        if isinstance(change, Loaded):
            self.meter.loaded(model, change.facts, change.load_s)
            self.waiting.budgets[model] = self.budget(change.facts)
            self.waiting.poke()
            return await self.resume()
        if isinstance(change, Failed):
            return self._give_up(model, change.error)
        if isinstance(change, Repointed):
            self.pauses.forget(model)
            self.meter.repointed(model)
            self.absent.put([begin_anew(job) for job in self.waiting.withdraw(model)])
        else:
            self.meter.evicted(model)
            self.absent.put(self.waiting.set_aside(model))  # where they learn of their deadlines
        self.demand()
        return []

    async def resume(self) -> list[Ending]:
        """Gather all that waits for models which are there, and of a paused model one request, to see how it goes."""
        endings: list[Ending] = []
        for model in self.absent.models():
            if self.residents.engine(model) is None:
                continue
            if not self.pauses.holds(model):
                jobs = self.absent.take(model)
            else:
                jobs = self.absent.take_first(model) if self.pauses.admits(model) else []
            self.crowd.release()
            if jobs := self._ours(jobs):
                endings += await self._prepare(model, jobs)
        self.demand()
        return endings

    async def resumption(self) -> None:
        """Wait until a pause is over."""
        await self.pauses.ended()

    def observe(self, model: str, *, failed: bool) -> list[Ending]:
        """Count a finished request. What waits for a model that fails too often lies aside until it does not; what
        would fill the room of others there is parked.
        """
        if not self.pauses.observe(model, failed=failed):
            return []
        endings: list[Ending] = []
        for job in self.waiting.set_aside(model):
            if self.absent.full(model):
                endings.append(self.retries.park(job, PAUSED, time.time() * 1000))
            else:
                self.absent.put([job])
        self.demand()
        return endings

    async def lateness(self) -> None:
        """Wait until something that waits for its model may be past its deadline."""
        while (left_ms := self.absent.soonest_unix_ms - time.time() * 1000) > 0:
            self.absent.sooner.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.absent.sooner.wait(), None if left_ms == float("inf") else left_ms / 1000)

    def expire(self) -> list[Ending]:
        """Answer what is past its deadline while it waits for its model."""
        late = self.absent.expire(time.time() * 1000)
        self.crowd.release()
        self.demand()
        return [fail(job, Fault("deadline_exceeded", "the deadline passed while its model was loaded")) for job in late]

    def demand(self) -> None:
        """Say what waits, so that the models for it are loaded."""
        found = [*self.absent.demands(), *self.waiting.demands()]
        self.residents.demand([demand for demand in found if not self.pauses.blocks(demand.model)])

    async def close(self) -> None:
        """Nothing more is decoded: wait until every model that is waited for has come, or has failed."""
        for model in self.absent.models():
            if self.pauses.holds(model):  # nobody waits for the end of a pause: others read them again
                self._discard(self.absent.take(model))
        closed = False
        while not closed:
            await self.absent.emptied()
            async with self.settled:  # whoever held it may have laid aside again what it had taken
                if closed := self.absent.empty:
                    self.waiting.close()

    def abandon(self) -> None:
        """Nothing more will be computed: what waits is read again by others."""
        self.abandoned = True
        self._discard([*self.waiting.clear(), *self.absent.clear()])
        self.waiting.close()

    def discard_revoked(self) -> None:
        """A partition is no longer ours: drop what of it waits, so that only its new owner computes it."""
        self._discard([*self.waiting.discard_revoked(), *self.absent.discard_revoked()])
        self.crowd.release()
        self.demand()

    def leave(self, job: Job) -> None:
        """A job was delivered or dropped: others have its room, and no twin of it waits any more."""
        self.twins.leave(job)
        self.room.leave(job.cost, job.envelope.lane)

    async def _prepare(self, model: str, jobs: list[Job]) -> list[Ending]:
        """Hold what waited for its model against what the model can do, and cut it into tokens."""
        facts = self.residents.facts(model)
        sound, refused = self._check(jobs, facts) if facts is not None else (jobs, [])
        return refused + (await self._tokenize(model, sound) if sound else [])

    def _give_up(self, model: str, error: WorkerError) -> list[Ending]:
        """A model cannot be loaded: answer those who wait, or try again later where that may help. The guard stops this
        before all are dead letters; the others wait on.
        """
        if self.residents.engine(model) is not None:
            return []  # it was told late, and has been loaded since
        waiting = [*self.absent.take(model), *self.waiting.withdraw(model)]
        self.meter.unavailable(model, error, len(waiting))
        endings: list[Ending] = []
        fault, now_ms = Fault("model_unavailable", str(error)), time.time() * 1000
        if self.pauses.holds(model):
            self.pauses.fail(model)
        while waiting and not self.pauses.holds(model):
            job = waiting.pop(0)
            job.answered = True
            endings.append(self.retries.again(job, fault, now_ms) if error.retryable else fail(job, fault))
            self.pauses.observe(model, failed=True)
        self.absent.put([begin_anew(job) for job in waiting])
        self.crowd.release()
        self.demand()
        return endings

    async def _tokenize(self, model: str, jobs: list[Job]) -> list[Ending]:
        """Cut jobs into tokens: those that a process died with one by one, with nothing beside them."""
        endings: list[Ending] = []
        for job in jobs:
            if job.suspect:
                async with self.suspects.watch([job]):
                    endings += await self._cut(model, [job])
        if others := [job for job in jobs if not job.suspect]:
            async with self.suspects.watch(others):
                endings += await self._cut(model, others)
        return endings

    async def _cut(self, model: str, jobs: list[Job]) -> list[Ending]:
        if self.residents.engine(model) is None:  # it was evicted while a suspect had the worker for itself
            self.absent.put(jobs)
            return []
        before = [job.cost for job in jobs]
        # kept until they wait: were it to go before, nobody would take its tokens from the checkpoint that comes then
        with self.residents.hold(model) as engine:
            refused: list[Ending] = list(await prepare_jobs(engine, jobs, self.tokenizers))
            for job, cost in zip(jobs, before, strict=True):
                self.room.change(cost, job.cost, job.envelope.lane)
            self.meter.prepared(model, jobs)
            checked, facts = _without(jobs, refused), engine.facts
            refused += [found for job in checked if (found := self.decoder.check_tokens(job, facts))]
            refused += await self.quotas.charge(_without(jobs, refused))
            ready = self._ours(_without(jobs, refused))
            self.twins.enter(ready, facts)
            self.waiting.put(ready)
        return refused

    def _is_absent(self, model: str) -> bool:
        if self.residents.engine(model) is None or self.pauses.holds(model):
            return True
        return not self.absent.empty and self.absent.count(model) > 0  # those before it come first

    def _lay_aside(self, job: Job) -> None:
        """Let a job wait for its model; where too many do, no more is read of the partition that brought it."""
        model = job.envelope.model
        if not self.absent.count(model):
            self.meter.absent(model)
        self.absent.put([job])
        self.pauses.poke(model)
        self.crowd.joined(job)

    def _check(self, jobs: Sequence[Job], facts: ModelFacts) -> tuple[list[Job], list[Ending]]:
        sound: list[Job] = []
        refused: list[Ending] = []
        for job in jobs:
            before = job.cost
            checked = self.decoder.check(job, facts)  # also what was checked before: it may be another model now
            if isinstance(checked, Job):
                sound.append(checked)
            else:
                refused.append(checked)
            self.room.change(before, job.cost, job.envelope.lane)
        return sound, refused

    def _ours(self, jobs: list[Job]) -> list[Job]:
        """Those whose partitions were not taken away meanwhile; the others are dropped."""
        lost = jobs if self.abandoned else [job for job in jobs if job.progress.revoked]
        if not lost:
            return jobs
        self._discard(lost)
        return [] if self.abandoned else [job for job in jobs if not job.progress.revoked]

    def _discard(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.pauses.undecided(job.envelope.model)
            self.leave(job)


def _without(jobs: list[Job], refused: Sequence[Ending]) -> list[Job]:
    if not refused:
        return jobs
    gone = {id(ending.job) for ending in refused}
    return [job for job in jobs if id(job) not in gone]
