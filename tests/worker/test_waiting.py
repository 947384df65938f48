"""Work is handed out as soon as there is some whose model is in memory, and all of it before the end."""

from __future__ import annotations

import asyncio

from embedmq_worker.choose import Budget, Chooser
from embedmq_worker.residency import Demand
from embedmq_worker.waiting import Waiting

from tests.worker.jobs import make_job


class Models:
    """What is in memory."""

    def __init__(self, *resident: str) -> None:
        self.resident = set(resident)
        self.waiting = Waiting({}, Chooser(0.1, 50), self.resident.__contains__)
        for model in resident:
            self.waiting.budgets[model] = Budget(20, 4)

    def load(self, model: str) -> None:
        self.resident.add(model)
        self.waiting.budgets[model] = Budget(20, 4)
        self.waiting.poke()


async def take(waiting: Waiting) -> str | None:
    batch = await asyncio.wait_for(waiting.take(), 60)
    return None if batch is None else batch.model


async def test_take_waits_for_work_and_ends_when_closed_and_empty() -> None:
    """Closing lets what is there go first."""
    waiting = Models("m").waiting
    taking = asyncio.ensure_future(waiting.take())
    waiting.put([])
    waiting.put([make_job("a")])
    assert await taking is not None
    waiting.put([make_job("b")])
    waiting.close()
    assert await take(waiting) == "m"
    assert await take(waiting) is None


async def test_work_for_an_absent_model_holds_up_nobody_and_goes_when_the_model_is_there() -> None:
    """Even older work: a model that loads holds up only its own requests."""
    models = Models("m")
    models.waiting.put([make_job("old", model="cold", arrived_s=1.0), make_job("new", arrived_s=2.0)])
    assert await take(models.waiting) == "m"
    taking = asyncio.ensure_future(take(models.waiting))
    await asyncio.wait([taking], timeout=0.01)
    assert not taking.done()
    models.load("cold")
    assert await taking == "cold"


async def test_a_model_without_a_budget_yet_is_as_good_as_absent() -> None:
    """It is in memory a moment before the road has learnt how fast it is."""
    models = Models("m")
    models.resident.add("cold")
    models.waiting.put([make_job("c", model="cold"), make_job("m", arrived_s=1.0)])
    assert await take(models.waiting) == "m"


async def test_the_end_waits_for_work_whose_model_comes_back_or_is_withdrawn() -> None:
    """What was accepted is computed or answered before a worker stops, within its grace."""
    models = Models("m")
    models.waiting.put([make_job("c", model="cold"), make_job("d", model="gone")])
    models.waiting.close()
    taking = asyncio.ensure_future(take(models.waiting))
    models.load("cold")
    assert await taking == "cold"
    ending = asyncio.ensure_future(take(models.waiting))
    await asyncio.wait([ending], timeout=0.01)
    assert not ending.done()
    assert [job.envelope.id for job in models.waiting.withdraw("gone")] == ["d"]
    assert await ending is None


async def test_demands_name_every_model_with_its_oldest_request_and_all_tokens() -> None:
    """In memory or not, over both lanes."""
    waiting = Models("m").waiting
    waiting.put([make_job("a", [3, 4], arrived_s=2.0), make_job("b", [5], arrived_s=1.0, lane="bulk")])
    waiting.put([make_job("c", [7], arrived_s=3.0, model="cold")])
    assert waiting.demands() == [Demand("m", 1.0, 12), Demand("cold", 3.0, 7)]


async def test_tenants_that_no_longer_wait_cost_nothing() -> None:
    """There may be any number of them over the life of a worker."""
    waiting = Models("m").waiting
    for _ in range(3):
        waiting.put([make_job("a")])
        await take(waiting)
    assert waiting.demands() == []
    assert waiting.tokens() == {}
