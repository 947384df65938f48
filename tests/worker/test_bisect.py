"""One item that breaks the engine fails alone; all others get their vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
import pytest
from embedmq_schemas.requests import Embed
from embedmq_worker.answer import answer
from embedmq_worker.bisect import encode_parts, prepare_jobs
from embedmq_worker.engine.null import Done, NullEngine
from embedmq_worker.engine.seam import Ask, ModelFacts, Prepared, Slice
from embedmq_worker.jobs import Job, Part
from embedmq_worker.plan import _grave
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


@pytest.fixture(scope="module")
def device() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from([1, 1, 1, POISON]), min_size=1, max_size=6), min_size=1, max_size=6))
async def test_items_that_break_a_batch_fail_alone_wherever_they_are(device: Executor, counts: list[list[int]]) -> None:
    """Any number of them, in any place: each gets `processing_failed`, each other item its vector."""
    engine = Fragile()
    jobs = [make_job(str(n), tokens) for n, tokens in enumerate(counts)]
    await encode_parts(engine, [Part(job, 0, len(job.prepared.tokens)) for job in jobs], device)
    for job, tokens in zip(jobs, counts, strict=True):
        assert job.remaining == 0
        result = answer(job, engine.facts)
        bad = [i for i, count in enumerate(tokens) if count == POISON]
        assert [(failure.index, failure.code) for failure in result.failures] == [(i, "processing_failed") for i in bad]
        assert not any("nobody may read" in failure.message for failure in result.failures)
        assert result.dense is not None
        rows = np.frombuffer(result.dense.data, np.float32).reshape(-1, 4)  # type: ignore[arg-type]  # bytes were asked for
        assert np.isnan(rows).all(axis=1).tolist() == [count == POISON for count in tokens]
        assert (_grave(result) is not None) == (len(bad) == len(tokens))


async def test_one_bad_item_of_a_thousand_costs_few_batches(device: Executor) -> None:
    """Halving finds it in two batches a step."""
    engine = Fragile()
    job = make_job("a", [1] * 700 + [POISON] + [1] * 323)
    await encode_parts(engine, [Part(job, 0, 1_024)], device)
    assert engine.batches <= 1 + 2 * 10
    assert list(job.prepared.faults) == [700]


async def test_a_request_that_cannot_be_tokenized_fails_and_its_neighbours_do_not(device: Executor) -> None:
    """The read is halved until it is alone."""
    jobs = []
    for n in range(7):
        job: Job = make_job(str(n))
        job.request = Embed(items=["poison" if n == 4 else "fine"])
        jobs.append(job)
    (failed,) = await prepare_jobs(Fragile(), jobs, device)
    assert failed.job is jobs[4]
    assert failed.result.code == "processing_failed"  # type: ignore[union-attr]  # it failed
    assert "nobody may read" not in failed.result.message  # type: ignore[union-attr]  # it failed
    assert all(job.prepared.tokens == [2] for n, job in enumerate(jobs) if n != 4)
