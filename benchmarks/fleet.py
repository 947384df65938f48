"""What becomes of a fleet's requests when partitions are assigned in one way or another? Simulated, on a virtual clock.

A thousand workers serve ten thousand models, each with topics of its own; requests arrive at random (Poisson), for
models by Zipf's law. Every minute one worker in a hundred dies, and as many come. Kafka notices a death after the
session's time; whoever comes or goes, the whole group is assigned anew, and reads nothing meanwhile. What a worker that
died had read, or what is read by another now, is read again.

Not simulated: network, tokenizing, delivery, and that what is on a device at a rebalance is computed twice.
"""

from __future__ import annotations

import heapq
import math
import time
from collections.abc import Callable, Sequence
from itertools import count, pairwise
from statistics import fmean, quantiles
from typing import Final

import numpy as np
from embedmq_schemas.envelope import Envelope
from embedmq_worker.jobs import Job
from msgspec import Struct, structs

from benchmarks.node import GIB, TEXT_TOKENS, TEXTS, TOKENS_PER_S, Calendar, Node, make_job
from benchmarks.policies import POLICIES, Cluster, owners

USE: Final = 0.75
"""Part of all devices' time that the requests need."""
WARM_S: Final = 480.0
MEASURED_S: Final = 600.0
CHURN_S: Final = 60.0
CHURN: Final = 0.01
SESSION_S: Final = 45.0
JOIN_S: Final = 52.0
"""After a death."""
REBALANCE_S: Final = 3.0
PARTITIONS: Final = 8
PARTITION_USE: Final = 0.25
"""Topics get more partitions than that where one partition would carry more than this of a worker."""
SIZES_GIB: Final = (1.0, 11.0)
MINUTE_S: Final = 60.0


class Minute(Struct, frozen=True):
    """What the fleet did in one minute; the age is of requests that ended in it."""

    device_use: float
    loads: int
    p99_age_s: float


class Outcome(Struct, frozen=True):
    """One policy: after the warm-up, and minute by minute. Requests that are not done count with their age."""

    policy: str
    device_use: float
    loads_per_hour: float
    p50_age_s: float
    p99_age_s: float
    done: int
    undone: int
    moved: float
    """Part of all partitions that a rebalance gave to another worker though the first was alive, on average."""
    decision_s: float
    """How long the longest decision after the first took on the machine that simulated it."""
    minutes: list[Minute]


class Size(Struct, frozen=True):
    """How large a fleet."""

    seed: int = 1
    workers: int = 1_000
    models: int = 10_000


