"""Identical items in flight are computed once, whatever becomes of the one that is, and give what each alone would."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import pytest
from embedmq_schemas.requests import Embed, Item, Score
from embedmq_schemas.results import Embedded, Scored
from embedmq_worker.answer import answer
from embedmq_worker.bisect import Relief, prepare_jobs
from embedmq_worker.check import PLAIN
from embedmq_worker.device import Device
from embedmq_worker.engine.seam import Ask, Block, Done, Encoded, ModelFacts, Options, Prepared, Slice
from embedmq_worker.errors import DeviceLost, OutOfMemory
from embedmq_worker.jobs import Batch, Job, Part, size
from embedmq_worker.supply import Supplied, Supply
from embedmq_worker.twins import Twins
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from tests.worker.jobs import make_job

FACTS = ModelFacts(dimensions=2, max_tokens=99, revision="r1", tokenizes=False)
WIDE = Options(dimensions=1)
POISON = "poison"


class Lettered(Prepared, frozen=True, gc=False):
    """Items as they came."""

    items: tuple[Item, ...] = ()
    query: str = ""


class Engine:
    """Says of a text how often it was computed before, so that what was computed twice shows; counts what it computes.

    It fails on poison, on what `fails` says, and computes only while `gate` is open.
    """

    def __init__(self, facts: ModelFacts = FACTS) -> None:
        self.facts = facts
        self.computed: list[Item] = []
        self.took_s = 0.0
        self.fails: list[Exception] = []
        self.gate = threading.Event()
        self.gate.set()
        self.launched = threading.Event()

    def prepare(self, asks: Sequence[Ask]) -> list[Prepared]:
        return [Lettered([1] * len(a.items), None, [], {}, items=tuple(a.items), query=a.query or "") for a in asks]

    def launch(self, batch: Sequence[Slice]) -> Done:
        self.launched.set()
        assert self.gate.wait(60)
        if self.fails:
            raise self.fails.pop(0)
        named = [(part, self._items(part)) for part in batch]
        if any(POISON in items for _, items in named):
            raise ValueError("a text that nobody may read")
        began_s = time.perf_counter()
        encoded = [self._encode(part, items) for part, items in named]
        self.took_s = time.perf_counter() - began_s
        return Done(encoded)

    def free_cache(self) -> None: ...

    def close(self) -> None: ...

    def _items(self, part: Slice) -> tuple[Item, ...]:
        assert isinstance(part.prepared, Lettered)
        return part.prepared.items[part.start : part.stop]

    def _encode(self, part: Slice, items: Sequence[Item]) -> Encoded:
        assert isinstance(part.prepared, Lettered)
        self.computed += items
        numbers = [float(sum(map(ord, f"{item}{part.prepared.query}{part.options.prompt}"))) for item in items]
        if self.facts.scores:
            return Encoded(scores=np.array(numbers, np.float32))
        width = part.options.dimensions or 2
        return Encoded(dense=Block(np.array([[number] * width for number in numbers], np.float32)))


class Case(Struct):
    """One worker's twins, its device, and what is said of it."""

    supply: Supply
    twins: Twins
    engine: Engine
    threads: Executor

    async def enter(self, *items: Item, options: Options = PLAIN, query: str | None = None, alone: bool = False) -> Job:
        """A job that is cut into tokens and waits."""
        job = make_job(f"{items}", [1] * len(items))
        texts = [str(item) for item in items]
        job.request = Embed(items=list(items)) if query is None else Score(query=query, documents=texts)
        job.options, job.alone = options, alone
        await prepare_jobs(self.engine, [job], self.threads)
        self.twins.enter([job], self.engine.facts)
        return job

    async def compute(self, *jobs: Job) -> Supplied:
        """Take jobs to the device as one batch."""
        parts = [Part(job, 0, len(job.prepared.tokens)) for job in jobs]
        return await self.supply.supply(self.engine, Batch("m", parts, *size(parts)), relief(), lambda: None)


def relief() -> Relief:
    async def nothing_to_evict() -> bool:
        return False

    return Relief(nothing_to_evict, lambda step: None)


def numbers(job: Job) -> list[float | None]:
    """What its caller gets, item by item; NaN where it failed."""
    result = answer(job, FACTS)
    if isinstance(result, Scored):
        return result.scores
    assert isinstance(result, Embedded)
    assert result.dense is not None
    rows = np.frombuffer(result.dense.data, np.float32).reshape(result.dense.shape)  # type: ignore[arg-type]  # bytes
    return [float(row[0]) for row in rows]


def worth(item: Item, query: str = "", prompt: str | None = None) -> float:
    return float(sum(map(ord, f"{item}{query}{prompt}")))


