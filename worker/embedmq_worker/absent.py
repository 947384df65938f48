"""Which requests wait for a model that is not in memory, and is there room for more of them?"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from embedmq_worker.config import Worker
from embedmq_worker.jobs import Cost, Job, deadline_unix_ms
from embedmq_worker.progress import Progress
from embedmq_worker.residency import Demand
from embedmq_worker.room import NOTHING

MODEL_SHARE: Final = 0.1
"""Part of the room that those who wait for one absent model may fill, …"""
ABSENT_SHARE: Final = 0.5
"""… and those who wait for all of them: the rest is left to the models that are there."""


class Absent:
    """Jobs by model, not cut into tokens yet, in order of arrival. They hold their places in `Room`."""

    def __init__(self, settings: Worker) -> None:
        self._limit = Cost(settings.max_in_flight_bytes, settings.max_in_flight_items, settings.max_in_flight_tokens)
        self._jobs: dict[str, list[Job]] = {}
        self._of: Counter[tuple[Progress, str]] = Counter()
        self._held: dict[str, Cost] = {}
        self._soonest_unix_ms = float("inf")
        self._empty = asyncio.Event()
        self._empty.set()
        self.sooner = asyncio.Event()
        """Set when a deadline came that is earlier than all the others."""

    def put(self, jobs: Sequence[Job]) -> None:
        """Let jobs wait until their models are there."""
        for job in jobs:
            self._jobs.setdefault(job.envelope.model, []).append(job)
            self._count(job)
            if job.trace is not None and job.trace.absent_s is None:
                job.trace.absent_s = time.monotonic()
        if jobs:
            self._empty.clear()

    def take(self, model: str) -> list[Job]:
        """All that wait for a model, which is there now or will not be."""
        jobs = self._jobs.pop(model, [])
        self._held.pop(model, None)
        self._of.subtract((job.progress, model) for job in jobs)
        self._of += Counter()  # those of which none is left are forgotten
        if not self._jobs:
            self._empty.set()
        return jobs

    def take_first(self, model: str) -> list[Job]:
        """The one that waits for longest, if there is one."""
        jobs = self.take(model)
        self.put(jobs[1:])
        return jobs[:1]

    async def emptied(self) -> None:
        """Wait until nobody waits."""
        await self._empty.wait()

    @property
    def empty(self) -> bool:
        """Whether nobody waits."""
        return not self._jobs

    def count(self, model: str) -> int:
        """How many requests wait for a model."""
        return len(self._jobs.get(model, ()))

    def count_of(self, progress: Progress, model: str) -> int:
        """How many requests of one partition wait for a model."""
        return self._of[progress, model]

    def models(self) -> list[str]:
        """What is waited for."""
        return list(self._jobs)

    def demands(self) -> list[Demand]:
        """What waits, by model; its tokens are not counted yet."""
        return [Demand(model, jobs[0].arrived_s, 0) for model, jobs in self._jobs.items()]

    def full(self, model: str) -> bool:
        """Whether no more should be read for a model: too many wait for it, or for all the absent ones."""
        mine = self._held.get(model, NOTHING)
        return _exceeds(mine, self._limit, MODEL_SHARE) or _exceeds(
            _sum(self._held.values()), self._limit, ABSENT_SHARE
        )

    def clear(self) -> list[Job]:
        """Drop and return everything."""
        return self._remove(lambda _: True)

    def discard_revoked(self) -> list[Job]:
        """Drop and return what belongs to partitions that are no longer ours."""
        return self._remove(lambda job: job.progress.revoked)

    def expire(self, now_unix_ms: float) -> list[Job]:
        """Drop and return what is past its deadline; costs nothing before `soonest_unix_ms`."""
        if now_unix_ms < self._soonest_unix_ms:
            return []
        return self._remove(lambda job: deadline_unix_ms(job) <= now_unix_ms)

    @property
    def soonest_unix_ms(self) -> float:
        """When `expire` should look again; infinite while no request has a deadline."""
        return self._soonest_unix_ms

    def _remove(self, gone: Callable[[Job], bool]) -> list[Job]:
        everything = [job for jobs in self._jobs.values() for job in jobs]
        self._jobs, self._held, self._soonest_unix_ms = {}, {}, float("inf")
        self._of.clear()
        removed = [job for job in everything if gone(job)]
        out = {id(job) for job in removed}
        self.put([job for job in everything if id(job) not in out])
        if self.empty:
            self._empty.set()
        return removed

    def _count(self, job: Job) -> None:
        model = job.envelope.model
        self._held[model] = _sum([self._held.get(model, NOTHING), job.cost])
        self._of[job.progress, model] += 1
        if (deadline_ms := deadline_unix_ms(job)) < self._soonest_unix_ms:
            self._soonest_unix_ms = deadline_ms
            self.sooner.set()


def _sum(costs: Iterable[Cost]) -> Cost:
    found = list(costs)
    return Cost(
        sum(cost.bytes for cost in found), sum(cost.items for cost in found), sum(cost.tokens for cost in found)
    )


def _exceeds(held: Cost, limit: Cost, share: float) -> bool:
    return held.bytes > limit.bytes * share or held.items > limit.items * share or held.tokens > limit.tokens * share
