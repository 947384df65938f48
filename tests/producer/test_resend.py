"""Redis loses answers: what had been sent is sent once more, and every wait ends."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import embedmq
import pytest
from embedmq import patience, reply_stream
from embedmq_local.redis_server import RedisServer
from embedmq_local.stack import Stack
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.producer.standin import StandIn, embedded, failed, vector

Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
LOST = "lost the connection to Redis for replies"


@pytest.fixture
async def standin(stack: Stack, own_redis: RedisServer, prefix: str) -> AsyncIterator[StandIn]:
    """A stand-in that leaves every request open, on a Redis that may be stopped."""
    async with StandIn(stack.kafka, own_redis.url, prefix) as worker:
        worker.answer = lambda _: None
        yield worker


@pytest.fixture
def client(stack: Stack, own_redis: RedisServer, prefix: str) -> Callable[..., embedmq.Client]:
    """A client on that Redis, with less patience than by default."""

    def make(**settings: Any) -> embedmq.Client:
        chosen: dict[str, Any] = {"resend_grace_s": 0.3, **settings}
        return embedmq.Client(stack.kafka, own_redis.url, prefix=prefix, **chosen)

    return make


@pytest.fixture
def losses(caplog: pytest.LogCaptureFixture) -> Callable[[], int]:
    """How often the client has lost its connection."""
    return lambda: sum(message.startswith(LOST) for message in caplog.messages)


@pytest.fixture
def lost(losses: Callable[[], int], until: Until) -> Callable[[], Awaitable[None]]:
    """Wait until the client has noticed the loss of its connection."""

    async def noticed() -> bool:
        return losses() > 0

    return lambda: until(noticed)


@pytest.fixture
def kill(standin: StandIn, losses: Callable[[], int], until: Until) -> Callable[[int], Awaitable[None]]:
    """Have Redis end the connection that waits for replies, until that has happened so many times in all."""

    def make(times: int) -> Awaitable[None]:
        async def struck() -> bool:
            for client in await standin.redis.client_list():
                if client["cmd"] == "xread":
                    await standin.redis.client_kill_filter(_id=client["id"])
            return losses() >= times

        return until(struck)

    return make


@pytest.fixture
def rounds(caplog: pytest.LogCaptureFixture) -> Callable[[], list[int]]:
    """How many requests were sent again, each time."""
    found = re.compile(r"sent (\d+) requests again")
    return lambda: [int(match[1]) for message in caplog.messages if (match := found.match(message))]


def ask(mq: embedmq.Client, *ids: str, timeout_s: float | None = 90) -> list[asyncio.Task[embedmq.Embeddings]]:
    """Ask for the vector of each id."""
    return [asyncio.create_task(mq.embed("minilm", id, id=id, timeout_s=timeout_s)) for id in ids]


def sent(worker: StandIn) -> Counter[str]:
    """How often each id has come through Kafka."""
    return Counter(request["id"] for request in worker.requests)


async def test_what_was_unanswered_when_redis_lost_its_data_is_sent_once_more(
    client: Callable[..., embedmq.Client],
    standin: StandIn,
    own_redis: RedisServer,
    lost: Callable[[], Awaitable[None]],
    rounds: Callable[[], list[int]],
    until: Until,
) -> None:
    """The same id and the same bytes, and the callers get their vectors; so is what was sent while Redis was away,
    since its answer may have gone to one that is no more.
    """
    async with client() as mq:
        early = ask(mq, "a", "b", "c")
        await standin.wait_for(3)
        own_redis.stop(kill=True)
        await lost()
        (late,) = ask(mq, "late")
        await standin.wait_for(4)
        own_redis.start()

        async def sent_again() -> bool:
            return bool(rounds())

        await until(sent_again)
        await standin.wait_for(8)
        assert rounds() == [4]
        assert sent(standin) == {"a": 2, "b": 2, "c": 2, "late": 2}
        for first in standin.records[:4]:
            (second,) = (record for record in standin.records[4:] if record.value == first.value)
            assert (second.headers, second.key) == (first.headers, first.key)
        await standin.reply(*((request, embedded(request)) for request in standin.requests[3:]))
        for task in [*early, late]:
            assert len(await task) == 1


async def test_a_record_that_calls_share_is_sent_once_more_for_all_of_them(
    client: Callable[..., embedmq.Client], standin: StandIn, kill: Callable[[int], Awaitable[None]]
) -> None:
    """The same record, for those who wait still; so is one that a call has for itself after they failed together."""
    async with client() as mq:
        gone, *calls = [asyncio.create_task(mq.embed("minilm", text)) for text in "abc"]
        (shared,) = await standin.wait_for(1)
        gone.cancel()
        await kill(1)
        await standin.wait_for(2)
        assert sent(standin) == {shared["id"]: 2}

        await standin.reply((shared, failed(shared, "processing_failed")))
        alone = (await standin.wait_for(4))[2:]
        await kill(2)
        await standin.wait_for(6)
        assert sent(standin) == {request["id"]: 2 for request in (shared, *alone)}
        await standin.reply(*((request, embedded(request)) for request in alone))
        assert [(await call).dense[0].tolist() for call in calls] == [vector("b"), vector("c")]


async def test_a_storm_of_lost_connections_sends_nothing_a_third_time(
    client: Callable[..., embedmq.Client], standin: StandIn, kill: Callable[[int], Awaitable[None]]
) -> None:
    """However often the connection breaks, before and after."""

    async with client() as mq:
        calls = ask(mq, "a", "b")
        await standin.wait_for(2)
        await kill(5)
        await standin.wait_for(4)

        calls += ask(mq, "last")  # is sent again after all that came before it
        await standin.wait_for(5)
        await kill(8)
        await standin.wait_for(6)

        assert sent(standin) == {"a": 2, "b": 2, "last": 2}
        await standin.reply(*((request, embedded(request)) for request in standin.requests))
        assert [len(await call) for call in calls] == [1, 1, 1]


async def test_slowness_is_no_reason_to_send_again(client: Callable[..., embedmq.Client], standin: StandIn) -> None:
    """While the connection stands nothing is sent twice, however long an answer takes."""
    async with client(resend_grace_s=0.01) as mq:
        (call,) = ask(mq, "slow")
        await standin.wait_for(1)
        await asyncio.wait({call}, timeout=0.5)
        assert sent(standin) == {"slow": 1}
        await standin.reply(*((request, embedded(request)) for request in standin.requests))
        assert len(await call) == 1


async def test_what_ended_meanwhile_is_left_alone(
    client: Callable[..., embedmq.Client], standin: StandIn, kill: Callable[[int], Awaitable[None]]
) -> None:
    """By its time limit, by being cancelled, by an answer that survived."""
    async with client(resend_grace_s=6) as mq:
        (late,), (off, answered, open_) = ask(mq, "late", timeout_s=2), ask(mq, "off", "answered", "open")
        requests = {request["id"]: request for request in await standin.wait_for(4)}
        await kill(1)
        assert await mq.cancel("off") == "cancelled"
        await standin.reply((requests["answered"], embedded(requests["answered"])))

        await standin.wait_for(5)
        assert sent(standin) == {"late": 1, "off": 1, "answered": 1, "open": 2}
        await standin.reply((requests["open"], embedded(requests["open"])))
        outcomes = await asyncio.gather(late, off, answered, open_, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [
            embedmq.DeadlineExceeded,
            embedmq.RequestCancelled,
            embedmq.Embeddings,
            embedmq.Embeddings,
        ]


async def test_not_all_is_sent_again_at_once(
    client: Callable[..., embedmq.Client], standin: StandIn, kill: Callable[[int], Awaitable[None]]
) -> None:
    """`resend_per_s` a second, in the order in which it was sent."""
    ids = [f"{n:02}" for n in range(20)]
    async with client(resend_per_s=40) as mq:
        calls = ask(mq, *ids)
        await standin.wait_for(20)
        await kill(1)

        await standin.wait_for(40)
        again = sorted(record.timestamp for record in standin.records[20:])
        assert again[-1] - again[0] >= 19 * 25 * 0.8  # ms; timers of a loop are a little early
        await standin.reply(*((request, embedded(request)) for request in standin.requests[:20]))
        assert [len(r) for r in await asyncio.gather(*calls)] == [1] * 20


async def test_a_kafka_that_takes_nothing_then_ends_no_wait(
    stack: Stack,
    client: Callable[..., embedmq.Client],
    standin: StandIn,
    kill: Callable[[int], Awaitable[None]],
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first sending was acknowledged: its answer may come still."""
    process = stack.brokers[0].process
    assert process is not None
    async with client(publish_timeout_s=2) as mq:
        (call,) = ask(mq, "a")
        (request,) = await standin.wait_for(1)
        try:
            process.signal(signal.SIGSTOP)
            await kill(1)

            async def refused() -> bool:
                return any("did not take 1 requests" in message for message in caplog.messages)

            await until(refused)
        finally:
            process.signal(signal.SIGCONT)
        assert not call.done()
        await standin.reply((request, embedded(request)))
        assert len(await call) == 1