class Fleet(Calendar):
    """All workers, their topics and the clock."""

    def __init__(self, policy: str, size: Size) -> None:
        self.now_s = 0.0
        self._policy, self._size = POLICIES[policy], size
        self._chance = np.random.default_rng(size.seed)
        shares = 1 / np.arange(1, size.models + 1)
        self._shares = shares / shares.sum()
        self._rate = USE * size.workers * TOKENS_PER_S / (TEXTS * TEXT_TOKENS)
        need = np.ceil(self._shares * USE * size.workers / PARTITION_USE)
        names = [f"m{number}" for number in range(size.models)]
        self._topics = [f"embedmq.{name}.bulk" for name in names]
        self._counts = np.maximum(PARTITIONS, need).astype(int)
        self._cluster = Cluster(dict(zip(self._topics, self._counts.tolist(), strict=True)))
        self._subscription = sorted(self._topics)
        self._envelopes = [Envelope("", name, "bulk", "msgpack", None, None, "", None, None) for name in names]
        gib = self._chance.uniform(*SIZES_GIB, size.models)
        self._sizes = dict(zip(names, (gib * GIB).astype(int).tolist(), strict=True))
        self.nodes: dict[str, Node] = {}
        self._joined = count()
        self._members: list[str] = []
        self._owners: dict[str, dict[int, str]] = {topic: {} for topic in self._topics}
        self._waiting: list[Job] = []
        """In Kafka, since nobody reads their partition now."""
        self._reading = False
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self.ages_s: list[tuple[float, float, float]] = []
        """When each request was asked, when it was done, and how old it was then."""
        self.moved: list[tuple[float, float]] = []
        self.decisions_s: list[float] = []

    def later(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_s + max(0.0, seconds), next(self._order), happen))

    def done(self, job: Job) -> None:
        asked_s = job.record.timestamp_ms / 1000
        self.ages_s.append((asked_s, self.now_s, self.now_s - asked_s))

    def run(self, end_s: float, each_minute: Callable[[], None]) -> None:
        """Until a moment."""
        self._join(self._size.workers)
        self._churn()
        self.later(MINUTE_S, lambda: self._tick(each_minute))
        for at_s, model, partition in self._arrivals(end_s):
            self._until(at_s)
            topic = self._topics[model]
            self._read(make_job(self._envelopes[model], topic, partition, at_s, at_s))
        self._until(end_s)

    def undone_s(self) -> list[tuple[float, float]]:
        """When each request that is not done was asked, and how old it is."""
        jobs = [*self._waiting, *(job for node in self.nodes.values() if node.alive for job in node.waiting())]
        return [(job.record.timestamp_ms / 1000, self.now_s - job.record.timestamp_ms / 1000) for job in jobs]

    def _arrivals(self, end_s: float) -> Sequence[tuple[float, int, int]]:
        number = int(self._chance.poisson(self._rate * end_s))
        at_s = np.sort(self._chance.uniform(0, end_s, number))
        models = np.minimum(
            np.searchsorted(np.cumsum(self._shares), self._chance.random(number)), self._size.models - 1
        )
        partitions = (self._chance.random(number) * self._counts[models]).astype(int)
        return list(zip(at_s.tolist(), models.tolist(), partitions.tolist(), strict=True))

    def _until(self, at_s: float) -> None:
        while self._events and self._events[0][0] <= at_s:
            self.now_s, _, happen = heapq.heappop(self._events)
            happen()
        self.now_s = at_s

    def _read(self, job: Job) -> None:
        owner = self._owners[job.record.topic].get(job.record.partition)
        node = self.nodes.get(owner or "")
        if self._reading and node is not None and node.alive:
            node.arrive(job)
        else:
            self._waiting.append(job)

    def _tick(self, each_minute: Callable[[], None]) -> None:
        each_minute()
        self.later(MINUTE_S, lambda: self._tick(each_minute))

    def _churn(self) -> None:
        """Some die, which is noticed after the session's time; as many come."""
        self.later(CHURN_S, self._die)
        self.later(CHURN_S + JOIN_S, lambda: self._join(self._few()))
        self.later(CHURN_S, self._churn)

    def _few(self) -> int:
        return max(1, round(CHURN * self._size.workers))

    def _die(self) -> None:
        alive = [name for name in self._members if self.nodes[name].alive]
        for name in self._chance.choice(alive, self._few(), replace=False):
            self._waiting += self.nodes[str(name)].die()
        self.later(SESSION_S, self._rebalance)

    def _join(self, number: int) -> None:
        for _ in range(number):
            name = f"w{next(self._joined)}"
            self.nodes[name] = Node(name, self, self._sizes)
        if number:
            self._rebalance()

    def _rebalance(self) -> None:
        """Nobody reads until all know what is theirs."""
        self._reading = False
        self._members = [name for name, node in self.nodes.items() if node.alive]
        said = {name: self.nodes[name].assignor.metadata(self._subscription) for name in self._members}
        start_s = time.perf_counter()
        found = self._policy(self._cluster, said)
        self.decisions_s.append(time.perf_counter() - start_s)
        for name, assignment in found.items():
            self.nodes[name].assignor.on_assignment(assignment)
        before, self._owners = self._owners, owners(found, self._topics)
        moved = sum(
            before[topic].get(partition, name) != name and self.nodes[before[topic][partition]].alive
            for topic, theirs in self._owners.items()
            for partition, name in theirs.items()
        )
        self.moved.append((self.now_s, moved / sum(self._cluster.counts.values())))
        self.later(REBALANCE_S, self._go_on)

    def _go_on(self) -> None:
        self._reading = True
        for name in self._members:
            node = self.nodes[name]
            self._waiting += node.drop(lambda job, name=name: not self._is_of(name, job))  # type: ignore[misc]  # a default binds it
        jobs, self._waiting = self._waiting, []
        for job in sorted(jobs, key=lambda job: job.record.timestamp_ms):
            self._read(structs.replace(job, arrived_s=self.now_s))

    def _is_of(self, name: str, job: Job) -> bool:
        return self._owners[job.record.topic].get(job.record.partition) == name


def simulate(policy: str, size: Size, warm_s: float = WARM_S, measured_s: float = MEASURED_S) -> Outcome:
    """The same requests, deaths and joins for every policy."""
    fleet = Fleet(policy, size)
    totals: list[tuple[float, float, int, int]] = [(0.0, 0.0, 0, 0)]

    def note() -> None:
        tallies = [node.tally for node in fleet.nodes.values()]
        busy_s, loads = sum(tally.busy_s for tally in tallies), sum(tally.loads for tally in tallies)
        totals.append((fleet.now_s, busy_s, loads, len(fleet.ages_s)))

    fleet.run(warm_s + measured_s, note)
    minutes = [
        Minute(
            (b[1] - a[1]) / (b[0] - a[0]) / size.workers,
            b[2] - a[2],
            _p99([age for *_, age in fleet.ages_s[a[3] : b[3]]]),
        )
        for a, b in pairwise(totals)
    ]
    kept = minutes[int(warm_s / MINUTE_S) :]
    undone = [age for asked_s, age in fleet.undone_s() if asked_s >= warm_s]
    ages = [age for asked_s, _, age in fleet.ages_s if asked_s >= warm_s] + undone
    return Outcome(
        policy,
        sum(minute.device_use for minute in kept) / len(kept),
        sum(minute.loads for minute in kept) / len(kept) * 60,
        quantiles(ages, n=100)[49],
        _p99(ages),
        len(ages) - len(undone),
        len(undone),
        fmean(part for at_s, part in fleet.moved if at_s >= warm_s),
        max(fleet.decisions_s[1:], default=math.nan),
        minutes,
    )


def _p99(ages_s: Sequence[float]) -> float:
    return quantiles(ages_s, n=100)[98] if len(ages_s) > 1 else 0.0
