"""`cancel`: what it says, what it leaves for the workers, and who is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import embedmq
import pytest
from embedmq.cancel import Cancel
from embedmq.store import Store
from embedmq_local.redis_server import RedisServer
from embedmq_local.stack import Stack
from embedmq_schemas.connection import RedisConnection
from embedmq_schemas.names import Names

from tests.producer.standin import StandIn, embedded, failed

Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]
DAY_S = 24 * 3600


def mark(worker: StandIn, id: str) -> str:
    """The key that workers look for."""
    return f"{{{worker.prefix}:result:{id}}}:cancel"


@pytest.fixture
def is_marked(worker: StandIn, until: Until) -> Callable[[str], Awaitable[None]]:
    """Wait until a request is marked."""

    async def wait(id: str) -> None:
        async def there() -> bool:
            return bool(await worker.redis.exists(mark(worker, id)))

        await until(there)

    return wait


async def test_a_submitted_request_is_cancelled_from_anywhere(either: Any, mq: embedmq.Client, worker: StandIn) -> None:
    """Whoever asks for its result is told at once; the mark lives as long as the stub."""
    worker.answer = lambda _: None
    ticket = await either.submit("minilm", "a", keep_s=60)
    waiting = asyncio.create_task(mq.result(ticket.id, wait_s=90))

    assert await mq.cancel(ticket.id) == "cancelled"

    with pytest.raises(embedmq.RequestCancelled):
        await waiting
    with pytest.raises(embedmq.RequestCancelled):
        await either.result(ticket.id)
    stub = f"{{{worker.prefix}:result:{ticket.id}}}:stub"
    assert json.loads(await worker.redis.get(stub) or b"")["state"] == "cancelled"
    assert DAY_S < await worker.redis.ttl(stub) <= DAY_S + 60
    assert DAY_S < await worker.redis.ttl(mark(worker, ticket.id)) <= DAY_S + 60
    assert await either.cancel(ticket.id) == "cancelled"


async def test_a_success_that_comes_all_the_same_beats_the_cancel(either: Any, worker: StandIn) -> None:
    """It was on the device already."""
    worker.answer = lambda _: None
    ticket = await either.submit("minilm", "a")
    (request,) = await worker.wait_for(1)
    assert await either.cancel(ticket.id) == "cancelled"

    await worker.reply((request, embedded(request)))

    assert len(await either.result(ticket.id)) == 1
    assert await either.cancel(ticket.id) == "completed"


async def test_what_has_an_outcome_is_completed(mq: embedmq.Client, worker: StandIn) -> None:
    """A result, a failure, one that has expired since. An outcome that is a cancel is called so."""
    tickets = []
    for answer in (embedded, lambda r: failed(r, "processing_failed"), lambda r: failed(r, "cancelled"), embedded):
        worker.answer = answer
        tickets.append((await mq.submit("minilm", "a")).id)
        with pytest.raises(embedmq.EmbedMQError) if answer is not embedded else contextlib.nullcontext():
            await mq.result(tickets[-1], wait_s=60)
    await worker.redis.delete(f"{worker.prefix}:result:{tickets[-1]}")

    assert [await mq.cancel(id) for id in tickets] == ["completed", "completed", "cancelled", "completed"]
    assert not await worker.redis.exists(*(mark(worker, id) for id in tickets))


async def test_a_cancel_that_meets_its_result_leaves_the_result_in_the_right(
    mq: embedmq.Client, worker: StandIn
) -> None:
    """Whoever of the two comes first: what `cancel` says is what `result` says, and what the stub says later."""

    async def race(text: str) -> tuple[str, str, str]:
        id = (await mq.submit("minilm", text)).id
        said = await mq.cancel(id)
        try:
            found = type(await mq.result(id)).__name__
        except embedmq.RequestCancelled:
            found = "RequestCancelled"
        await worker.wait_for(60)
        stub = json.loads(await worker.redis.get(f"{{{worker.prefix}:result:{id}}}:stub") or b"")
        return said, found, stub["state"]

    ends = await asyncio.gather(*(race(f"{n}") for n in range(60)))

    for said, found, state in ends:
        if said == "completed":
            assert (found, state) == ("Embeddings", "completed")
        else:
            assert state in {"cancelled", "completed"}  # the latter for a success that came after the cancel


async def test_a_cancel_whose_answer_is_lost_is_not_made_up(stack: Stack, prefix: str, worker: StandIn) -> None:
    """A worker finished in between, Redis swapped the stub and the connection broke: what it had said cannot be had by
    asking again, so the caller is told, and told the truth when it calls again.
    """
    worker.answer = lambda _: None
    broken: list[bytes] = []
    _, _, port = stack.redis.removeprefix("redis://").partition(":")

    async def relay(client: asyncio.StreamReader, answers: asyncio.StreamWriter) -> None:
        replies, server = await asyncio.open_connection("127.0.0.1", int(port.partition("/")[0]))
        while command := await client.read(1 << 16):
            swaps = b"KEEPTTL" in command and b"cancelled" in command
            if swaps and not broken:
                await worker.reply((worker.requests[0], embedded(worker.requests[0])))
            server.write(command)
            reply = await replies.read(1 << 16)
            if swaps:
                broken.append(reply)
                break
            answers.write(reply)
        for writer in (server, answers):
            writer.close()

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as proxy:
        url = f"redis://127.0.0.1:{proxy.sockets[0].getsockname()[1]}/0"
        names = Names(prefix)
        store = Store(RedisConnection(url=url), 5.0)
        cancel = Cancel(store, names)
        async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix) as mq:
            ticket = await mq.submit("minilm", "a")
            await worker.wait_for(1)
            with pytest.raises(embedmq.Unavailable):
                await cancel.submitted(ticket.id)
            assert await mq.cancel(ticket.id) == "completed"
            assert len(await mq.result(ticket.id)) == 1
        await store.stop()
    assert len(broken) == 1


async def test_redis_that_does_not_answer_holds_up_no_cancel(
    stack: Stack, prefix: str, own_redis: RedisServer, worker: StandIn
) -> None:
    """The call ends at once all the same, and `cancel` a second later."""
    process = own_redis.process
    assert process is not None
    worker.answer = lambda _: None
    async with embedmq.Client(stack.kafka, own_redis.url, prefix=prefix) as mq:
        call = asyncio.create_task(mq.embed("minilm", "a", id="x"))
        await worker.wait_for(1)
        process.signal(signal.SIGSTOP)
        try:
            ended: list[str] = []
            cancelling = asyncio.create_task(mq.cancel("x"))
            call.add_done_callback(lambda _: ended.append("call"))
            cancelling.add_done_callback(lambda _: ended.append("cancel"))
            assert await asyncio.wait_for(cancelling, 20) == "cancelled"
            with pytest.raises(embedmq.RequestCancelled):
                await call
            assert ended == ["call", "cancel"]
        finally:
            process.signal(signal.SIGCONT)


async def test_nothing_is_known_of_an_id_that_nobody_submitted(either: Any, worker: StandIn) -> None:
    """Nor of what was published for a topic alone. What is no id is refused."""
    assert await either.cancel("nope") == "unknown"
    assert not await worker.redis.exists(mark(worker, "nope"))
    with pytest.raises(embedmq.InvalidRequest, match="id"):
        await either.cancel("no id")


async def test_a_client_without_redis_cannot_cancel(stack: Stack, prefix: str) -> None:
    """It is told why."""
    async with embedmq.Client(stack.kafka, prefix=prefix) as mq:
        with pytest.raises(embedmq.InvalidRequest, match="Redis"):
            await mq.cancel("x")


async def test_a_call_that_waits_here_ends_at_once(either: Any, worker: StandIn) -> None:
    """In RequestCancelled; the mark lives little longer than its time limit."""
    worker.answer = lambda _: None
    call = asyncio.create_task(either.embed("minilm", "a", id="x", timeout_s=30))
    await worker.wait_for(1)

    assert await either.cancel("x") == "cancelled"

    with pytest.raises(embedmq.RequestCancelled):
        await call
    assert 0 < await worker.redis.ttl(mark(worker, "x")) <= 36
    assert await either.cancel("x") == "unknown"


@pytest.fixture
async def roomy(stack: Stack, prefix: str, worker: StandIn) -> AsyncIterator[embedmq.Client]:
    """A client that sends all parts of a large call at once."""
    async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix, max_in_flight_items=10_000) as client:
        yield client


async def test_a_call_in_many_parts_is_cancelled_as_one(
    roomy: embedmq.Client, worker: StandIn, is_marked: Callable[[str], Awaitable[None]]
) -> None:
    """Each part is marked; another call whose id merely looks like a part's goes on."""
    worker.answer = lambda _: None
    whole = asyncio.create_task(roomy.embed("minilm", ["a"] * 5_000, id="x"))
    other = asyncio.create_task(roomy.embed("minilm", "b", id="x.7"))
    requests = {request["id"]: request for request in await worker.wait_for(4)}
    assert set(requests) == {"x.0", "x.1", "x.2", "x.7"}

    assert await roomy.cancel("x") == "cancelled"

    with pytest.raises(embedmq.RequestCancelled):
        await whole
    for k in range(3):
        await is_marked(f"x.{k}")
    assert not await worker.redis.exists(mark(worker, "x.7"))
    await worker.reply((requests["x.7"], embedded(requests["x.7"])))
    assert len(await other) == 1


