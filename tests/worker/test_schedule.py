"""Who waits how long: lanes, models and tenants share one device on a simulated clock."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import count, groupby

import pytest
from embedmq_schemas.requests import LANES, Lane
from embedmq_worker.choose import Budget, Chooser, Queue
from embedmq_worker.jobs import Batch, Job
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from tests.worker.jobs import make_job

BATCH_MS = 50.0
BATCH_S = BATCH_MS / 1000
SHARE = 0.1
EARN = SHARE + BATCH_S
QUANTUM = 10
BUDGETS = {"m": Budget(tokens=100, items=8), "n": Budget(tokens=40, items=50)}
MOST_TENANTS = 3


@dataclass(frozen=True)
class Request:
    """One that arrives at `at_s`, with so many tokens in each of its items."""

    at_s: float
    tokens: tuple[int, ...]
    model: str = "m"
    lane: Lane = "interactive"
    tenant: str = ""


@dataclass
class Device:
    """A device that takes `BATCH_S` for one budget of any model, and computes one batch at a time."""

    chooser: Chooser = field(default_factory=lambda: Chooser(SHARE, BATCH_MS, QUANTUM))
    queues: dict[tuple[str, Lane, str], Queue] = field(default_factory=dict)
    now_s: float = 0.0
    batches: list[tuple[float, Batch]] = field(default_factory=list)
    done_s: dict[int, float] = field(default_factory=dict)

    def arrive(self, request: Request) -> Job:
        job = make_job("id", request.tokens, model=request.model, lane=request.lane, arrived_s=request.at_s)
        job.envelope = structs.replace(job.envelope, tenant=request.tenant)
        key = (request.model, request.lane, request.tenant)
        self.queues.setdefault(key, Queue(*key, deque())).jobs.append(job)
        return job

    def step(self) -> Batch | None:
        """Compute the next batch."""
        batch = self.chooser.choose(list(self.queues.values()), BUDGETS, self.now_s)
        if batch is None:
            return None
        self.batches.append((self.now_s, batch))
        self.now_s += duration_s(batch)
        for part in batch.parts:
            envelope = part.job.envelope
            queue = self.queues[envelope.model, envelope.lane, envelope.tenant]
            assert queue.jobs[0] is part.job, "out of order"
            assert part.start == queue.next
            queue.next = part.stop
            if part.stop == len(part.job.prepared.tokens):
                queue.jobs.popleft()
                queue.next = 0
                self.done_s[id(part.job)] = self.now_s
        return batch

    def bound_s(self, lane: Lane) -> float:
        """How long a request may take that has just arrived: the formula of `choose`'s docstring."""
        batches, longest_s = 0.0, BATCH_S
        for model, limit in BUDGETS.items():
            jobs = [job for key, queue in self.queues.items() if key[:2] == (model, lane) for job in queue.jobs]
            if jobs:
                tokens, items = sum(job.cost.tokens for job in jobs), sum(job.cost.items for job in jobs)
                tokens += 0 if self.tenants() == 1 else items + QUANTUM
                batches += self.tenants() * (2 * tokens / limit.tokens + 2 * items / limit.items + 1)
        for key, queue in self.queues.items():
            for job in queue.jobs:
                longest_s = max(longest_s, BATCH_S * max(job.prepared.tokens) / BUDGETS[key[0]].tokens)
        if lane == "interactive":
            return longest_s * (1 + (batches + 1) / (1 - EARN))
        return longest_s * (1 + batches * (2 + 1 / EARN))

    def tenants(self) -> int:
        return len({tenant for *_, tenant in self.queues})


def duration_s(batch: Batch) -> float:
    return BATCH_S * batch.tokens / BUDGETS[batch.model].tokens


def tokens_of(batch: Batch, counted: Callable[[Job], bool]) -> int:
    return sum(sum(p.job.prepared.tokens[p.start : p.stop]) for p in batch.parts if counted(p.job))