@pytest.fixture(scope="module")
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(3) as executor:
        yield executor


@pytest.fixture
async def case(threads: Executor) -> AsyncIterator[Case]:
    with ThreadPoolExecutor(1) as launcher:
        twins = Twins()
        yield Case(Supply(Device(launcher, threads), twins), twins, Engine(), threads)


async def launched(engine: Engine) -> None:
    """Wait until the device has a batch."""
    assert await asyncio.to_thread(engine.launched.wait, 20)
    engine.launched.clear()


async def test_what_is_twice_in_a_batch_is_computed_once(case: Case) -> None:
    """In one request and in several, as text and as token ids; each gets its own row."""
    jobs = [await case.enter("a", "b", "a", "c"), await case.enter("c", [7, 8], "d"), await case.enter([7, 8])]
    supplied = await case.compute(*jobs)
    assert case.engine.computed == ["a", "b", "c", [7, 8], "d"]
    assert (supplied.items, supplied.tokens, supplied.coalesced) == (5, 5, 3)
    asked: list[list[Item]] = [["a", "b", "a", "c"], ["c", [7, 8], "d"], [[7, 8]]]
    for job, items in zip(jobs, asked, strict=True):
        assert numbers(job) == [worth(item) for item in items]
    assert jobs[2].forward_ms == 0


async def test_what_another_batch_computes_is_waited_for(case: Case) -> None:
    """The second batch is on its way while the first is on the device, and takes only its own there."""
    first, second = await case.enter("a", "b"), await case.enter("c", "b", "d")
    case.engine.gate.clear()
    earlier = asyncio.create_task(case.compute(first))
    await launched(case.engine)
    later = asyncio.create_task(case.compute(second))
    await asyncio.sleep(0)
    case.engine.gate.set()
    await asyncio.gather(earlier, later)
    assert sorted(map(str, case.engine.computed)) == ["a", "b", "c", "d"]
    assert numbers(second) == [worth("c"), worth("b"), worth("d")]


async def test_a_vector_is_kept_while_an_identical_item_waits_and_no_longer(case: Case) -> None:
    """Three requests in three batches one after the other; when all are delivered, a fourth is computed anew."""
    jobs = [await case.enter("a") for _ in range(3)]
    for job in jobs:
        await case.compute(job)
        assert numbers(job) == [worth("a")]
        case.twins.leave(job)
    assert case.engine.computed == ["a"]
    await case.compute(await case.enter("a"))
    assert case.engine.computed == ["a", "a"]


async def test_who_is_dropped_before_the_device_leaves_its_twin_to_be_computed(case: Case) -> None:
    """Cancelled, late or revoked: it never was the one to be computed."""
    dropped, other = await case.enter("a"), await case.enter("a")
    case.twins.leave(dropped)
    await case.compute(other)
    assert numbers(other) == [worth("a")]


async def test_nothing_is_shared_across_options_queries_and_revisions(case: Case) -> None:
    """What would get another vector alone gets another vector here; what runs alone shares with nobody."""
    prompted = Options(prompt="query: ")
    jobs = [
        await case.enter("a"),
        await case.enter("a", options=WIDE),
        await case.enter("a", options=prompted),
        await case.enter("a", alone=True),
    ]
    case.engine.facts = ModelFacts(dimensions=2, max_tokens=99, revision="r2", tokenizes=False)
    newer = await case.enter("a")
    await case.compute(newer)
    case.engine.facts = FACTS
    assert (await case.compute(*jobs, newer)).coalesced == 0
    assert case.engine.computed == ["a"] * 6
    assert [numbers(job)[0] for job in jobs] == [worth("a"), worth("a"), worth("a", prompt="query: "), worth("a")]

    case.engine.facts = ModelFacts(dimensions=0, max_tokens=99, scores=True, tokenizes=False)
    case.engine.computed.clear()
    scored = [await case.enter("a", "b", query=query) for query in ("x", "y", "x")]
    assert (await case.compute(*scored)).coalesced == 2
    assert [numbers(job)[1] for job in scored] == [worth("b", query) for query in ("x", "y", "x")]


async def test_what_arrives_while_its_twin_is_on_the_device_waits_for_that(case: Case) -> None:
    """Nobody knew of it when the batch was taken, and all was unlike."""
    first = await case.enter("a", "b")
    case.engine.gate.clear()
    earlier = asyncio.create_task(case.compute(first))
    await launched(case.engine)
    second = await case.enter("b")
    later = asyncio.create_task(case.compute(second))
    await asyncio.sleep(0)
    case.engine.gate.set()
    await asyncio.gather(earlier, later)
    assert case.engine.computed == ["a", "b"]
    assert numbers(second) == [worth("b")]


