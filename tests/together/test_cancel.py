"""Six answers about a submitted request, each from the real worker, and what cancelling saves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.request import urlopen

import embedmq
import pytest
from embedmq_local.stack import Stack
from embedmq_schemas.codec import decode_result
from embedmq_schemas.names import Names
from embedmq_schemas.results import Failed
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from tests.held import Hold
from tests.worker.world import until

BACKLOG_ITEMS = 800
"""Of 101 tokens each: five batches."""


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds; a minute only guards against waiting for ever."""
    async with asyncio.timeout(60):
        while not await condition():  # noqa: ASYNC110  # it is another process that is waited for
            await asyncio.sleep(0.01)


def measured(stack: Stack, name: str, **labels: str) -> float:
    """A metric of the worker, summed over what has these labels."""
    with urlopen(f"http://{stack.workers[-1].http}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


async def in_flight(stack: Stack, items: int) -> None:
    """Wait until the worker has so many."""

    async def there() -> bool:
        return await asyncio.to_thread(measured, stack, "embedmq_in_flight_items") == items

    await eventually(there)


@asynccontextmanager
async def occupied(stack: Stack, mq: embedmq.Client, hold: Hold) -> AsyncIterator[None]:
    """Keep the slow device busy, and several batches waiting, so that what comes in this block has to wait longer."""
    items = [f"{number:0400}" for number in range(BACKLOG_ITEMS)]
    with hold.on("batch") as held:
        busy = asyncio.create_task(mq.embed("slow", items, timeout_s=None))
        await in_flight(stack, BACKLOG_ITEMS)
        await until(held, "the first of them on the device")
        yield
    await busy


async def marks(redis: Redis, prefix: str) -> int:
    """How many requests are marked for the worker as cancelled."""
    return len([key async for key in redis.scan_iter(f"{{{prefix}:result:*:cancel")])


async def outcome_of(redis: Redis, names: Names, id: str) -> str:
    """The code of the failure that the worker has kept, once it has."""

    async def kept() -> bool:
        return bool(await redis.exists(names.result(id)))

    await eventually(kept)
    value = await redis.get(names.result(id))
    assert isinstance(value, bytes)
    result = decode_result(value)
    return result.code if isinstance(result, Failed) else result.__class__.__name__


async def test_six_answers_are_told_apart(stack: Stack, served: str, mq: embedmq.Client, hold: Hold) -> None:
    """Pending, completed, expired, unknown, late and cancelled; each from a client that did not ask."""
    names = Names(served)
    async with embedmq.Client(stack.kafka, stack.redis, prefix=served) as other, Redis.from_url(stack.redis) as redis:
        async with occupied(stack, mq, hold):
            called_off = await mq.submit("slow", "called off")
            late = await mq.submit("slow", "late", timeout_s=0.001)
            brief = await mq.submit("slow", "brief", keep_s=60)
            assert await other.cancel(called_off.id) == "cancelled"
            with pytest.raises(embedmq.StillPending):
                await other.result(brief.id)
            with pytest.raises(embedmq.RequestCancelled):
                await other.result(called_off.id)
        assert len(await other.result(brief.id, wait_s=60)) == 1
        with pytest.raises(embedmq.DeadlineExceeded):
            await other.result(late.id, wait_s=60)
        with pytest.raises(embedmq.UnknownRequest):
            await other.result("never-submitted")

        assert await outcome_of(redis, names, called_off.id) == "cancelled"
        assert await outcome_of(redis, names, late.id) == "deadline_exceeded"
        with pytest.raises(embedmq.RequestCancelled):
            await other.result(called_off.id)

        assert 0 < await redis.ttl(names.result(brief.id)) <= 60
        await redis.delete(names.result(brief.id))  # as its time to live does
        with pytest.raises(embedmq.ResultExpired):
            await other.result(brief.id)
        asked = (called_off.id, brief.id, "never-submitted")
        assert [await other.cancel(id) for id in asked] == ["cancelled", "completed", "unknown"]


async def test_what_came_too_late_to_cancel_is_completed(mq: embedmq.Client) -> None:
    """The result stays."""
    ticket = await mq.submit("null", "a cat")
    assert len(await mq.result(ticket.id, wait_s=60)) == 1
    assert await mq.cancel(ticket.id) == "completed"
    assert len(await mq.result(ticket.id)) == 1


async def test_what_nobody_awaits_any_more_is_not_computed(stack: Stack, served: str, hold: Hold) -> None:
    """Called off by name, or because the await was cancelled: nothing of it reaches the device."""

    def answered(code: str) -> float:
        return measured(stack, "embedmq_requests_total", model="slow", code=code)

    async with (
        embedmq.Client(stack.kafka, stack.redis, prefix=served, max_in_flight_items=8_192) as mq,
        Redis.from_url(stack.redis) as redis,
    ):
        before = await marks(redis, served)
        cancelled = answered("cancelled")
        computed = measured(stack, "embedmq_items_total", model="slow")
        async with occupied(stack, mq, hold):
            calls = [asyncio.create_task(mq.embed("slow", ["a cat"] * 500)) for _ in range(3)]
            named = asyncio.create_task(mq.embed("slow", "a cat", id="by-name", timeout_s=None))
            await in_flight(stack, BACKLOG_ITEMS + 3 * 500 + 1)
            for call in calls:
                call.cancel()
            assert await mq.cancel("by-name") == "cancelled"
            with pytest.raises(embedmq.RequestCancelled):
                await named
            ended = await asyncio.gather(*calls, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended)

            async def marked() -> bool:
                return await marks(redis, served) == before + 4

            await eventually(marked)

        async def told() -> bool:
            return await asyncio.to_thread(answered, "cancelled") >= cancelled + 4

        await eventually(told)
        assert measured(stack, "embedmq_items_total", model="slow") == computed + BACKLOG_ITEMS