def is_bulk(job: Job) -> bool:
    return job.envelope.lane == "bulk"


def run(requests: Iterable[Request]) -> list[tuple[Job, float, float]]:
    """Compute all; each with how long it took, and how long it might have taken."""
    device = Device()
    bounds_s: list[tuple[Job, float]] = []
    for tenant in {request.tenant for request in requests}:  # one that comes later shares, too
        device.queues["m", "interactive", tenant] = Queue("m", "interactive", tenant, deque())
    for at_s, together in groupby(sorted(requests, key=lambda request: request.at_s), lambda request: request.at_s):
        while device.now_s < at_s and device.step() is not None:
            pass
        device.now_s = max(device.now_s, at_s)
        jobs = [device.arrive(request) for request in together]
        bounds_s += [(job, device.bound_s(job.envelope.lane)) for job in jobs]
    while device.step() is not None:
        pass
    return [(job, device.done_s[id(job)] - job.arrived_s, bound_s) for job, bound_s in bounds_s]


def requests(tenants: int) -> st.SearchStrategy[list[Request]]:
    request = st.builds(
        Request,
        at_s=st.sampled_from([0.0, 0.0, 0.02, 0.3, 0.31, 1.0]),
        tokens=st.lists(st.integers(0, 60), min_size=1, max_size=6).map(tuple),
        model=st.sampled_from(sorted(BUDGETS)),
        lane=st.sampled_from(LANES),
        tenant=st.sampled_from(["", "a", "b"][:tenants]),
    )
    return st.lists(request, min_size=1, max_size=60)


@pytest.mark.parametrize("tenants", [1, MOST_TENANTS])
def test_no_request_takes_longer_than_the_settings_imply(tenants: int) -> None:
    """Whatever arrives, on whichever lane, model or tenant: the bound that `choose` states."""

    @settings(max_examples=150, deadline=None)
    @given(requests(tenants))
    def check(arrivals: list[Request]) -> None:
        for job, took_s, bound_s in run(arrivals):
            assert took_s <= bound_s + 1e-9, (job.envelope, took_s, bound_s)

    check()


@pytest.mark.parametrize("models", [("m", "m"), ("m", "n"), ("n", "m")], ids=["same", "slower bulk", "faster bulk"])
@pytest.mark.parametrize("size", [40, 33, 7, 21])
def test_waiting_bulk_gets_its_share_of_every_second_and_no_more_than_it_earns(
    models: tuple[str, str], size: int
) -> None:
    """Both lanes full for ten seconds: the share holds in each single second, counted in the device's time.

    Items larger than a budget make longer batches; then it holds to within one of those.
    """
    device = Device()
    keep_full(device, Request(0, (size,), models[0]), Request(0, (size,), models[1], "bulk"), 10.0)
    served = [(at_s, duration_s(batch), bulk_s(batch)) for at_s, batch in device.batches]
    for begin_s, *_ in served:
        if begin_s <= 9.0 - BATCH_S:
            second = [entry for entry in served if begin_s <= entry[0] and entry[0] + entry[1] <= begin_s + 1.0 + 1e-9]
            total_s, bulk = sum(entry[1] for entry in second), sum(entry[2] for entry in second)
            assert bulk >= SHARE * total_s - 1e-9, (begin_s, bulk, total_s)
    assert sum(entry[2] for entry in served) <= (EARN + 0.02) * device.now_s


@settings(max_examples=150, deadline=None)
@given(requests(1))
def test_an_interactive_arrival_waits_behind_two_bulk_batches_at_most(arrivals: list[Request]) -> None:
    """From when interactive work waits until its lane leads again, whatever it is owed."""
    device = Device()
    run_of_bulk = 0
    for request in sorted(arrivals, key=lambda request: request.at_s):
        device.arrive(request)
    while any(queue.jobs for queue in device.queues.values()):
        interactive = any(queue.jobs for (_, lane, _), queue in device.queues.items() if lane == "interactive")
        batch = device.step()
        assert batch is not None
        leads = is_bulk(batch.parts[0].job)
        run_of_bulk = run_of_bulk + 1 if leads else 0
        assert not (interactive and run_of_bulk > 2)


