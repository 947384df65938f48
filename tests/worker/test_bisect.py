"""One item that breaks the engine fails alone; all others get their vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import pytest
from embedmq_schemas.requests import Embed
from embedmq_schemas.results import Embedded
from embedmq_worker.answer import answer
from embedmq_worker.bisect import Relief, encode_parts, prepare_jobs
from embedmq_worker.device import Device
from embedmq_worker.engine.null import NullEngine
from embedmq_worker.engine.seam import Ask, Done, Encoded, Engine, ModelFacts, Prepared, Slice
from embedmq_worker.errors import DeviceLost, OutOfMemory
from embedmq_worker.jobs import Job, Part
from embedmq_worker.plan import grave
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.worker.jobs import make_job

POISON = 666
"""A count of tokens that breaks the engine."""


class Fragile:
    """An engine that fails as a device does: the whole batch, because of one item in it."""

    def __init__(self) -> None:
        self._null = NullEngine(4)
        self.batches = 0

    @property
    def facts(self) -> ModelFacts:
        return self._null.facts

    def prepare(self, asks: Sequence[Ask]) -> list[Prepared]:
        if any("poison" in ask.items for ask in asks):
            raise ValueError("a text that nobody may read")
        return self._null.prepare(asks)

    def launch(self, batch: Sequence[Slice]) -> Done:
        self.batches += 1
        if any(POISON in part.prepared.tokens[part.start : part.stop] for part in batch):
            raise RuntimeError("a text that nobody may read")
        return self._null.launch(batch)

    def free_cache(self) -> None:
        self._null.free_cache()

    def close(self) -> None:
        self._null.close()


class Cramped(NullEngine):
    """An engine on a device that holds so many items at a time, and more once something made room."""

    def __init__(self, fits: int) -> None:
        super().__init__(4)
        self.fits = fits
        self.launched: list[int] = []
        self.freed = 0

    def launch(self, batch: Sequence[Slice]) -> Done:
        items = sum(part.stop - part.start for part in batch)
        self.launched.append(items)
        if items > self.fits:
            raise OutOfMemory(f"{items} items on a device for {self.fits}")
        return super().launch(batch)

    def free_cache(self) -> None:
        self.freed += 1


class Breaking(Cramped):
    """An engine on a device that is too small, and breaks at a certain launch, or when its cache is freed."""

    def __init__(self, launches: int, fits: int = 1) -> None:
        super().__init__(fits)
        self._launches = launches

    def launch(self, batch: Sequence[Slice]) -> Done:
        self._use()
        return super().launch(batch)

    def free_cache(self) -> None:
        self._use()
        super().free_cache()

    def _use(self) -> None:
        self._launches -= 1
        if self._launches < 0:
            raise DeviceLost("CUDA error: unspecified launch failure")


class Evictions:
    """So many idle models can be evicted; each makes room for more items."""

    def __init__(self, engine: Cramped | None = None, models: int = 0, items: int = 0) -> None:
        self._engine = engine
        self._models = models
        self._items = items
        self.steps: list[str] = []
        self.relief = Relief(self.make_room, self.steps.append)

    async def make_room(self) -> bool:
        if self._engine is None or not self._models:
            return False
        self._models -= 1
        self._engine.fits += self._items
        return True


@pytest.fixture(scope="module")
def threads() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture(scope="module")
def device(threads: Executor) -> Iterator[Device]:
    with ThreadPoolExecutor(1) as collector:
        yield Device(threads, collector)


def nobody(part: Part, vectors: Encoded) -> None:
    """Nobody else wants what is computed."""


async def encode(device: Device, engine: Engine, parts: Sequence[Part], relief: Relief | None = None) -> int:
    """Compute a batch; how often it was said that the device can be given another."""
    said: list[None] = []
    await encode_parts(device, engine, parts, relief or Evictions().relief, lambda: said.append(None), nobody)
    return len(said)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(st.lists(st.sampled_from([1, 1, 1, POISON]), min_size=1, max_size=6), min_size=1, max_size=6))
async def test_items_that_break_a_batch_fail_alone_wherever_they_are(device: Device, counts: list[list[int]]) -> None:
    """Any number of them, in any place: each gets `processing_failed`, each other item its vector."""
    engine = Fragile()
    jobs = [make_job(str(n), tokens) for n, tokens in enumerate(counts)]
    assert await encode(device, engine, [Part(job, 0, len(job.prepared.tokens)) for job in jobs]) == 1
    for job, tokens in zip(jobs, counts, strict=True):
        assert job.remaining == 0
        result = answer(job, engine.facts)
        assert isinstance(result, Embedded)
        bad = [i for i, count in enumerate(tokens) if count == POISON]
        assert [(failure.index, failure.code) for failure in result.failures] == [(i, "processing_failed") for i in bad]
        assert not any("nobody may read" in failure.message for failure in result.failures)
        assert result.dense is not None
        rows = np.frombuffer(result.dense.data, np.float32).reshape(-1, 4)  # type: ignore[arg-type]  # bytes were asked for
        assert np.isnan(rows).all(axis=1).tolist() == [count == POISON for count in tokens]
        assert (grave(result) is not None) == (len(bad) == len(tokens))


async def test_one_bad_item_of_a_thousand_costs_few_batches(device: Device) -> None:
    """Halving finds it in two batches a step."""
    engine = Fragile()
    job = make_job("a", [1] * 700 + [POISON] + [1] * 323)
    await encode(device, engine, [Part(job, 0, 1_024)])
    assert engine.batches <= 1 + 2 * 10
    assert list(job.prepared.faults) == [700]


async def test_a_request_that_cannot_be_tokenized_fails_and_its_neighbours_do_not(threads: Executor) -> None:
    """The read is halved until it is alone."""
    jobs = []
    for n in range(7):
        job: Job = make_job(str(n))
        job.request = Embed(items=["poison" if n == 4 else "fine"])
        jobs.append(job)
    (failed,) = await prepare_jobs(Fragile(), jobs, threads)
    assert failed.job is jobs[4]
    assert failed.result.code == "processing_failed"  # type: ignore[union-attr]  # it failed
    assert "nobody may read" not in failed.result.message  # type: ignore[union-attr]  # it failed
    assert all(job.prepared.tokens == [2] for n, job in enumerate(jobs) if n != 4)


async def test_a_batch_too_large_for_the_device_is_computed_in_halves(device: Device) -> None:
    """First the cache is freed; every item gets its vector; nobody is told of a failure."""
    engine, evictions = Cramped(fits=3), Evictions()
    job = make_job("a", [1] * 8)
    await encode(device, engine, [Part(job, 0, 8)], evictions.relief)
    assert (job.remaining, job.prepared.faults) == (0, {})
    assert engine.freed
    assert set(evictions.steps) == {"free_cache", "halve"}
    assert sum(items for items in engine.launched if items <= 3) == 8


async def test_an_idle_model_makes_room_before_a_batch_is_halved(device: Device) -> None:
    """One after the other, as many as it takes, and no more."""
    engine = Cramped(fits=2)
    evictions = Evictions(engine, models=5, items=3)
    job = make_job("a", [1] * 8)
    await encode(device, engine, [Part(job, 0, 8)], evictions.relief)
    assert evictions.steps == ["free_cache", "evict", "evict"]
    assert engine.launched == [8, 8, 8, 8]
    assert job.remaining == 0


async def test_an_item_too_large_for_the_device_fails_alone(device: Device) -> None:
    """At the end of the ladder, by name, and its request is told apart: it may be tried again."""
    engine, evictions = Cramped(fits=0), Evictions()
    job = make_job("a", [1, 1])
    await encode_parts(device, engine, [Part(job, 0, 2)], evictions.relief, lambda: None, nobody)
    assert job.exhausted
    assert job.remaining == 0
    assert [fault.code for fault in job.prepared.faults.values()] == ["processing_failed"] * 2
    assert evictions.steps.count("fail") == 2
    assert "OutOfMemory" in job.prepared.faults[0].message


async def test_only_requests_that_found_too_little_memory_alone_may_be_tried_again(device: Device) -> None:
    """Neither those that fitted in halves, nor those that failed for another reason."""
    jobs = [make_job(str(n), [count]) for n, count in enumerate([1, 3, 1, POISON])]

    class Weighed(Fragile):
        def launch(self, batch: Sequence[Slice]) -> Done:
            if len(batch) > 2 or any(part.prepared.tokens == [3] for part in batch):
                raise OutOfMemory("three tokens on a device for two")
            return super().launch(batch)

    parts = [Part(job, 0, 1) for job in jobs]
    await encode_parts(device, Weighed(), parts, Evictions().relief, lambda: None, nobody)
    assert [job.exhausted for job in jobs] == [False, True, False, False]
    assert [bool(job.prepared.faults) for job in jobs] == [False, True, False, True]


@pytest.mark.parametrize("launches", range(7))
async def test_a_device_that_breaks_ends_the_batch_and_fails_nobody(device: Device, launches: int) -> None:
    """At its first launch, in the midst of the ladder or of the halving; the next batch is let on, to learn it."""
    engine, said = Breaking(launches), list[None]()
    job = make_job("a", [1] * 4)
    with pytest.raises(DeviceLost):
        await encode_parts(device, engine, [Part(job, 0, 4)], Evictions().relief, lambda: said.append(None), nobody)
    assert job.prepared.faults == {}
    assert len(said) == 1
