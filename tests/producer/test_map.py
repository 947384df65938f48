"""`map`: vectors come out while items still come in, with either client."""

from __future__ import annotations

import asyncio
import itertools
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager
from typing import Any

import embedmq
import pytest
from embedmq_local.stack import Stack

from tests.producer.conftest import Awaited
from tests.producer.standin import Answer, Request, StandIn, embedded, failed, vector

Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
TEXTS = [f"{n % 10}" * (n % 7 + 1) for n in range(500)]
END = object()


async def from_thread(client: embedmq.SyncClient, items: Any, **options: Any) -> AsyncGenerator[Any, None]:
    """What a SyncClient maps, in one thread that does nothing else."""
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:
        values = await loop.run_in_executor(thread, lambda: client.map("minilm", items, **options))
        try:
            while (value := await loop.run_in_executor(thread, next, values, END)) is not END:
                yield value
        finally:
            await loop.run_in_executor(thread, values.close)


@asynccontextmanager
async def mapped(client: Any, items: Any, **options: Any) -> AsyncIterator[Any]:
    """A map by either client, closed at the end."""
    values = (
        from_thread(client.client, items, **options)
        if isinstance(client, Awaited)
        else client.map("minilm", items, **options)
    )
    async with aclosing(values):
        yield values


async def collect(client: Any, items: Any, **options: Any) -> list[Any]:
    """All that comes out."""
    async with mapped(client, items, **options) as values:
        return [value async for value in values]


class Endless:
    """A source that counts what was taken from it, and knows whether it was closed, and who asked."""

    def __init__(self) -> None:
        self.taken = 0
        self.closed = False
        self.threads: set[int] = set()

    def __iter__(self) -> Iterator[str]:
        try:
            for n in itertools.count():
                self.taken += 1
                self.threads.add(threading.get_ident())
                yield TEXTS[n % len(TEXTS)]
        finally:
            self.closed = True

    async def slowly(self) -> AsyncIterator[str]:
        """The same, asynchronous, with a turn of the loop before each item and at its end."""
        try:
            for text in self:
                await asyncio.sleep(0)
                yield text
        finally:
            await asyncio.sleep(0)
            self.closed = True


async def each(items: Any) -> AsyncIterator[Any]:
    """An async source that never waits."""
    for item in items:
        yield item


@pytest.mark.usefixtures("one_slice")
async def test_every_item_comes_out_once_and_in_order(either: Any, worker: StandIn) -> None:
    """From lists, iterators and async generators, also where answers come in another order. Records are well filled,
    and go to the bulk lane without a time limit.
    """
    for source in (list, iter, each):
        open_: list[tuple[Request, Answer]] = []
        worker.answer = lambda request, open_=open_: open_.append((request, embedded(request)))  # type: ignore[misc]
        before = len(worker.requests)
        call = asyncio.create_task(collect(either, source(TEXTS), max_in_flight=800))
        await worker.wait_for(before + 5)
        await worker.reply(*reversed(open_))

        assert [each.dense.tolist() for each in await call] == [vector(text) for text in TEXTS]
    assert {record.topic for record in worker.records} == {f"{worker.prefix}.minilm.bulk"}
    assert [len(request["items"]) for request in worker.requests] == [100] * 15
    assert not any("deadline_unix_ms" in request for request in worker.requests)


@pytest.mark.usefixtures("one_slice")
async def test_without_order_what_is_answered_comes_out(either: Any, worker: StandIn) -> None:
    """The first record is held back: what is behind it does not wait. Ids of items travel with them, to the worker
    and back; items with and without may be mixed.
    """
    worker.answer = lambda request: None if "0" in request["items"] else embedded(request)
    pairs: list[Any] = [(f"doc-{n}", f"{n}") for n in range(32)]
    pairs[20] = "20"
    async with mapped(either, pairs, ordered=False, max_in_flight=32) as values:
        first = [(await anext(values)).item_id for _ in range(28)]
        held = next(request for request in worker.requests if "0" in request["items"])
        await worker.reply((held, embedded(held)))
        last = [value.item_id async for value in values]

    assert last == held["item_ids"] == [f"doc-{n}" for n in range(4)]
    assert set(first) == {f"doc-{n}" for n in range(4, 32) if n != 20} | {None}