@pytest.mark.parametrize("error", [DeviceLost("gone"), OutOfMemory("for now"), ValueError("once")], ids=repr)
async def test_no_failure_is_inherited_by_a_twin_in_another_batch(case: Case, error: Exception) -> None:
    """What the batch before failed on, the one that waited for it computes by itself."""
    first, second = await case.enter("a"), await case.enter("a", "b")
    case.engine.gate.clear()
    case.engine.fails = [error] * 3  # as often as the ladder tries a single item, and the second batch's own
    earlier = asyncio.create_task(case.compute(first))
    await launched(case.engine)
    later = asyncio.create_task(case.compute(second))
    await asyncio.sleep(0)
    case.engine.fails = [error, error] if isinstance(error, OutOfMemory) else [error]
    case.engine.gate.set()
    ended = await asyncio.gather(earlier, later, return_exceptions=True)
    assert [type(end) for end in ended] == [type(error) if isinstance(error, DeviceLost) else Supplied, Supplied]
    assert sorted(map(str, case.engine.computed)) == ["a", "b"]
    assert numbers(second) == [worth("a"), worth("b")]
    assert not second.prepared.faults


async def test_what_is_computed_after_all_counts_with_the_time_it_took(case: Case) -> None:
    """A rate that counts the tokens of a twin whose owner failed, and not its time, is told to clients as a wonder."""
    first, second = await case.enter("a"), await case.enter("a")
    case.engine.gate.clear()
    case.engine.fails = [ValueError("once")]
    earlier = asyncio.create_task(case.compute(first))
    await launched(case.engine)
    later = asyncio.create_task(case.compute(second))
    await asyncio.sleep(0)
    case.engine.gate.set()
    await earlier
    supplied = await later
    assert (supplied.items, supplied.tokens) == (1, 1)
    assert supplied.forward_s >= case.engine.took_s > 0


async def test_what_a_batch_need_not_compute_is_not_waited_for(case: Case) -> None:
    """As what it found in the cache before anybody wanted the same: who comes now will find it there, too."""
    first, done = await case.enter("a", "b"), asyncio.Event()
    case.twins.divide([Part(first, 0, 2)], FACTS, done)
    case.twins.narrow(done, [Part(first, 1, 2)])
    second = await case.enter("a", "b")
    own, twins = case.twins.divide([Part(second, 0, 2)], FACTS, asyncio.Event())
    assert ([(part.start, part.stop) for part in own], [twin.index for twin in twins]) == ([(0, 1)], [1])


async def test_a_poisonous_text_fails_each_of_its_twins_and_nobody_else(case: Case) -> None:
    """Each is tried for itself."""
    jobs = [await case.enter("a", POISON), await case.enter(POISON), await case.enter("a")]
    await case.compute(*jobs)
    assert [list(job.prepared.faults) for job in jobs] == [[1], [0], []]
    assert [job.remaining for job in jobs] == [0, 0, 0]
    assert numbers(jobs[2]) == [worth("a")]


STEPS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["a", "b", "c", POISON]), min_size=1, max_size=4),
        st.sampled_from(["deliver", "compute", "with the next", "beside the next", "drop"]),
        st.sampled_from([PLAIN, WIDE]),
    ),
    min_size=1,
    max_size=8,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(STEPS)
async def test_each_gets_what_it_would_have_got_alone_in_whatever_order(
    case: Case, steps: list[tuple[list[str], str, Options]]
) -> None:
    """Batches of any make-up, one after the other or side by side, some never computed: nothing is left behind."""
    jobs = [await case.enter(*items, options=options) for items, _, options in steps]
    batch: list[Job] = []
    running: list[asyncio.Task[Supplied]] = []
    for job, (_, fate, _) in zip(jobs, steps, strict=True):
        if fate == "drop":
            case.twins.leave(job)
            continue
        batch.append(job)
        if fate == "with the next":
            continue
        running.append(asyncio.create_task(case.compute(*batch)))
        batch = []
        if fate in ("compute", "deliver"):
            await asyncio.gather(*running)
        if fate == "deliver":
            case.twins.leave(job)
    running.append(asyncio.create_task(case.compute(*batch)))
    await asyncio.gather(*running)
    for job, (items, fate, _) in zip(jobs, steps, strict=True):
        if fate != "drop":
            assert job.remaining == 0
            expected = [float("nan") if item == POISON else worth(item) for item in items]
            np.testing.assert_equal(numbers(job), expected)
            case.twins.leave(job)
    assert case.twins.empty
