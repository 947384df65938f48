"""What does one worker of a simulated fleet do? Its own chooser, planner and rates on the fleet's clock.

Requests are as large as a batch, so that a fleet of a thousand takes minutes: the device computes one at a time, models
load beside it, two at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from embedmq_schemas.envelope import Envelope, Record
from embedmq_worker.assignor import Assignor
from embedmq_worker.choose import Budget, Chooser, Queue, budget
from embedmq_worker.config import Worker
from embedmq_worker.engine.seam import Prepared
from embedmq_worker.jobs import Batch, Cost, Job
from embedmq_worker.progress import Progress
from embedmq_worker.rates import Done, Rates
from embedmq_worker.residency import Demand, View, plan
from embedmq_worker.seat import LOAD_BYTES_PER_S, LOAD_S, ModelState
from embedmq_worker.standing import Standing, see
from msgspec import Struct, structs

GIB: Final = 2**30
MEMORY_BYTES: Final = 80 * GIB
TOKENS_PER_S: Final = 16_000.0
TEXTS: Final = 32
TEXT_TOKENS: Final = 500
"""Of a request: with these, one second of the device."""
SETTINGS: Final = Worker(max_batch_ms=1000.0)
CLOSE_S: Final = 0.05
PREPARED: Final = Prepared([TEXT_TOKENS] * TEXTS, None, [], {})
COST: Final = Cost(0, TEXTS, TEXTS * TEXT_TOKENS)
PROGRESS: Final = Progress("simulated", 0)


class Calendar:
    """What a node may ask of its fleet: the time, something later, and that a request is done."""

    now_s: float
    later: Callable[[float, Callable[[], None]], None]
    done: Callable[[Job], None]


class Tally(Struct):
    """What one node did: seconds that its device computed, and models that it loaded."""

    busy_s: float = 0.0
    loads: int = 0


class Node:
    """One worker, alive until `die`."""

    def __init__(self, name: str, calendar: Calendar, sizes: dict[str, int]) -> None:
        self.name, self.alive = name, True
        self.tally = Tally()
        self.assignor = Assignor(name, self._look)
        self._calendar, self._sizes = calendar, sizes
        self._queues: dict[str, Queue] = {}
        self._held: dict[str, View] = {}
        """Models in memory, coming or going."""
        self._chooser = Chooser(SETTINGS.bulk_min_share, SETTINGS.max_batch_ms)
        limit = budget(TOKENS_PER_S, SETTINGS.max_batch_ms, SETTINGS.max_batch_tokens, SETTINGS.max_batch_items)
        self._budgets: dict[str, Budget] = dict.fromkeys(sizes, limit)
        self._rates = Rates(lambda: calendar.now_s)
        self._computing: Job | None = None
        self._wakes_s = float("inf")

    def arrive(self, job: Job) -> None:
        """A request was read."""
        model = job.envelope.model
        if model not in self._queues:
            self._queues[model] = Queue(model, "interactive", "", deque())
        self._queues[model].jobs.append(job)
        if self._is_resident(model):
            self._compute()
        else:
            self._plan()

    def drop(self, gone: Callable[[Job], bool]) -> list[Job]:
        """Give back what waits and belongs to another now."""
        dropped: list[Job] = []
        for model, queue in list(self._queues.items()):
            dropped += [job for job in queue.jobs if gone(job)]
            queue.jobs = deque(job for job in queue.jobs if not gone(job))
            if not queue.jobs:
                del self._queues[model]
        return dropped

    def die(self) -> list[Job]:
        """Be gone, with all that waits or is on the device; returns what will be read again."""
        self.alive = False
        return [*self.drop(lambda _: True), *([self._computing] if self._computing else [])]

    def waiting(self) -> Iterable[Job]:
        """All that is not done."""
        yield from (job for queue in self._queues.values() for job in queue.jobs)
        if self._computing:
            yield self._computing

    def _look(self) -> Standing:
        states = {name: _shown(view) for name, view in self._held.items()}
        return see(states, self._rates.now(), dict.fromkeys(states, TOKENS_PER_S), MEMORY_BYTES, ())

    def _is_resident(self, model: str) -> bool:
        view = self._held.get(model)
        return view is not None and view.state == "resident"

    def _compute(self) -> None:
        if self._computing is not None or not self.alive:
            return
        queues = [queue for queue in self._queues.values() if self._is_resident(queue.model)]
        batch = self._chooser.choose(queues, self._budgets, self._calendar.now_s)
        if batch is None:
            return
        job = self._computing = batch.parts[0].job
        queue = self._queues[batch.model]
        queue.jobs.popleft()
        if not queue.jobs:
            del self._queues[batch.model]
        self._change(batch.model, leases=1, last_use_s=self._calendar.now_s)
        self._calendar.later(batch.tokens / TOKENS_PER_S, lambda: self._computed(batch, job))

    def _computed(self, batch: Batch, job: Job) -> None:
        if not self.alive:
            return
        self._computing = None
        self.tally.busy_s += batch.tokens / TOKENS_PER_S
        self._rates.add(batch.model, Done(items=batch.items, tokens=batch.tokens))
        self._change(batch.model, leases=0, served=True, last_use_s=self._calendar.now_s)
        self._calendar.done(job)
        if self._held[batch.model].state == "leaving":
            self._close(batch.model)
        if any(not self._is_resident(model) for model in self._queues):
            self._plan()
        self._compute()

    def _plan(self) -> None:
        if not self.alive:
            return
        now_s = self._calendar.now_s
        demands = [Demand(model, queue.jobs[0].arrived_s, COST.tokens) for model, queue in self._queues.items()]
        absent = {model: self._absent(model) for model in self._queues if model not in self._held}
        decided = plan(self._held | absent, demands, MEMORY_BYTES, now_s, SETTINGS)
        for model in decided.evict:
            self._change(model, state="leaving")
            if not self._held[model].leases:
                self._close(model)
        for model in decided.load:
            self.tally.loads += 1
            self._held[model] = structs.replace(absent[model], state="loading")
            self._calendar.later(absent[model].load_s, lambda model=model: self._loaded(model))  # type: ignore[misc]  # a default binds it
        if decided.next_s is not None and not now_s < self._wakes_s <= decided.next_s:
            self._wakes_s = decided.next_s
            self._calendar.later(decided.next_s - now_s, self._wake)

    def _wake(self) -> None:
        self._wakes_s = float("inf")
        self._plan()

    def _loaded(self, model: str) -> None:
        now_s = self._calendar.now_s
        self._change(model, state="resident", served=False, loaded_at_s=now_s, last_use_s=now_s)
        self._plan()
        self._compute()

    def _close(self, model: str) -> None:
        self._calendar.later(CLOSE_S, lambda: self._closed(model))

    def _closed(self, model: str) -> None:
        del self._held[model]
        self._plan()

    def _absent(self, model: str) -> View:
        size = self._sizes[model]
        return View(bytes=size, load_s=LOAD_S + size / LOAD_BYTES_PER_S)

    def _change(self, model: str, **fields: str | float | bool) -> None:
        self._held[model] = structs.replace(self._held[model], **fields)


def make_job(envelope: Envelope, topic: str, partition: int, asked_s: float, read_s: float) -> Job:
    """A request as large as a batch."""
    record = Record(topic, partition, 0, int(asked_s * 1000), None, None, [])
    return Job(record, PROGRESS, envelope, read_s, COST, prepared=PREPARED)


def _shown(view: View) -> ModelState:
    return ModelState(
        state=str(view.state), pinned=False, bytes=view.bytes, last_use_s=None, loads=0, evictions=0, failures=0,
        error="", thrashing=False,
    )  # fmt: skip