async def test_a_call_that_waits_for_room_is_never_sent(
    stack: Stack, prefix: str, worker: StandIn, until: Until
) -> None:
    """And leaves the room to the next one."""
    worker.answer = lambda _: None
    async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix, max_in_flight_items=1) as mq:
        first, second, third = (asyncio.create_task(mq.embed("minilm", id, id=id)) for id in "abc")
        await worker.wait_for(1)

        async def cancelled() -> bool:
            return await mq.cancel("b") == "cancelled"

        await until(cancelled)
        with pytest.raises(embedmq.RequestCancelled):
            await second
        assert await mq.cancel("a") == "cancelled"
        with pytest.raises(embedmq.RequestCancelled):
            await first
        requests = await worker.wait_for(2)
        assert [request["id"] for request in requests] == ["a", "c"]
        await worker.reply((requests[1], embedded(requests[1])))
        assert len(await third) == 1


async def test_cancelling_the_await_tells_the_workers_too(
    roomy: embedmq.Client, worker: StandIn, is_marked: Callable[[str], Awaitable[None]]
) -> None:
    """The await ends at once; the marks follow by themselves, also those of the parts of a large call."""
    worker.answer = lambda _: None
    calls = [asyncio.create_task(roomy.embed("minilm", ["a"] * count, id=f"n{count}")) for count in (1, 2_500)]
    ids = {request["id"] for request in await worker.wait_for(3)}
    for call in calls:
        call.cancel()
    await asyncio.wait(calls, timeout=20)
    assert all(call.cancelled() for call in calls)
    for id in ids:
        await is_marked(id)


async def test_a_client_that_closes_lets_its_marks_go_out(stack: Stack, prefix: str, worker: StandIn) -> None:
    """As when a program is interrupted."""
    worker.answer = lambda _: None
    async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix) as mq:
        call = asyncio.create_task(mq.embed("minilm", "a", id="x"))
        await worker.wait_for(1)
        call.cancel()
        await asyncio.wait({call})
    assert await worker.redis.exists(mark(worker, "x"))


async def test_what_a_closed_client_waited_for_is_not_computed(stack: Stack, prefix: str, worker: StandIn) -> None:
    """Calls alone and calls that shared a record: the workers are told, and the callers too."""
    worker.answer = lambda _: None
    async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix) as client:
        calls = [asyncio.create_task(client.embed("minilm", text)) for text in "abc"]
        calls.append(asyncio.create_task(client.embed("minilm", "d", id="of-mine")))
        shared, alone = await worker.wait_for(2)
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(error) for error in ended} == {embedmq.RequestCancelled}
    assert await worker.redis.exists(*(mark(worker, request["id"]) for request in (shared, alone))) == 2
