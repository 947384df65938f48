"""Kafka or Redis away: every wait ends, in bounded time, in `Unavailable`."""

from __future__ import annotations

import asyncio
import signal
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path

import embedmq
import pytest
from embedmq.kafka import connection_options
from embedmq.settings import Setup
from embedmq_local.redis_server import RedisServer
from embedmq_local.stack import Stack
from embedmq_schemas.requests import Lane
from redis.asyncio import Redis

from tests.producer.conftest import NewClient
from tests.producer.standin import StandIn, create_topics, embedded, vector

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
        assert time.monotonic() - before < 10, "what is allowed where nothing is said"


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


async def published(mq: embedmq.Client, lane: Lane) -> bool:
    """Whether Kafka has taken a request in the little time that it is given."""
    try:
        return bool(await mq.publish("minilm", "a", keep_s=0, lane=lane))
    except embedmq.Unavailable:
        return False


async def test_kafka_that_stops_answering_is_unavailable(stack: Stack, prefix: str, until: Until) -> None:
    """A request that Kafka does not acknowledge fails after `publish_timeout_s`, and the client closes all the same.

    When Kafka goes on, so does a new client.
    """
    await create_topics(stack.kafka, [f"{prefix}.minilm.{lane}" for lane in ("interactive", "bulk")])
    process = stack.brokers[0].process
    assert process is not None
    try:
        async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix, publish_timeout_s=0.5) as mq:
            for lane in ("bulk", "interactive"):
                await until(partial(published, mq, lane))
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
        embedmq.Client(stack.kafka, own_redis.url, prefix=prefix, redis_timeout_s=1) as mq,
    ):
        await mq.embed("minilm", "a")
        worker.answer = lambda _: None
        waiting = asyncio.create_task(mq.embed("minilm", "b"))
        await worker.wait_for(2)
        process = own_redis.process
        assert process is not None
        process.signal(signal.SIGKILL)
        process.wait(60)

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
                return len(await mq.embed("minilm", "d")) == 1
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

    assert (await asyncio.wait_for(waiting, 60)).dense[0, 1] == ord("a")
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


async def test_a_redis_that_hangs_holds_up_no_caller_for_longer_than_it_allows(
    stack: Stack, own_redis: RedisServer, prefix: str, new_either: NewClient
) -> None:
    """Neither the first call, which has to ask where the model is served, nor the wait for a kept result."""
    process = own_redis.process
    assert process is not None
    async with new_either(redis=own_redis.url) as mq:
        process.signal(signal.SIGSTOP)
        try:
            before = time.monotonic()
            outcomes = await asyncio.gather(
                mq.embed("minilm", "a", timeout_s=1),
                mq.score("minilm", "q", ["a"], timeout_s=1),
                mq.result("x", wait_s=1),
                return_exceptions=True,
            )
            assert time.monotonic() - before < 20, "less than Redis may be away"
        finally:
            process.signal(signal.SIGCONT)
    ends = [embedmq.DeadlineExceeded, embedmq.DeadlineExceeded, embedmq.Unavailable]
    assert [type(outcome) for outcome in outcomes] == ends


async def test_each_request_has_the_same_time_to_get_into_kafka(stack: Stack, prefix: str) -> None:
    """One that came later is not given up with the one before it, of whose batch it had to wait for the end."""
    await create_topics(stack.kafka, [f"{prefix}.minilm.bulk"])
    process = stack.brokers[0].process
    assert process is not None
    async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix, publish_timeout_s=2) as mq:
        await mq.publish("minilm", "a", keep_s=0, tenant="t")
        try:
            process.signal(signal.SIGSTOP)
            first = asyncio.create_task(mq.publish("minilm", "b", keep_s=0, tenant="t"))
            await asyncio.wait({first}, timeout=1.5)
            began_s = time.monotonic()
            second = asyncio.create_task(mq.publish("minilm", "c", keep_s=0, tenant="t"))
            with pytest.raises(embedmq.Unavailable, match="acknowledge"):
                await first
        finally:
            process.signal(signal.SIGCONT)
        try:
            assert await second
        except embedmq.Unavailable:  # where even the machine stood still
            assert time.monotonic() - began_s >= 2


async def test_one_client_survives_restarts_of_kafka_and_redis(
    stack: Stack, own_redis: RedisServer, prefix: str, until: Until
) -> None:
    """What waited for its answer gets it, and the next call is as any other."""
    broker = stack.brokers[0]
    async with (
        StandIn(stack.kafka, own_redis.url, prefix) as worker,
        embedmq.Client(stack.kafka, own_redis.url, prefix=prefix, resend_grace_s=0.3) as mq,
    ):
        worker.answer = lambda _: None
        waiting = [asyncio.create_task(mq.embed("minilm", text, timeout_s=None)) for text in "ab"]
        await worker.wait_for(1)
        own_redis.stop(kill=True)
        await asyncio.to_thread(broker.stop, kill=True)
        own_redis.start()
        await asyncio.to_thread(broker.start)
        worker.answer = embedded

        assert [(await call).dense[0].tolist() for call in waiting] == [vector("a"), vector("b")]
        assert len(await mq.embed("minilm", "c")) == 1


async def test_a_connection_is_made_as_the_settings_say(stack: Stack) -> None:
    """With TLS where they say so: what would be a plain request is a TLS handshake."""
    first_bytes: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first_bytes.append(await reader.read(1))
        writer.close()

    async with await asyncio.start_server(note, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for kafka, redis in ((address, None), (stack.kafka, f"rediss://{address}")):
            with pytest.raises(embedmq.Unavailable):
                async with embedmq.Client(kafka, redis, connect_timeout_s=2, kafka_tls=redis is None):
                    pass
    assert set(first_bytes) == {b"\x16"}


async def test_redis_is_told_who_we_are(stack: Stack, own_redis: RedisServer) -> None:
    """On every connection, by name and password of its ACL."""
    async with Redis.from_url(own_redis.url, single_connection_client=True) as redis:
        await redis.acl_setuser("me", enabled=True, passwords=["+s3cret"], keys=["*"], commands=["+@all"])
        async with embedmq.Client(stack.kafka, own_redis.url, redis_username="me", redis_password="s3cret") as mq:
            assert await mq.models() == []
            here, clients = await redis.client_id(), await redis.client_list()
    assert {client["user"] for client in clients if client["id"] != str(here)} == {"me"}


def test_kafka_is_told_who_we_are() -> None:
    """By SASL, over TLS that checks the other side, as the settings say."""
    login: dict[str, object] = {
        "kafka_sasl_mechanism": "SCRAM-SHA-512",
        "kafka_sasl_username": "me",
        "kafka_sasl_password": "s3cret",
    }
    options = connection_options(Setup.of("a:1", None, {**login, "kafka_tls": True}))

    assert options["security_protocol"] == "SASL_SSL"
    assert options["ssl_context"].verify_mode is ssl.CERT_REQUIRED
    assert [options[f"sasl_{key}"] for key in ("mechanism", "plain_username", "plain_password")] == [*login.values()]