async def test_the_source_is_asked_only_while_there_is_room(either: Any) -> None:
    """Of an endless source at most `max_in_flight` items have been taken and not come out, at any time; when the
    consumer pauses, so does the source. A SyncClient asks it in the consumer's thread, as a cursor wants it.
    """
    for asynchronous in (False, True):
        source = Endless()
        async with mapped(either, source.slowly() if asynchronous else source, max_in_flight=64) as values:
            for out in range(300):
                assert source.taken - out <= 64
                assert (await anext(values)).tokens == len(TEXTS[out])
        assert source.closed
        if not asynchronous:
            assert (source.threads == {threading.get_ident()}) == isinstance(either, embedmq.Client)
            assert len(source.threads) == 1


async def test_what_has_arrived_does_not_wait_for_a_slow_source(either: Any, worker: StandIn) -> None:
    """Three items come out while the source makes us wait for the fourth, however long."""
    wait = asyncio.Event()

    async def slow() -> AsyncIterator[str]:
        yield "a"
        yield "b"
        while not worker.requests:  # noqa: ASYNC110  # of another loop, where the client has one
            await asyncio.sleep(0.01)
        yield "c"
        await wait.wait()

    async with mapped(either, slow()) as values:
        assert [(await anext(values)).dense.tolist() for _ in range(3)] == [vector(text) for text in "abc"]
    assert [request["items"] for request in worker.requests] == [["a", "b"], ["c"]]


async def test_a_slow_worker_gets_full_records_of_a_source_that_gives_one_item_a_turn(
    mq: embedmq.Client, worker: StandIn
) -> None:
    """Records that are not full are few: once 16 are on their way, what arrives gathers until one is answered."""
    worker.answer = lambda _: None
    source = Endless()
    async with mapped(mq, source.slowly(), max_in_flight=1_024) as values:
        first = asyncio.create_task(anext(values))
        requests = await worker.wait_for(20)
        first.cancel()
        await asyncio.wait({first})

    sizes = [len(request["items"]) for request in requests]
    assert sum(size < 128 for size in sizes) <= 16
    assert max(sizes) == 128


async def test_leaving_early_cancels_what_is_on_its_way(either: Any, worker: StandIn, until: Until) -> None:
    """By closing it, each request is marked for the workers, and the source is closed."""
    worker.answer = lambda _: None
    source = Endless()
    async with mapped(either, source, max_in_flight=64) as values:
        first = asyncio.create_task(anext(values))
        requests = await worker.wait_for(8)
        await worker.reply((requests[0], embedded(requests[0])))
        await first

    assert source.closed
    open_ = [request["id"] for request in worker.requests[1:]]

    async def marked() -> bool:
        return await worker.redis.exists(*(f"{{{worker.prefix}:result:{id}}}:cancel" for id in open_)) == len(open_)

    await until(marked)


async def test_a_map_ends_with_its_loop_and_with_its_task(mq: embedmq.Client, worker: StandIn, until: Until) -> None:
    """A `break`, an exception in the loop, and a cancelled task leave nothing running."""
    tasks = len(asyncio.all_tasks())
    sources = [Endless() for _ in range(3)]

    async def leave(source: Endless) -> None:
        async for _ in mq.map("minilm", source):
            break

    async def fail(source: Endless) -> None:
        async for _ in mq.map("minilm", source):
            raise ValueError("mine")

    await leave(sources[0])
    with pytest.raises(ValueError, match="mine"):
        await fail(sources[1])
    worker.answer = lambda _: None
    seen = len(worker.requests)
    waiting = asyncio.create_task(collect(mq, sources[2]))
    await worker.wait_for(seen + 1)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()

    async def quiet() -> bool:
        return all(source.closed for source in sources) and len(asyncio.all_tasks()) <= tasks + 2  # Kafka's and Redis's

    await until(quiet)


