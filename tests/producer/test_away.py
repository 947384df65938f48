"""Kafka or Redis away: every wait ends, in bounded time, in `Unavailable`."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import embedmq
import pytest
from embedmq_local.redis_server import RedisServer
from embedmq_local.stack import Stack

from tests.producer.standin import StandIn, create_topics, embedded

Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


@pytest.fixture
def silent() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def closed() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


async def test_nothing_listening_is_unavailable(stack: Stack, closed: str) -> None:
    """For Kafka and for Redis, naming the address."""
    with pytest.raises(embedmq.Unavailable, match=f"Kafka at {closed}"):
        async with embedmq.Client(closed, stack.redis):
            pass
    with pytest.raises(embedmq.Unavailable, match=f"Redis at redis://{closed}"):
        async with embedmq.Client(stack.kafka, f"redis://{closed}"):
            pass


async def test_nobody_answering_is_unavailable_in_bounded_time(stack: Stack, silent: str) -> None:
    """A connection that is taken and never served ends with `connect_timeout_s`."""
    for kafka, redis in ((silent, stack.redis), (stack.kafka, f"redis://{silent}")):
        before = time.monotonic()
        with pytest.raises(embedmq.Unavailable):
            async with embedmq.Client(kafka, redis, connect_timeout_s=0.5):
                pass
        assert time.monotonic() - before < 6


def test_the_same_for_a_client_without_a_loop(closed: str) -> None:
    """And its thread is gone."""
    with pytest.raises(embedmq.Unavailable), embedmq.SyncClient(closed):
        pass


async def test_a_wrong_password_is_not_being_let_in(tmp_path: Path, own_redis: RedisServer, stack: Stack) -> None:
    """Which is said as such, without the password."""
    with pytest.raises(embedmq.Unavailable, match="does not let us in") as error:
        async with embedmq.Client(stack.kafka, own_redis.url, redis_username="me", redis_password="s3cret"):
            pass
    assert "s3cret" not in str(error.value)


async def test_kafka_that_stops_answering_is_unavailable(stack: Stack, prefix: str) -> None:
    """A request that Kafka does not acknowledge fails after `publish_timeout_s`, and the client closes all the same.

    When Kafka goes on, so does a new client.
    """
    await create_topics(stack.kafka, [f"{prefix}.minilm.{lane}" for lane in ("interactive", "bulk")])
    process = stack.brokers[0].process
    assert process is not None
    try:
        async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix, publish_timeout_s=0.5) as mq:
            await mq.publish("minilm", "a", keep_s=0)
            await mq.publish("minilm", "a", keep_s=0, lane="interactive")
            process.signal(signal.SIGSTOP)
            calls = (mq.embed("minilm", "b"), mq.publish("minilm", "b", keep_s=0), mq.submit("minilm", "b"))
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(outcome, embedmq.Unavailable)
                assert "acknowledge" in str(outcome)
    finally:
        process.signal(signal.SIGCONT)
    async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix) as mq:
        assert await mq.publish("minilm", "c", keep_s=0)
    leftovers = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert leftovers == []


async def test_redis_that_goes_away_ends_the_waits(
    stack: Stack, prefix: str, own_redis: RedisServer, until: Until
) -> None:
    """After `redis_timeout_s`; calls made later are refused at once, until Redis is back."""
    async with (
        StandIn(stack.kafka, own_redis.url, prefix) as worker,
        embedmq.Client(stack.kafka, own_redis.url, prefix=prefix, redis_timeout_s=0.3) as mq,
    ):
        await mq.embed("minilm", "a")
        worker.answer = lambda _: None
        waiting = asyncio.create_task(mq.embed("minilm", "b"))
        await worker.wait_for(2)
        process = own_redis.process
        assert process is not None
        process.signal(signal.SIGKILL)
        process.wait(10)

        with pytest.raises(embedmq.Unavailable, match="Redis"):
            await waiting
        with pytest.raises(embedmq.Unavailable, match="Redis"):
            await mq.embed("minilm", "c")
        with pytest.raises(embedmq.Unavailable, match="Redis"):
            await mq.result("x", wait_s=0)

        worker.answer = embedded
        own_redis.start()

        async def answered() -> bool:
            try:
                return len(await mq.embed("minilm", "d", timeout_s=5)) == 1
            except embedmq.Unavailable:
                return False

        await until(answered)


async def test_the_reply_stream_survives_a_lost_connection(mq: embedmq.Client, worker: StandIn, until: Until) -> None:
    """An answer that was written while the connection was gone is read when it is back."""
    worker.answer = lambda _: None
    waiting = asyncio.create_task(mq.embed("minilm", "a"))
    (request,) = await worker.wait_for(1)

    async def readers() -> list[str]:
        clients = await worker.redis.client_list()
        return [client["id"] for client in clients if client["cmd"] == "xread"]

    async def reads() -> bool:
        return bool(await readers())

    await until(reads)
    for reader in await readers():
        await worker.redis.client_kill_filter(_id=reader)
    await worker.reply((request, embedded(request)))

    assert (await asyncio.wait_for(waiting, 10)).dense[0, 1] == ord("a")
    worker.answer = embedded
    assert len(await mq.embed("minilm", "b")) == 1


async def test_what_was_read_is_trimmed_and_goes_with_the_client(
    stack: Stack, prefix: str, worker: StandIn, until: Until
) -> None:
    """The stream does not grow with what was answered, and is removed when the client closes."""
    async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix) as mq:
        for _ in range(30):
            await mq.embed("minilm", "a")
        stream = f"{prefix}:replies:{worker.requests[0]['reply']['client']}"

        async def short() -> bool:
            await mq.embed("minilm", "a")
            return int(await worker.redis.xlen(stream)) < 15

        await until(short)
    assert not await worker.redis.exists(stream)