async def test_what_kafka_did_not_take_the_second_time_is_sent_until_it_has_it(
    stack: Stack,
    client: Callable[..., embedmq.Client],
    standin: StandIn,
    kill: Callable[[int], Awaitable[None]],
    rounds: Callable[[], list[int]],
    until: Until,
) -> None:
    """A call without time limit ends well after Redis and Kafka failed together, also when it had to queue behind
    others that Kafka did not take; once Kafka has it twice, nothing more is sent.
    """
    process = stack.brokers[0].process
    assert process is not None
    others: list[asyncio.Task[embedmq.Embeddings]] = []
    async with client(publish_timeout_s=1.5) as mq:
        call = asyncio.create_task(mq.embed("minilm", "a", id="a", tenant="t", timeout_s=None))
        await standin.wait_for(1)
        try:
            process.signal(signal.SIGSTOP)
            await kill(1)

            async def tried_thrice() -> bool:
                others.append(asyncio.create_task(mq.embed("minilm", "b", tenant="t", timeout_s=1)))
                await asyncio.sleep(0.02)
                return len(rounds()) >= 3

            await until(tried_thrice)
            assert not call.done()
        finally:
            process.signal(signal.SIGCONT)
        standin.answer = embedded
        assert len(await asyncio.wait_for(call, 60)) == 1
        await asyncio.wait(others)
        before = len(rounds())
        assert len(await mq.embed("minilm", "c")) == 1
        assert len(rounds()) == before
    await asyncio.gather(*others, return_exceptions=True)