def test_bulk_batches_that_cost_nothing_do_not_hold_up_live_work_either() -> None:
    """They never use up what bulk has earned, so something else has to end the run: two at most."""
    device = Device()
    for _ in range(6):
        device.arrive(Request(0, (0,) * 8, "m", "bulk"))
    for _ in range(3):
        device.arrive(Request(0, (40,), "n"))
    led = [device.step() for _ in range(9)]
    assert "".join("b" if batch and is_bulk(batch.parts[0].job) else "i" for batch in led) == "ibbibbibb"


def test_bulk_alone_takes_all_and_a_live_request_goes_next() -> None:
    """What bulk took while nobody else waited is not held against it, nor does it hold up the first live request."""
    device = Device()
    for _ in range(50):
        device.arrive(Request(0, (100,), lane="bulk"))
    for _ in range(10):
        device.step()
    live = device.arrive(Request(device.now_s, (5,), "n"))
    batch = device.step()
    assert batch is not None
    assert [part.job for part in batch.parts] == [live]


def test_without_a_share_bulk_waits_for_the_end_of_live_work() -> None:
    """`bulk_min_share = 0` is an answer, too; a batch that live work leaves room in still takes bulk along."""
    device = Device(Chooser(0, BATCH_MS, QUANTUM))
    keep_full(device, Request(0, (100,)), Request(0, (100,), lane="bulk"), 2.0)
    assert sum(tokens_of(batch, is_bulk) for _, batch in device.batches) == 0


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=5), min_size=2, max_size=4), st.integers(1, 3))
def test_tenants_who_wait_get_the_same_to_within_a_quantum(sizes: list[list[int]], items: int) -> None:
    """However large the requests of each are: what two were given differs by a quantum and an item of each."""
    device = Device()
    cycles = [deque(tokens) for tokens in sizes]

    def refill() -> None:
        for number, cycle in enumerate(cycles):
            key = ("m", "interactive", f"t{number}")
            while key not in device.queues or len(device.queues[key].jobs) < 20:
                device.arrive(Request(0, tuple(cycle[0] for _ in range(items)), tenant=f"t{number}"))
                cycle.rotate()

    spent: dict[str, int] = defaultdict(int)
    for _ in range(60):
        refill()
        batch = device.step()
        assert batch is not None
        for part in batch.parts:
            spent[part.job.envelope.tenant] += sum(part.job.prepared.tokens[part.start : part.stop])
            spent[part.job.envelope.tenant] += part.stop - part.start
        shares = [spent[f"t{number}"] for number in range(len(sizes))]
        assert max(shares) - min(shares) <= QUANTUM + 2 * (max(map(max, sizes)) + 1)


def test_one_tenant_with_a_thousand_requests_does_not_hold_up_another() -> None:
    """The second tenant's only request goes into the very next batch."""
    device = Device()
    for number in range(1000):
        device.arrive(Request(number / 1e6, (5,), tenant="large"))
    small = device.arrive(Request(1.0, (5,), tenant="small"))
    batch = device.step()
    assert batch is not None
    assert small in [part.job for part in batch.parts]


def bulk_s(batch: Batch) -> float:
    return BATCH_S * tokens_of(batch, is_bulk) / BUDGETS[batch.model].tokens


def keep_full(device: Device, live: Request, bulk: Request, end_s: float) -> None:
    """Compute while both lanes always have more than a batch."""
    arrivals = count()
    while device.now_s < end_s:
        for request in (live, bulk):
            key = (request.model, request.lane, request.tenant)
            while key not in device.queues or len(device.queues[key].jobs) < 60:
                device.arrive(replace(request, at_s=next(arrivals) / 1e6))
        device.step()
