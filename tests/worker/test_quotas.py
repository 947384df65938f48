"""A tenant gets what its quota holds, from all workers together, and is told when there is more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest
from embedmq_local.stack import Stack
from embedmq_schemas.journey import Journey
from embedmq_schemas.names import Names
from embedmq_schemas.results import Failed
from embedmq_worker.config import Tenant
from embedmq_worker.jobs import Ending, Job, Outcome
from embedmq_worker.metrics import Metrics
from embedmq_worker.quotas import Quotas
from msgspec.structs import replace
from redis.asyncio import Redis

from tests.worker.jobs import make_job

TEN_ITEMS = Tenant(items_per_s=0.001, burst_s=10_000)
TEN_TOKENS = Tenant(tokens_per_s=0.001, burst_s=10_000)
"""They fill up so slowly that it does not matter how long a test takes."""


@pytest.fixture
async def redis(stack: Stack) -> AsyncIterator[Redis]:
    client: Redis = Redis.from_url(stack.redis)
    yield client
    await client.aclose()


def job(id: str, tokens: Sequence[int], tenant: str, attempts: int = 0) -> Job:
    made = make_job(id, tokens)
    made.envelope = replace(made.envelope, tenant=tenant, journey=Journey(attempts))
    return made


def refused(endings: Sequence[Ending]) -> dict[str, float]:
    """How long each that was refused is to wait, by id."""
    found: dict[str, float] = {}
    for ending in endings:
        assert isinstance(ending, Outcome)
        assert isinstance(ending.result, Failed)
        assert (ending.result.code, ending.result.retryable) == ("quota_exceeded", True)
        assert ending.result.retry_after_s is not None
        found[ending.result.id] = ending.result.retry_after_s
    return found


async def test_one_request_may_overdraw_and_the_next_is_told_when_that_has_filled_up(redis: Redis, prefix: str) -> None:
    """In one read or in two, by whichever worker; other tenants are not held up, and those without a quota never."""
    tenants = {"acme": TEN_ITEMS, "other": TEN_ITEMS, "free": Tenant()}
    metrics = Metrics()
    one, two = (Quotas(redis, Names(prefix), tenants, metrics) for _ in range(2))
    waits = refused(await one.charge([job("a", [1] * 12, "acme"), job("b", [1], "acme"), job("c", [1] * 99, "free")]))
    assert list(waits) == ["b"]
    assert 1_000 < waits["b"] <= 2_000
    waits = refused(await two.charge([job("d", [1], "acme"), job("e", [1], "other")]))
    assert list(waits) == ["d"]
    assert metrics.registry.get_sample_value("embedmq_quota_refused_total", {"tenant": "acme"}) == 2


async def test_tokens_count_as_items_do(redis: Redis, prefix: str) -> None:
    """Whichever of the two is overdrawn."""
    quotas = Quotas(redis, Names(prefix), {"acme": TEN_TOKENS}, Metrics())
    assert refused(await quotas.charge([job("a", [4, 4], "acme"), job("b", [4], "acme")])) == {}
    assert list(refused(await quotas.charge([job("c", [1], "acme")]))) == ["c"]


async def test_what_is_refused_costs_nothing(redis: Redis, prefix: str) -> None:
    """Who goes on sending waits no longer than who stops."""
    quotas = Quotas(redis, Names(prefix), {"acme": TEN_ITEMS}, Metrics())
    assert refused(await quotas.charge([job("a", [1] * 12, "acme")])) == {}
    first, second = [refused(await quotas.charge([job("b", [1] * 50, "acme")]))["b"] for _ in range(2)]
    assert second <= first


async def test_budgets_fill_up_at_their_rate(redis: Redis, prefix: str) -> None:
    """A thousand items a second: what is told to wait for is gone after that time."""
    quotas = Quotas(redis, Names(prefix), {"acme": Tenant(items_per_s=1e9, burst_s=1e-3)}, Metrics())
    for _ in range(3):
        assert refused(await quotas.charge([job("a", [1] * 1_000, "acme")])) == {}


async def test_each_tenant_without_an_entry_has_what_the_star_says(redis: Redis, prefix: str) -> None:
    """Counted under one label, since names may be anything that was sent."""
    metrics = Metrics()
    quotas = Quotas(redis, Names(prefix), {"*": TEN_ITEMS, "free": Tenant()}, metrics)
    jobs = [job(f"{tenant}{i}", [1] * 12, tenant) for tenant in ("x", "y", "") for i in range(2)]
    jobs += [job(f"free{i}", [1] * 12, "free") for i in range(2)]
    assert list(refused(await quotas.charge(jobs))) == ["x1", "y1", "1"]
    assert metrics.registry.get_sample_value("embedmq_quota_refused_total", {"tenant": "*"}) == 3


async def test_what_is_tried_again_was_charged_before(redis: Redis, prefix: str) -> None:
    """A failing device is not the tenant's doing."""
    quotas = Quotas(redis, Names(prefix), {"acme": TEN_ITEMS}, Metrics())
    assert refused(await quotas.charge([job("a", [1] * 12, "acme"), job("b", [1] * 12, "acme", attempts=1)])) == {}


async def test_what_is_cut_into_tokens_anew_was_charged_before(redis: Redis, prefix: str) -> None:
    """Its model was evicted, re-pointed or paused while it waited for the device: nobody pays for that."""
    quotas = Quotas(redis, Names(prefix), {"acme": TEN_ITEMS}, Metrics())
    accepted = job("a", [1] * 12, "acme")
    for _ in range(2):
        assert refused(await quotas.charge([accepted])) == {}
    assert list(refused(await quotas.charge([job("b", [1], "acme")]))) == ["b"]


async def test_without_redis_nobody_is_refused(prefix: str) -> None:
    """Quotas protect neighbours; they are no reason to stop."""
    async with Redis(port=1) as away:
        quotas = Quotas(away, Names(prefix), {"acme": TEN_ITEMS}, Metrics())
        assert await quotas.charge([job("a", [1] * 12, "acme"), job("b", [1], "acme")]) == []