async def test_what_kafka_did_not_have_yet_is_not_sent_again(
    stack: Stack,
    client: Callable[..., embedmq.Client],
    standin: StandIn,
    kill: Callable[[int], Awaitable[None]],
    until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When Redis was lost it waited for Kafka here, and gets there yet."""
    process = stack.brokers[0].process
    assert process is not None
    async with client() as mq:
        (early,) = ask(mq, "early")
        await standin.wait_for(1)
        try:
            process.signal(signal.SIGSTOP)
            late = ask(mq, "a", "b", "c")
            await kill(1)

            async def sent_again() -> bool:
                return any("sent 1 requests again" in message for message in caplog.messages)

            await until(sent_again)
        finally:
            process.signal(signal.SIGCONT)
        await standin.wait_for(5)
        assert sent(standin) == {"early": 2, "a": 1, "b": 1, "c": 1}
        await standin.reply(*((request, embedded(request)) for request in standin.requests))
        assert [len(r) for r in await asyncio.gather(early, *late)] == [1] * 4


async def test_a_program_that_holds_up_its_loop_has_nothing_sent_again(
    client: Callable[..., embedmq.Client], standin: StandIn, losses: Callable[[], int]
) -> None:
    """For longer than a read may take: the connection stood, and the answer that came meanwhile is read."""
    held_s = reply_stream.BLOCK_MS / 1000 + reply_stream.ANSWER_GRACE_S + patience.LOOK_S + 0.5
    async with client() as mq:
        (call,) = ask(mq, "a")
        (request,) = await standin.wait_for(1)
        time.sleep(held_s)  # noqa: ASYNC251  # this is what is promised to do no harm
        await standin.reply((request, embedded(request)))
        assert len(await call) == 1
        assert (losses(), sent(standin)) == (0, {"a": 1})


async def test_a_replica_that_lagged_behind_takes_over(
    client: Callable[..., embedmq.Client],
    standin: StandIn,
    own_redis: RedisServer,
    new_redis: Callable[[], RedisServer],
    until: Until,
) -> None:
    """At the same address there is first a replica, which takes no writes, then a primary that never saw the answers:
    those that had been read stay, the others are asked for again.
    """
    old = new_redis()
    async with client() as mq, Redis.from_url(own_redis.url) as here:
        before, after = ask(mq, "before", "after")
        requests = {request["id"]: request for request in await standin.wait_for(2)}
        await standin.reply((requests["before"], embedded(requests["before"])))
        assert len(await before) == 1

        await here.replicaof("127.0.0.1", str(old.port.number))

        async def follows() -> bool:
            with contextlib.suppress(RedisError):
                return (await here.info("replication")).get("master_link_status") == "up"
            return False

        await until(follows)
        with pytest.raises(embedmq.Unavailable, match="read only"):
            await mq.submit("minilm", "refused")
        await here.replicaof("NO", "ONE")

        await standin.wait_for(3)
        assert sent(standin) == {"before": 1, "after": 2}
        await standin.reply((requests["after"], embedded(requests["after"])))
        assert len(await after) == 1
        standin.answer = embedded
        assert len(await mq.embed("minilm", "new")) == 1


async def test_redis_away_for_too_long_ends_in_a_named_error_and_sends_nothing(
    client: Callable[..., embedmq.Client], standin: StandIn, own_redis: RedisServer, until: Until
) -> None:
    """Who was told that it is away is not asked for again."""
    async with client(redis_timeout_s=1) as mq:
        (call,) = ask(mq, "a")
        await standin.wait_for(1)
        own_redis.stop(kill=True)
        with pytest.raises(embedmq.Unavailable):
            await call
        own_redis.start()
        standin.answer = embedded

        async def back() -> bool:
            try:
                return len(await mq.embed("minilm", "b")) == 1
            except embedmq.Unavailable:
                return False

        await until(back)
        assert sent(standin)["a"] == 1


async def test_waiting_for_a_kept_result_survives_a_restart(
    client: Callable[..., embedmq.Client], standin: StandIn, own_redis: RedisServer
) -> None:
    """Without its data too: what a worker writes when it is back is found."""
    async with client() as mq:
        ticket = await mq.submit("minilm", "a")
        (request,) = await standin.wait_for(1)
        waiting = asyncio.create_task(mq.result(ticket.id, wait_s=90))
        for _ in range(2):
            own_redis.stop(kill=True)
            with pytest.raises(embedmq.Unavailable):
                await mq.result(ticket.id)
            own_redis.start()
        await standin.reply((request, embedded(request)))
        assert len(await waiting) == 1
