"""What is waiting for the device, and how does the loop learn that something is?"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence

from embedmq_schemas.requests import Lane

from embedmq_worker.choose import Budget, Chooser, Queue
from embedmq_worker.jobs import Batch, Job
from embedmq_worker.residency import Demand


class Waiting:
    """Jobs that are ready for the device, by model, lane and tenant. Bounded by what `Room` admits.

    One that is to run alone has a row of its own, and takes turns with all others.
    """

    def __init__(self, budgets: dict[str, Budget], chooser: Chooser, resident: Callable[[str], bool]) -> None:
        """`resident` says whether a model is in memory: only those that are, and have a budget, are taken from."""
        self.budgets = budgets
        self._chooser = chooser
        self._resident = resident
        self._rows: dict[_Key, Queue] = {}
        self._lone_was_last = False
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, jobs: Sequence[Job]) -> None:
        """Add jobs, in order of arrival."""
        last, row = None, None
        for job in jobs:
            key = _key(job)
            if row is None or key != last:
                last, row = key, self._rows.get(key)
                if row is None:
                    row = self._rows[key] = Queue(*key[:3], deque())
            row.jobs.append(job)
            row.tokens += job.cost.tokens
        if jobs:
            self._changed.set()

    def poke(self) -> None:
        """A model came into memory, and its budget is known: look again."""
        self._changed.set()

    def close(self) -> None:
        """No more will come: `take` empties what is there, then returns None."""
        self._closed = True
        self._changed.set()

    async def take(self) -> Batch | None:
        """The next batch, as soon as there is one; None at the end."""
        while True:
            batch = self._choose()
            if batch is not None or (self._closed and not self._rows):
                return batch
            self._changed.clear()
            await self._changed.wait()

    def drop(self, job: Job) -> None:
        """Forget what is left of a job whose first part was taken."""
        row = self._rows.get(_key(job))
        if row is not None and row.jobs[0] is job:
            self._pop(row)

    def discard_revoked(self) -> list[Job]:
        """Drop and return what belongs to partitions that are no longer ours and is not on the device."""
        return self._remove(lambda row, job: job.progress.revoked and not (row.next and job is row.jobs[0]))

    def set_aside(self, model: str) -> list[Job]:
        """Drop and return what waits for one model and is not begun: it may have to wait for long."""
        return self._remove(lambda row, job: row.model == model and not (row.next and job is row.jobs[0]))

    def clear(self) -> list[Job]:
        """Drop and return everything that has not been computed."""
        return self._remove(lambda *_: True)

    def withdraw(self, model: str) -> list[Job]:
        """Drop and return what waits for one model, begun or not: it will not be computed."""
        return self._remove(lambda row, _: row.model == model)

    def tokens(self) -> Counter[tuple[str, Lane]]:
        """Tokens that wait ahead of a request arriving now, by model and lane."""
        found = Counter[tuple[str, Lane]]()
        for row in self._rows.values():
            found[row.model, row.lane] += row.tokens
        return found

    def demands(self) -> list[Demand]:
        """What waits, by model, whether it is in memory or not."""
        found: dict[str, tuple[float, int]] = {}
        for row in self._rows.values():
            oldest_s, tokens = found.get(row.model, (row.jobs[0].arrived_s, 0))
            found[row.model] = (min(oldest_s, row.jobs[0].arrived_s), tokens + row.tokens)
        return [Demand(model, oldest_s, tokens) for model, (oldest_s, tokens) in found.items()]

    def _choose(self) -> Batch | None:
        rows = [row for row in self._rows.values() if self._resident(row.model) and row.model in self.budgets]
        lone = next((row for row in rows if row.jobs[0].alone), None)
        others = rows if lone is None else [row for row in rows if not row.jobs[0].alone]
        if lone is not None and not (others and self._lone_was_last):
            others = [lone]
        batch = self._chooser.choose(others, self.budgets, time.monotonic())
        if batch is None:
            return None
        self._lone_was_last = batch.alone
        for part in batch.parts:
            job = part.job
            row = self._rows[_key(job)]
            if part.stop < len(job.prepared.tokens):
                row.next = part.stop
            else:
                self._pop(row)
        return batch

    def _pop(self, row: Queue) -> None:
        job = row.jobs.popleft()
        row.tokens -= job.cost.tokens
        row.next = 0
        if not row.jobs:  # there may be any number of tenants over time: only those that wait cost anything
            del self._rows[_key(job)]

    def _remove(self, gone: Callable[[Queue, Job], bool]) -> list[Job]:
        removed: list[Job] = []
        for key, row in list(self._rows.items()):
            begun = row.jobs[0]
            lost = [job for job in row.jobs if gone(row, job)]
            if not lost:
                continue
            out = {id(job) for job in lost}
            row.jobs = deque(job for job in row.jobs if id(job) not in out)
            row.next = 0 if id(begun) in out else row.next
            row.tokens -= sum(job.cost.tokens for job in lost)
            if not row.jobs:
                del self._rows[key]
            removed += lost
        self._changed.set()  # that may have been the last of it
        return removed


_Key = tuple[str, Lane, str, int]


def _key(job: Job) -> _Key:
    envelope = job.envelope
    return envelope.model, envelope.lane, envelope.tenant, id(job) if job.alone else 0
