"""What becomes of requests for many models in room for few? One worker on a simulated clock: its own chooser,
and its own planner or another one; neither models nor Kafka.

One device computes one batch at a time; models load beside it. Requests of a few texts arrive at random (Poisson), for
models by Zipf's law.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, count
from statistics import quantiles
from typing import Final

from embedmq_schemas.envelope import Envelope, Record
from embedmq_worker.choose import Budget, Chooser, Queue
from embedmq_worker.config import Worker
from embedmq_worker.engine.seam import Prepared
from embedmq_worker.jobs import Batch, Cost, Job
from embedmq_worker.progress import Progress
from embedmq_worker.residency import Demand, Plan, View
from msgspec import structs

MODELS: Final = 20
ROOM: Final = 5
ARRIVALS_S: Final = 300.0
TEXTS_PER_S: Final = 120.0
REQUEST_TEXTS: Final = 16
TEXT_TOKENS: Final = 50
TOKENS_PER_S: Final = 10_000.0
BATCH_OVERHEAD_S: Final = 0.002
CLOSE_S: Final = 0.05
LOADS_S: Final = (1.0, 4.0)
"""The quickest and the slowest load; each model has its own."""

Planner = Callable[[Mapping[str, View], Sequence[Demand], int, float, Worker], Plan]


@dataclass(frozen=True)
class Outcome:
    """One run until all is computed. `overdue` requests took longer than they may, which is at least `bound_s`."""

    loads: int
    texts_per_s: float
    p99_age_s: float
    worst_age_s: float
    overdue: int
    bound_s: float


def simulate(seed: int, planner: Planner, settings: Worker, *, in_order: bool) -> Outcome:
    """Let the same texts arrive as for any other with that seed, and compute all of them."""
    world = World(random.Random(seed), planner, settings, in_order=in_order)
    world.run()
    bounds_s = world.bounds_s()
    overdue = sum(age_s > bound_s for age_s, bound_s in zip(world.ages_s, bounds_s, strict=True))
    rate = len(world.ages_s) * REQUEST_TEXTS / world.now_s
    p99_s = quantiles(world.ages_s, n=100)[98]
    return Outcome(world.loads, rate, p99_s, max(world.ages_s), overdue, min(bounds_s))


class World:
    """One worker, its device and its clock. `ahead` and `ages_s` are of each request, in the order of their ends."""

    def __init__(self, chance: random.Random, planner: Planner, settings: Worker, *, in_order: bool) -> None:
        names = [f"m{number}" for number in range(MODELS)]
        self.models = {name: View(bytes=1, load_s=chance.uniform(*LOADS_S)) for name in names}
        self.queues = {name: Queue(name, "interactive", "", deque()) for name in names}
        tokens = int((settings.max_batch_ms / 1000 - BATCH_OVERHEAD_S) * TOKENS_PER_S)
        self.budgets = dict.fromkeys(names, Budget(tokens, settings.max_batch_items))
        self.chooser = Chooser(settings.bulk_min_share, settings.max_batch_ms)
        self.planner, self.settings, self.in_order = planner, settings, in_order
        self.now_s = 0.0
        self.loads = 0
        self.computing = False
        self.waits_s = 0.0
        """The longest that a model took from its load to the end of its first batch."""
        self.found: dict[int, int] = {}
        self.ahead: list[int] = []
        self.ages_s: list[float] = []
        self.numbers = count()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self._announce(chance, names)

    def run(self) -> None:
        """Until nothing is left to happen."""
        while self.events:
            self.now_s, _, happen = heapq.heappop(self.events)
            happen()
            self._compute()
            self._plan()

    def bounds_s(self) -> list[float]:
        """How long each request might have taken: the formula of `residency`, and then its load and its batch."""
        longest_s = max(view.load_s for view in self.models.values()) + self.waits_s
        turn_s = self.settings.model_wait_s + longest_s + CLOSE_S
        return [self.settings.model_wait_s + (ahead + 1) * turn_s + longest_s for ahead in self.ahead]

    def _announce(self, chance: random.Random, names: Sequence[str]) -> None:
        weights = list(accumulate(1 / (rank + 1) for rank in range(MODELS)))
        at_s = chance.expovariate(TEXTS_PER_S / REQUEST_TEXTS)
        while at_s < ARRIVALS_S:
            (name,) = chance.choices(names, cum_weights=weights)
            self._in(at_s, lambda name=name: self._arrive(name))  # type: ignore[misc]  # a default binds it
            at_s += chance.expovariate(TEXTS_PER_S / REQUEST_TEXTS)

    def _arrive(self, name: str) -> None:
        request = make_request(name, self.now_s)
        self.found[id(request)] = sum(bool(queue.jobs) for other, queue in self.queues.items() if other != name)
        self.queues[name].jobs.append(request)

    def _compute(self) -> None:
        batch = None if self.computing else self.chooser.choose(self._choosable(), self.budgets, self.now_s)
        if batch is None:
            return
        queue = self.queues[batch.model]
        for part in batch.parts:
            queue.next = part.stop
            if part.stop == REQUEST_TEXTS:
                queue.jobs.popleft()
                queue.next = 0
        self.computing = True
        self._change(batch.model, leases=1, last_use_s=self.now_s)
        self._in(BATCH_OVERHEAD_S + batch.tokens / TOKENS_PER_S, lambda: self._computed(batch))

    def _choosable(self) -> list[Queue]:
        """What the device may take: of models in memory, or, in strict order, of the oldest text's model only."""
        waiting = [queue for queue in self.queues.values() if queue.jobs]
        if self.in_order and waiting:
            waiting = [min(waiting, key=lambda queue: queue.jobs[0].arrived_s)]
        return [queue for queue in waiting if self.models[queue.model].state == "resident"]

    def _computed(self, batch: Batch) -> None:
        view = self.models[batch.model]
        if not view.served:
            self.waits_s = max(self.waits_s, self.now_s - view.loaded_at_s)
        self.computing = False
        self._change(batch.model, leases=0, served=True, last_use_s=self.now_s)
        done = [part.job for part in batch.parts if part.stop == REQUEST_TEXTS]
        self.ages_s += [self.now_s - job.arrived_s for job in done]
        self.ahead += [self.found.pop(id(job)) for job in done]
        if view.state == "leaving":
            self._close(batch.model)

    def _plan(self) -> None:
        demands = [Demand(name, queue.jobs[0].arrived_s, 0) for name, queue in self.queues.items() if queue.jobs]
        decided = self.planner(self.models, demands, ROOM, self.now_s, self.settings)
        for name in decided.evict:
            self._change(name, state="leaving")
            if not self.models[name].leases:
                self._close(name)
        for name in decided.load:
            self.loads += 1
            self._change(name, state="loading")
            self._in(self.models[name].load_s, lambda name=name: self._loaded(name))  # type: ignore[misc]  # as above
        if decided.next_s is not None:
            self._in(decided.next_s - self.now_s, lambda: None)

    def _loaded(self, name: str) -> None:
        self._change(name, state="resident", served=False, loaded_at_s=self.now_s, last_use_s=self.now_s)

    def _close(self, name: str) -> None:
        self._in(CLOSE_S, lambda: self._change(name, state="absent"))

    def _change(self, name: str, **fields: str | float | bool) -> None:
        self.models[name] = structs.replace(self.models[name], **fields)

    def _in(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self.events, (self.now_s + seconds, next(self.numbers), happen))


def make_request(model: str, arrived_s: float) -> Job:
    """A request of a few texts."""
    return Job(
        Record("simulated", 0, 0, 0, None, None, []),
        Progress("simulated", 0),
        Envelope("", model, "interactive", "msgpack", None, None, "", None, None),
        arrived_s,
        Cost(0, REQUEST_TEXTS, REQUEST_TEXTS * TEXT_TOKENS),
        prepared=Prepared([TEXT_TOKENS] * REQUEST_TEXTS, None, [], {}),
    )
