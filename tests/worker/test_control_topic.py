"""Orders are what the control topic says now, also when it is another topic than before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import reduce

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from embedmq_local.stack import Stack
from embedmq_schemas.control import Order, encode_order
from embedmq_schemas.names import Names
from embedmq_worker.config import Kafka
from embedmq_worker.control import Control, News
from embedmq_worker.orders import Orders, heed

from tests.worker.world import World, eventually, until

WAIT_S = 60.0


@pytest.fixture
async def admin(stack: Stack) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await client.start()
    yield client
    await client.close()


async def test_a_control_topic_that_is_made_anew_is_followed_from_its_beginning(
    stack: Stack, world: World, prefix: str, admin: AIOKafkaAdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    """However few orders it has: at once all that it says, then what comes. While there is none the last orders stay,
    and the log says so once: it is not asked for without a pause."""
    names = Names(prefix)

    async def order(model: str, *, served: bool) -> None:
        await world.produce(names.control, encode_order(Order(served=served)), key=model.encode())

    async def gone() -> bool | None:
        return names.control not in await admin.list_topics() or None

    def said(text: str) -> int:
        return sum(text in record.getMessage() for record in caplog.records)

    async def come() -> News:
        return await asyncio.wait_for(control.next(), WAIT_S)

    await world.create(names.control)
    for served in (True, False, True):
        await order("m", served=served)
    control = Control(Kafka(bootstrap=[stack.kafka], metadata_max_age_ms=1000), names, "w")
    try:
        assert len(await control.start()) == 3
        following = asyncio.create_task(come())
        await admin.delete_topics([names.control])
        await until(lambda: said("control_not_read") > 0, "it is noticed", WAIT_S)
        await eventually(gone, "nobody has it")
        noticed = said("not found in cluster metadata")
        await asyncio.wait({following}, timeout=1.5)
        assert said("not found in cluster metadata") - noticed <= 3
        await world.create(names.control)
        news = await following
        await order("m", served=False)
        records = list(news.records) if news.records else list((await come()).records)
        assert news.anew
        orders = reduce(heed, records, Orders())
        assert (orders.last["m"].served, orders.offset) == (False, 0)
        await order("n", served=True)
        news = await come()
        assert ([record.offset for record in news.records], news.anew) == ([1], False)
        assert said("control_not_read") == 1
    finally:
        await control.close()


async def test_a_log_that_begins_again_replaces_the_one_before(
    stack: Stack, world: World, prefix: str, admin: AIOKafkaAdminClient
) -> None:
    """Also where nobody saw the topic gone, since it was made again at once."""
    names = Names(prefix)
    await world.create(names.control)
    for _ in range(3):
        await world.produce(names.control, encode_order(Order(served=True)), key=b"m")
    control = Control(Kafka(bootstrap=[stack.kafka]), names, "w")
    try:
        assert len(await control.start()) == 3
        await admin.delete_topics([names.control])

        async def again() -> bool | None:
            return names.control not in await admin.list_topics() or None

        await eventually(again, "it is gone")
        await world.create(names.control)
        for model in (b"a", b"b"):
            await world.produce(names.control, encode_order(Order(served=False)), key=model)
        orders, anew = Orders(), False
        while orders.last.keys() != {"a", "b"}:
            news = await asyncio.wait_for(control.next(), WAIT_S)
            anew = anew or news.anew
            orders = reduce(heed, news.records, Orders() if news.anew else orders)
        assert anew
    finally:
        await control.close()