async def test_a_map_that_a_time_limit_ended_does_not_look_complete(mq: embedmq.Client, worker: StandIn) -> None:
    """Who waits for the next item for a while, and goes on, is told."""
    worker.answer = lambda _: None
    async with aclosing(mq.map("minilm", TEXTS)) as rows:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(rows), 0.05)
        for _ in range(2):
            with pytest.raises(embedmq.RequestCancelled, match="this map has ended"):
                await anext(rows)


async def test_an_item_that_is_none_is_named_by_its_number(either: Any, worker: StandIn) -> None:
    """What came before it comes out first; with `return_exceptions` it is an exception in its place, and the rest
    goes on.
    """
    await worker.announce(limits={"max_request_bytes": 4_096})
    bad: list[tuple[Any, str]] = [
        (7, "items[2]: a value of type int"),
        ([], "items[2]: no token ids"),
        (("doc-2", b"x"), "items[2] (doc-2): a value of type bytes"),
        ("\ud800", "items[2]: a lone surrogate"),
        ("x" * 5_000, "items[2]: 5005 bytes; one request holds"),
    ]
    for item, message in bad:
        items = ["a", "b", item, "c"]
        async with mapped(either, items) as values:
            assert [(await anext(values)).tokens for _ in range(2)] == [1, 1]
            with pytest.raises(embedmq.InvalidRequest, match=re.escape(message)):
                await anext(values)

        found = await collect(either, items, return_exceptions=True)
        assert [type(value).__name__ for value in found] == ["Embedding", "Embedding", "InvalidRequest", "Embedding"]
        assert (found[2].index, found[2].item_id) == (2, "doc-2" if isinstance(item, tuple) else None)


async def test_an_item_that_failed_is_raised_or_returned_in_its_place(either: Any, worker: StandIn) -> None:
    """An item alone, and all items of a request that failed as a whole: each is named, with number and id."""

    def answer(request: Request) -> Answer:
        if "6" in request["items"]:
            return failed(request, "model_unavailable", retryable=True)
        failures = [{"index": 1, "code": "too_long", "message": "9 tokens"}] if "3" in request["items"] else []
        return embedded(request, failures=failures)

    worker.answer = answer
    pairs = [(f"doc-{n}", f"{n}") for n in range(10)]
    found = await collect(either, pairs, max_in_flight=16, return_exceptions=True)

    assert [n for n, value in enumerate(found) if isinstance(value, embedmq.Embedding)] == [0, 1, 2, 4, 5, 8, 9]
    assert [(found[n].index, found[n].item_id, found[n].code) for n in (3, 6, 7)] == [
        (3, "doc-3", "too_long"),
        (6, "doc-6", "model_unavailable"),
        (7, "doc-7", "model_unavailable"),
    ]
    assert "items[3] (doc-3)" in str(found[3])
    assert found[7].retryable
    async with mapped(either, pairs, max_in_flight=16) as values:
        assert [(await anext(values)).item_id for _ in range(3)] == ["doc-0", "doc-1", "doc-2"]
        with pytest.raises(embedmq.RequestFailed, match=r"items\[3\] \(doc-3\).*too_long: 9 tokens"):
            await anext(values)


class Broken(Exception):  # a source's own
    """What a source raises."""


async def test_an_error_of_the_source_comes_after_what_it_gave(either: Any) -> None:
    """As it is, once what came before it has come out."""
    broken = Broken("line 4")

    def rows() -> Iterator[str]:
        yield from ["a", "b", "c"]
        raise broken

    for source in (rows(), each(rows())):
        async with mapped(either, source) as values:
            assert [(await anext(values)).tokens for _ in range(3)] == [1, 1, 1]
            with pytest.raises(Broken) as raised:
                await anext(values)
        assert raised.value is broken


