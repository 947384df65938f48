"""Batch choice loses nothing, doubles nothing, keeps its order and its budget, and always goes on."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest
from embedmq_schemas.requests import LANES, Lane
from embedmq_worker.choose import Budget, Queue, budget, choose
from embedmq_worker.jobs import Batch, Job
from embedmq_worker.progress import Progress
from embedmq_worker.waiting import Waiting
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.worker.jobs import make_job

MODELS = ("m", "n")
BUDGETS = {"m": Budget(tokens=20, items=4), "n": Budget(tokens=7, items=100)}


class BatchChoice(RuleBasedStateMachine):
    """`Waiting` against a naive model: one list of (job, item) in order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.waiting = Waiting(BUDGETS)
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
        counts=st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=9), min_size=1, max_size=3),
        partition=st.integers(0, 2),
        wait_s=st.sampled_from([0.0, 1.0]),
    )
    def arrive(self, model: str, lane: Lane, counts: list[list[int]], partition: int, wait_s: float) -> None:
        self.now_s += wait_s
        progress = self.partitions[partition]
        jobs = [make_job("id", c, model=model, lane=lane, arrived_s=self.now_s, progress=progress) for c in counts]
        self.waiting.put(jobs)
        self.jobs += jobs
        self.items += [(job, i) for job in jobs for i in range(len(job.prepared.tokens))]

    @precondition(lambda self: self.items)
    @rule()
    def take(self) -> None:
        batch = self.loop.run_until_complete(self.waiting.take())
        assert batch is not None
        assert batch.parts, "a batch of nothing would be taken for ever"
        taken = [(part.job, i) for part in batch.parts for i in range(part.start, part.stop)]
        oldest_s = min(job.arrived_s for job, _ in self.items)
        assert taken[0][0].arrived_s == oldest_s, "first come, first served"
        assert {job.envelope.model for job, _ in taken} == {batch.model}
        arrivals = [job.arrived_s for job, _ in taken]
        assert arrivals == sorted(arrivals), "across lanes, too"
        weights = [job.prepared.tokens[i] for job, i in taken]
        limit = BUDGETS[batch.model]
        assert (batch.items, batch.tokens) == (len(taken), sum(weights))
        assert len(taken) <= limit.items
        assert sum(weights) <= limit.tokens or len(taken) == 1
        self.check_fullness(batch, taken, weights)
        for job, i in taken:
            assert (job, i) in self.items, "twice, or dropped before"
            self.items.remove((job, i))
            self.dispatched[id(job)].append(i)
        self.last = batch

    def check_fullness(self, batch: Batch, taken: list[tuple[Job, int]], weights: list[int]) -> None:
        """What stays behind of this model's oldest arrival would not have fitted."""
        left = [(job, i) for job, i in self.items if job.envelope.model == batch.model and (job, i) not in taken]
        if left:
            soonest_s = min(job.arrived_s for job, _ in left)
            nexts = [job.prepared.tokens[i] for job, i in left if job.arrived_s == soonest_s]
            limit = BUDGETS[batch.model]
            assert len(taken) == limit.items or sum(weights) + max(nexts) > limit.tokens

    @precondition(lambda self: self.last is not None)
    @rule()
    def expire_the_head(self) -> None:
        """A job whose first part was taken too late is forgotten."""
        assert self.last is not None
        part = self.last.parts[-1]
        job = part.job
        if part.start == 0:
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
        for model in MODELS:
            for lane in LANES:
                waiting = {id(j): j for j, _ in self.items if (j.envelope.model, j.envelope.lane) == (model, lane)}
                assert self.waiting.wait_tokens(model, lane) == sum(job.cost.tokens for job in waiting.values())


TestBatchChoice = BatchChoice.TestCase
TestBatchChoice.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def queue(*jobs: Job, lane: Lane = "interactive", model: str = "m") -> Queue:
    return Queue(model, lane, list(jobs))


def test_a_first_item_larger_than_the_budget_goes_alone() -> None:
    """Nothing waits for ever for a budget it will never fit."""
    batch = choose([queue(make_job("a", [50, 1]))], BUDGETS, 1.0)
    assert batch is not None
    assert [(part.start, part.stop) for part in batch.parts] == [(0, 1)]


def test_a_request_is_split_between_items_where_the_budget_ends() -> None:
    """The rest of it comes first in the next batch."""
    first, second = make_job("a", [8, 8]), make_job("b", [3, 8])
    batch = choose([queue(first, second)], BUDGETS, 1.0)
    assert batch is not None
    assert [(part.job.envelope.id, part.start, part.stop) for part in batch.parts] == [("a", 0, 2), ("b", 0, 1)]
    assert (batch.items, batch.tokens) == (3, 19)


def test_lanes_are_merged_by_arrival() -> None:
    """First come, first served, whichever lane: neither lane starves the other here."""
    interactive = queue(make_job("i1", arrived_s=1.0), make_job("i2", arrived_s=3.0))
    bulk = queue(make_job("b1", arrived_s=2.0, lane="bulk"), lane="bulk")
    batch = choose([bulk, interactive], BUDGETS, 9.0)
    assert batch is not None
    assert [part.job.envelope.id for part in batch.parts] == ["i1", "b1", "i2"]


def test_nothing_waiting_is_no_batch() -> None:
    """Empty queues are not a batch of nothing."""
    assert choose([], BUDGETS, 0.0) is None
    assert choose([queue()], BUDGETS, 0.0) is None


@pytest.mark.parametrize(
    ("tokens_per_s", "ms", "cap", "expected"),
    [(10_000.0, 50.0, 16_384, 500), (float("inf"), 50.0, 16_384, 16_384), (1.0, 50.0, 16_384, 1)],
)
def test_a_budget_is_device_time_by_the_measured_rate(tokens_per_s: float, ms: float, cap: int, expected: int) -> None:
    """`max_batch_tokens` is only a cap, and at least one token always goes."""
    assert budget(tokens_per_s, ms, cap, 64) == Budget(expected, 64)


async def test_take_waits_for_work_and_ends_when_closed_and_empty() -> None:
    """Closing lets what is there go first."""
    waiting = Waiting(BUDGETS)
    taking = asyncio.ensure_future(waiting.take())
    waiting.put([])
    waiting.put([make_job("a")])
    batch = await taking
    assert batch is not None
    waiting.put([make_job("b")])
    waiting.close()
    assert await waiting.take() is not None
    assert await waiting.take() is None
