"""Batch choice loses nothing, doubles nothing, keeps its order and its budget, and always goes on."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque

import pytest
from embedmq_schemas.requests import LANES, Lane
from embedmq_worker.choose import Budget, Chooser, Queue, budget
from embedmq_worker.jobs import Batch, Job
from embedmq_worker.progress import Progress
from embedmq_worker.waiting import Waiting
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec import structs

from tests.worker.jobs import make_job

MODELS = ("m", "n")
TENANTS = ("", "a", "b")
BUDGETS = {"m": Budget(tokens=20, items=4), "n": Budget(tokens=7, items=100)}


def make_chooser() -> Chooser:
    return Chooser(bulk_min_share=0.1, max_batch_ms=50, quantum_tokens=5)


class BatchChoice(RuleBasedStateMachine):
    """`Waiting` against a naive model: one list of (job, item) in order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.resident = {"m"}
        self.waiting = Waiting(BUDGETS, make_chooser(), lambda model: model in self.resident)
        self.now_s = 0.0
        self.items: list[tuple[Job, int]] = []
        self.partitions = [Progress("t", n) for n in range(3)]
        self.dispatched: dict[int, list[int]] = defaultdict(list)
        self.dropped: set[int] = set()
        self.jobs: list[Job] = []
        self.last: Batch | None = None

    def teardown(self) -> None:
        self.loop.close()

    @rule(
        model=st.sampled_from(MODELS),
        lane=st.sampled_from(LANES),
        tenant=st.sampled_from(TENANTS),
        counts=st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=9), min_size=1, max_size=3),
        partition=st.integers(0, 2),
        wait_s=st.sampled_from([0.0, 1.0]),
    )
    def arrive(
        self, model: str, lane: Lane, tenant: str, counts: list[list[int]], partition: int, wait_s: float
    ) -> None:
        self.now_s += wait_s
        progress = self.partitions[partition]
        jobs = [make_job("id", c, model=model, lane=lane, arrived_s=self.now_s, progress=progress) for c in counts]
        jobs = [of_tenant(job, tenant) for job in jobs]
        self.waiting.put(jobs)
        self.jobs += jobs
        self.items += [(job, i) for job in jobs for i in range(len(job.prepared.tokens))]

    @rule(model=st.sampled_from(MODELS))
    def come_or_go(self, model: str) -> None:
        """A model is loaded or evicted."""
        self.resident ^= {model}
        self.waiting.poke()

    @precondition(lambda self: any(job.envelope.model in self.resident for job, _ in self.items))
    @rule()
    def take(self) -> None:
        batch = self.loop.run_until_complete(self.waiting.take())
        assert batch is not None
        assert batch.parts, "a batch of nothing would be taken for ever"
        assert batch.model in self.resident
        taken = [(part.job, i) for part in batch.parts for i in range(part.start, part.stop)]
        assert {job.envelope.model for job, _ in taken} == {batch.model}
        self.check_leader(batch, taken)
        weights = [job.prepared.tokens[i] for job, i in taken]
        limit = BUDGETS[batch.model]
        assert (batch.items, batch.tokens) == (len(taken), sum(weights))
        assert len(taken) <= limit.items
        assert sum(weights) <= limit.tokens or len(taken) == 1
        for job, i in taken:
            assert (job, i) in self.items, "twice, or dropped before"
            head = next(entry for entry in self.items if key(entry[0]) == key(job))
            assert head == (job, i), "the order of one model, lane and tenant is kept"
            self.items.remove((job, i))
            self.dispatched[id(job)].append(i)
        self.check_fullness(batch, weights)
        self.last = batch

    def check_leader(self, batch: Batch, taken: list[tuple[Job, int]]) -> None:
        """The model is that of the oldest job of the lane that leads."""
        lane = taken[0][0].envelope.lane
        oldest_s = {
            model: min(found)
            for model in self.resident
            if (found := [job.arrived_s for job, _ in self.items if key(job)[:2] == (model, lane)])
        }
        assert oldest_s[batch.model] == min(oldest_s.values())

    def check_fullness(self, batch: Batch, weights: list[int]) -> None:
        """A batch leaves something of its model behind only if the next item of some tenant does not fit."""
        left = [job.prepared.tokens[i] for job, i in self.items if job.envelope.model == batch.model]
        limit = BUDGETS[batch.model]
        assert not left or batch.items == limit.items or sum(weights) + max(left) > limit.tokens

    @precondition(lambda self: self.last is not None)
    @rule()
    def expire_the_head(self) -> None:
        """A job whose first part was taken too late is forgotten."""
        assert self.last is not None
        job = self.last.parts[-1].job
        if self.last.parts[-1].start == 0:
            self.waiting.drop(job)
            self.forget(job)
        self.last = None

    @rule(partition=st.integers(0, 2))
    def revoke(self, partition: int) -> None:
        """What of a lost partition is not on the device goes; a job that has begun stays, to be finished."""
        revoked = self.partitions[partition]
        revoked.revoked = True
        self.partitions[partition] = Progress("t", partition)
        expected = {id(job) for job, i in self.items if i == 0 and job.progress is revoked}
        dropped = self.waiting.discard_revoked()
        assert {id(job) for job in dropped} == expected
        assert len(dropped) == len(expected)
        for job in dropped:
            self.forget(job)
        self.last = None

    @rule(model=st.sampled_from(MODELS))
    def withdraw(self, model: str) -> None:
        """All that waits for a model that will not come goes, begun or not."""
        expected = {id(job) for job, _ in self.items if job.envelope.model == model}
        withdrawn = self.waiting.withdraw(model)
        assert {id(job) for job in withdrawn} == expected
        for job in withdrawn:
            self.forget(job)
        self.last = None

    def forget(self, job: Job) -> None:
        self.dropped.add(id(job))
        self.items = [(other, i) for other, i in self.items if other is not job]

    @invariant()
    def items_of_a_job_go_in_order_and_once(self) -> None:
        for job in self.jobs:
            sent = self.dispatched[id(job)]
            assert sent == list(range(len(sent)))
            left = [i for other, i in self.items if other is job]
            if id(job) not in self.dropped:
                assert sent + left == list(range(len(job.prepared.tokens)))

    @invariant()
    def what_waits_is_what_is_said_to_wait(self) -> None:
        jobs = {id(job): job for job, _ in self.items}.values()
        for model in MODELS:
            for lane in LANES:
                waiting = [job for job in jobs if key(job)[:2] == (model, lane)]
                assert self.waiting.tokens()[model, lane] == sum(job.cost.tokens for job in waiting)
        oldest_s: dict[str, float] = {}
        for job in jobs:
            oldest_s[job.envelope.model] = min(job.arrived_s, oldest_s.get(job.envelope.model, job.arrived_s))
        assert {demand.model: demand.oldest_s for demand in self.waiting.demands()} == oldest_s