async def test_one_map_is_by_one_revision(either: Any, worker: StandIn) -> None:
    """Vectors of two revisions cannot be compared, so the map ends, also where exceptions are returned."""
    worker.answer = lambda request: embedded(request, revision="r1" if "0" in request["items"] else "r2")
    async with mapped(either, ["0", "1"], max_in_flight=2, return_exceptions=True) as values:
        await anext(values)
        with pytest.raises(embedmq.RequestFailed, match=r"revision r2.*r1.*cannot be compared"):
            await anext(values)


async def test_what_cannot_be_mapped_is_refused_before_anything_is_sent(either: Any, worker: StandIn) -> None:
    """A text or a mapping would be taken apart; options are looked at before the first item."""
    refused: list[tuple[Any, dict[str, Any], str]] = [
        ("a cat", {}, "a str: pass an iterable"),
        ({"a": "a cat"}, {}, r"a mapping: pass its \.items\(\)"),
        (7, {}, "a value of type int: pass an iterable"),
        (["a"], {"max_in_flight": 0}, "max_in_flight: 0"),
        (["a"], {"item_ids": ["x"]}, "item_ids: give each item its own"),
        (["a"], {"dtype": "float8"}, "dtype"),
        (["a"], {"timeout_s": -1}, "timeout_s"),
    ]
    for items, options, message in refused:
        with pytest.raises(embedmq.InvalidRequest, match=message):
            await collect(either, items, **options)
    assert worker.requests == []
    assert await collect(either, []) == []
    assert await collect(either, each([])) == []


async def test_a_map_asks_for_what_its_client_does_by_default(stack: Stack, prefix: str, worker: StandIn) -> None:
    """What a call says wins; `publish_all` has more to take from it."""
    defaults: Any = {"dtype": "float16", "tenant": "acme", "lane": "interactive", "keep_s": 9}
    async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix, defaults=defaults) as mq:
        _ = await collect(mq, ["a"])
        _ = await collect(mq, ["a"], tenant="else", lane="bulk")
        _ = await mq.publish_all("minilm", ["a"])

    found = [(r["dtype"], r["tenant"], r.get("keep_s")) for r in await worker.wait_for(3)]
    assert found == [("float16", "acme", None), ("float16", "else", None), ("float16", "acme", 9)]
    assert [record.topic.split(".")[-1] for record in worker.records] == ["interactive", "bulk", "interactive"]


async def test_a_client_without_redis_cannot_map(stack: Stack, prefix: str) -> None:
    """It could not hear the answers."""
    async with embedmq.Client(stack.kafka, prefix=prefix) as mq:
        with pytest.raises(embedmq.InvalidRequest, match="Redis"):
            mq.map("minilm", ["a"])


async def test_a_synchronous_source_leaves_the_loop_its_turn(mq: embedmq.Client) -> None:
    """However long it goes on: what else runs in the loop is not held up for longer than a slice."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    def busy() -> Iterator[str]:
        for _ in range(50):
            until = asyncio.get_running_loop().time() + 0.001
            while asyncio.get_running_loop().time() < until:
                pass
            seen.append(turns)
            yield "a"

    seen: list[int] = []
    counting = asyncio.create_task(count())
    assert len(await collect(mq, busy())) == 50
    counting.cancel()
    assert len(set(seen)) >= 5


async def test_a_hundred_thousand_items_need_the_memory_of_a_few(mq: embedmq.Client, worker: StandIn) -> None:
    """Neither items nor tasks pile up, however many have gone through."""
    zeros = bytes(16 * 128)

    def answer(request: Request) -> Answer:
        count = len(request["items"])
        dense = {"dtype": "float32", "shape": [count, 4], "data": zeros[: 16 * count]}
        return embedded({**request, "items": []}, dense=dense, count=count, tokens=[1] * count)

    worker.answer = answer
    taken = out = most_tasks = 0

    def texts() -> Iterator[str]:
        nonlocal taken
        for taken in range(1, 100_001):  # noqa: B007  # counted for below
            yield "a text"

    async for _ in mq.map("minilm", texts()):
        if out % 1_024 == 0:
            assert taken - out <= 1_024
            most_tasks = max(most_tasks, len(asyncio.all_tasks()))
        out += 1
    assert out == 100_000
    assert most_tasks < 60
