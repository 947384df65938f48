"""What is waiting for the device, and how does the loop learn that something is?"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence

from embedmq_schemas.requests import Lane

from embedmq_worker.choose import Budget, Queue, choose
from embedmq_worker.jobs import Batch, Job


class Waiting:
    """Jobs that are ready for the device, by model and lane. Bounded by what `Room` admits."""

    def __init__(self, budgets: Mapping[str, Budget]) -> None:
        self._budgets = budgets
        self._queues: dict[tuple[str, Lane], Queue] = {}
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, jobs: Sequence[Job]) -> None:
        """Add jobs, in order of arrival."""
        for job in jobs:
            key = (job.envelope.model, job.envelope.lane)
            queue = self._queues.get(key)
            if queue is None:
                queue = self._queues[key] = Queue(*key, deque())
            self._jobs(queue).append(job)
        if jobs:
            self._changed.set()

    def close(self) -> None:
        """No more will come: `take` empties what is there, then returns None."""
        self._closed = True
        self._changed.set()

    async def take(self) -> Batch | None:
        """The next batch, as soon as there is one; None at the end."""
        while True:
            batch = self._choose()
            if batch is not None or self._closed:
                return batch
            self._changed.clear()
            await self._changed.wait()

    def drop(self, job: Job) -> None:
        """Forget what is left of a job whose first part was taken."""
        queue = self._queues[job.envelope.model, job.envelope.lane]
        if queue.jobs and queue.jobs[0] is job:
            self._jobs(queue).popleft()
            queue.next = 0

    def discard_revoked(self) -> list[Job]:
        """Drop and return what belongs to partitions that are no longer ours and is not on the device."""
        dropped: list[Job] = []
        for queue in self._queues.values():
            jobs = self._jobs(queue)
            keep = [job for i, job in enumerate(jobs) if not job.progress.revoked or (i == 0 and queue.next)]
            dropped += [job for i, job in enumerate(jobs) if job.progress.revoked and not (i == 0 and queue.next)]
            jobs.clear()
            jobs.extend(keep)
        return dropped

    def wait_tokens(self, model: str, lane: Lane) -> int:
        """Tokens that wait ahead of a request arriving now."""
        queue = self._queues.get((model, lane))
        return sum(job.cost.tokens for job in queue.jobs) if queue else 0

    def _choose(self) -> Batch | None:
        batch = choose(list(self._queues.values()), self._budgets, time.monotonic())
        if batch is None:
            return None
        for part in batch.parts:
            queue = self._queues[batch.model, part.job.envelope.lane]
            if part.stop == len(part.job.prepared.tokens):
                self._jobs(queue).popleft()
                queue.next = 0
            else:
                queue.next = part.stop
        return batch

    @staticmethod
    def _jobs(queue: Queue) -> deque[Job]:
        if not isinstance(queue.jobs, deque):
            raise TypeError("queues are made here, of deques")
        return queue.jobs