TestBatchChoice = BatchChoice.TestCase
TestBatchChoice.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


def key(job: Job) -> tuple[str, Lane, str]:
    return job.envelope.model, job.envelope.lane, job.envelope.tenant


def of_tenant(job: Job, tenant: str) -> Job:
    job.envelope = structs.replace(job.envelope, tenant=tenant)
    return job


def queue(*jobs: Job, lane: Lane = "interactive", model: str = "m", tenant: str = "") -> Queue:
    return Queue(model, lane, tenant, deque(jobs))


def test_a_first_item_larger_than_the_budget_goes_alone() -> None:
    """Nothing waits for ever for a budget it will never fit."""
    batch = make_chooser().choose([queue(make_job("a", [50, 1]))], BUDGETS, 1.0)
    assert batch is not None
    assert [(part.start, part.stop) for part in batch.parts] == [(0, 1)]


def test_a_request_is_split_between_items_where_the_budget_ends() -> None:
    """The rest of it comes first in the next batch."""
    first, second = make_job("a", [8, 8]), make_job("b", [3, 8])
    batch = make_chooser().choose([queue(first, second)], BUDGETS, 1.0)
    assert batch is not None
    assert [(part.job.envelope.id, part.start, part.stop) for part in batch.parts] == [("a", 0, 2), ("b", 0, 1)]
    assert (batch.items, batch.tokens) == (3, 19)


def test_a_live_request_goes_before_an_older_one_of_bulk_and_takes_it_along() -> None:
    """Interactive leads; what is left of the budget goes to the same model's bulk."""
    interactive = queue(make_job("i1", arrived_s=2.0), make_job("i2", arrived_s=3.0))
    bulk = queue(make_job("b1", arrived_s=1.0, lane="bulk"), lane="bulk")
    batch = make_chooser().choose([bulk, interactive], BUDGETS, 9.0)
    assert batch is not None
    assert [part.job.envelope.id for part in batch.parts] == ["i1", "i2", "b1"]


def test_the_model_that_is_waited_for_longest_goes_first() -> None:
    """Of one lane, whatever the other lane of that model waits for."""
    n = queue(make_job("n", model="n", arrived_s=1.0), model="n")
    m = queue(make_job("m", arrived_s=2.0))
    batch = make_chooser().choose([m, n], BUDGETS, 9.0)
    assert batch is not None
    assert batch.model == "n"


def test_nothing_waiting_is_no_batch() -> None:
    """Empty queues are not a batch of nothing."""
    assert make_chooser().choose([], BUDGETS, 0.0) is None
    assert make_chooser().choose([queue()], BUDGETS, 0.0) is None


@pytest.mark.parametrize(
    ("tokens_per_s", "ms", "cap", "expected"),
    [(10_000.0, 50.0, 16_384, 500), (float("inf"), 50.0, 16_384, 16_384), (1.0, 50.0, 16_384, 1)],
)
def test_a_budget_is_device_time_by_the_measured_rate(tokens_per_s: float, ms: float, cap: int, expected: int) -> None:
    """`max_batch_tokens` is only a cap, and at least one token always goes."""
    assert budget(tokens_per_s, ms, cap, 64) == Budget(expected, 64)
