"""Requests for models that are not in memory wait in order, within a share of the room, and no longer than they may."""

from __future__ import annotations

import asyncio
import math

from embedmq_schemas.requests import Embed
from embedmq_worker.absent import Absent
from embedmq_worker.config import Worker
from embedmq_worker.jobs import Job, deadline_unix_ms
from embedmq_worker.progress import Progress
from embedmq_worker.residency import Demand

from tests.worker.jobs import make_job

SETTINGS = Worker(max_in_flight_items=100)


def job(id: str, model: str = "m", items: int = 1, deadline_ms: int | None = None, arrived_s: float = 0.0) -> Job:
    made = make_job(id, [1] * items, model=model, arrived_s=arrived_s, progress=Progress("t", 0))
    made.request = Embed(items=["x"] * items, deadline_unix_ms=deadline_ms)
    return made


def ids(jobs: list[Job]) -> list[str]:
    return [job.envelope.id for job in jobs]


async def test_what_waits_for_a_model_is_taken_all_at_once_in_order_of_arrival() -> None:
    """And only that; when nobody waits any more, whoever drains is told."""
    absent = Absent(SETTINGS)
    await absent.emptied()
    absent.put([job("a"), job("b", "n"), job("c")])
    emptied = asyncio.ensure_future(absent.emptied())
    assert absent.count("m") == 2
    assert ids(absent.take("m")) == ["a", "c"]
    assert absent.take("m") == []
    assert not emptied.done()
    assert ids(absent.take("n")) == ["b"]
    await asyncio.wait_for(emptied, 60)


def test_demands_name_each_model_with_its_oldest_request() -> None:
    """Tokens are not counted yet."""
    absent = Absent(SETTINGS)
    absent.put([job("a", arrived_s=3.0), job("b", "n", arrived_s=4.0), job("c", arrived_s=5.0)])
    assert absent.demands() == [Demand("m", 3.0, 0), Demand("n", 4.0, 0)]


def test_one_absent_model_cannot_fill_the_room() -> None:
    """Nor can all of them together: what is there goes on."""
    absent = Absent(SETTINGS)
    absent.put([job("a", items=10)])
    assert not absent.full("m")
    absent.put([job("b")])
    assert absent.full("m")
    assert not absent.full("n")
    absent.put([job("c", f"m{n}", items=10) for n in range(4)])
    assert absent.full("n")
    absent.take("m")
    assert not absent.full("n")


def test_what_was_taken_away_goes_and_the_rest_keeps_its_order() -> None:
    """Another worker has those partitions now."""
    absent = Absent(SETTINGS)
    jobs = [job(id) for id in "abcd"]
    absent.put(jobs)
    jobs[1].progress.revoked = jobs[2].progress.revoked = True
    assert ids(absent.discard_revoked()) == ["b", "c"]
    assert ids(absent.take("m")) == ["a", "d"]


def test_a_request_past_its_deadline_waits_no_longer() -> None:
    """The next one to pass is known, so nobody has to look before."""
    absent = Absent(SETTINGS)
    assert absent.soonest_unix_ms == math.inf
    absent.put([job("a", deadline_ms=2000), job("b"), job("c", "n", deadline_ms=1000)])
    assert absent.soonest_unix_ms == 1000
    assert absent.expire(999) == []
    assert ids(absent.expire(1000)) == ["c"]
    assert absent.soonest_unix_ms == 2000
    assert ids(absent.take("m")) == ["a", "b"]
    assert deadline_unix_ms(job("d")) == math.inf


async def test_one_less_is_not_none() -> None:
    """Whoever drains goes on waiting while somebody waits."""
    absent = Absent(SETTINGS)
    absent.put([job("a", deadline_ms=1_000), job("b")])
    emptied = asyncio.ensure_future(absent.emptied())
    await asyncio.wait({emptied}, timeout=0.01)
    assert ids(absent.expire(1_000)) == ["a"]
    ended, _ = await asyncio.wait({emptied}, timeout=0.05)
    assert not ended
    assert not absent.empty
    absent.take("m")
    await asyncio.wait_for(emptied, 60)
