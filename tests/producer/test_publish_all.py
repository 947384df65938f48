"""`publish_all`: items of any number go to Kafka, and their caller knows by which ids."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import embedmq
import pytest
from embedmq_local.stack import Stack

from tests.producer.standin import StandIn

Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
TEXTS = [f"{n}" for n in range(500)]


async def each(items: Any) -> AsyncIterator[Any]:
    """An async source."""
    for item in items:
        await asyncio.sleep(0)
        yield item


@pytest.mark.usefixtures("one_slice")
async def test_all_items_are_published_once_in_order_and_their_requests_numbered(either: Any, worker: StandIn) -> None:
    """Items of any iterable, in requests on the bulk lane whose ids follow from the one that is returned; where the
    answers go and what else was asked is in each.
    """
    for source in (TEXTS, iter(TEXTS), each(TEXTS)):
        worker.requests.clear()
        worker.records.clear()
        published = await either.publish_all("minilm", source, reply_topic="vectors", dtype="float16", tenant="acme")
        requests = await worker.wait_for(published.records)

        by_id = {request["id"]: request for request in requests}
        assert list(published.ids) == [f"{published.id}.{k}" for k in range(published.records)]
        assert [item for id in published.ids for item in by_id[id]["items"]] == TEXTS
        assert published.items == len(TEXTS)
        assert {request["dtype"] for request in requests} == {"float16"}
        assert {request["reply"]["topic"] for request in requests} == {"vectors"}
        assert {record.topic for record in worker.records} == {f"{worker.prefix}.minilm.bulk"}
        if not isinstance(source, AsyncIterator):
            assert published.records == 8  # of 64 items


@pytest.mark.usefixtures("one_slice")
async def test_kept_results_are_fetched_by_ids_that_need_no_memory(either: Any, mq: embedmq.Client) -> None:
    """`ids` is made as it is read; item ids come back with the vectors, in the order of the items."""
    pairs = [(f"doc-{n}", text) for n, text in enumerate(TEXTS)]
    published = await either.publish_all("minilm", pairs, keep_s=60, id="nightly/1", max_record_items=100)

    assert (published.id, published.records, published.items) == ("nightly/1", 5, 500)
    found = [await mq.result(id, wait_s=60) for id in published.ids]
    assert [item.item_id for embeddings in found for item in embeddings] == [id for id, _ in pairs]
    assert [len(embeddings) for embeddings in found] == [100] * 5


async def test_the_source_is_asked_only_while_there_is_room(mq: embedmq.Client, worker: StandIn, until: Until) -> None:
    """An endless source is asked for `max_in_flight` items beyond what Kafka has; cancelling ends it."""
    taken = 0
    enough, closed = asyncio.Event(), asyncio.Event()

    def endless() -> Iterator[str]:
        nonlocal taken
        try:
            while True:
                taken += 1
                if taken == 5_000:
                    enough.set()
                yield "a"
        finally:
            closed.set()

    publishing = asyncio.create_task(mq.publish_all("minilm", endless(), keep_s=0, max_in_flight=64))
    await asyncio.wait_for(enough.wait(), 60)
    publishing.cancel()
    await asyncio.wait({publishing})
    assert publishing.cancelled()
    assert closed.is_set()
    in_kafka = taken - 64

    async def arrived() -> bool:
        return sum(len(request["items"]) for request in worker.requests) >= in_kafka

    await until(arrived)


async def test_an_error_says_how_many_items_kafka_has(either: Any, worker: StandIn, until: Until) -> None:
    """Of an item that is none, and of the source itself: the first so many, so that one can go on behind them."""
    items: list[Any] = [*TEXTS[:130], 7, *TEXTS]
    with pytest.raises(
        embedmq.InvalidRequest, match=r"items\[130\]: a value of .*has the first 130 items as x.0 to x.2"
    ):
        await either.publish_all("minilm", items, keep_s=0, id="x")

    async def arrived() -> bool:
        seen = {request["id"]: request["items"] for request in worker.requests}
        return [item for k in range(3) for item in seen.get(f"x.{k}", ())] == TEXTS[:130]

    await until(arrived)

    def broken() -> Iterator[str]:
        yield from TEXTS[:70]
        raise LookupError("row 71")

    with pytest.raises(LookupError, match="row 71") as raised:
        await either.publish_all("minilm", broken(), keep_s=0, id="again")
    assert "Kafka has the first 70 items as again.0 to again.1" in raised.value.__notes__[0]


async def test_what_cannot_be_published_is_refused_before_anything_is_sent(either: Any, worker: StandIn) -> None:
    """It wants to know where the answers go, as `publish` does."""
    refused: list[tuple[Any, dict[str, Any], str]] = [
        (["a"], {}, "reply_topic=, keep_s="),
        ("a cat", {"keep_s": 0}, "a str: pass an iterable"),
        (["a"], {"keep_s": 0, "item_ids": ["x"]}, "item_ids: give each item its own"),
        (["a"], {"keep_s": 0, "id": "x" * 120}, "id: .* is too long"),
        (["a"], {"keep_s": 0, "max_record_items": 0}, "max_record_items: 0"),
        (["a"], {"keep_s": -1}, "keep_s"),
    ]
    for items, options, message in refused:
        with pytest.raises(embedmq.InvalidRequest, match=message):
            await either.publish_all("minilm", items, **options)
    assert worker.requests == []
    nothing = await either.publish_all("minilm", [], keep_s=0)
    assert (nothing.records, nothing.items, list(nothing.ids)) == (0, 0, [])


async def test_a_client_without_redis_publishes_to_a_topic_that_it_is_told(
    stack: Stack, prefix: str, worker: StandIn
) -> None:
    """It needs neither the catalogue nor replies."""
    async with embedmq.Client(stack.kafka, prefix=prefix) as mq:
        published = await mq.publish_all("minilm", TEXTS[:5], keep_s=0, topic=f"{prefix}.minilm.interactive")
    (request,) = await worker.wait_for(1)
    assert (request["items"], published.items) == (TEXTS[:5], 5)
