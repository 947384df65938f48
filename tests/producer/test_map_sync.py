"""`SyncClient.map`: what a thread without an event loop may expect of it."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import embedmq
import pytest
from embedmq_local.stack import Stack

from tests.producer.standin import StandIn, embedded, vector

Until = Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]


@pytest.fixture
async def mq(stack: Stack, worker: StandIn) -> AsyncIterator[embedmq.SyncClient]:
    """A started client."""
    client = embedmq.SyncClient(stack.kafka, stack.redis, prefix=worker.prefix)
    await asyncio.to_thread(client.__enter__)
    yield client
    await asyncio.to_thread(client.__exit__, None, None, None)


async def test_a_cursor_that_is_bound_to_its_thread_is_a_source(mq: embedmq.SyncClient) -> None:
    """SQLite refuses a cursor in any other thread than its own; its rows may be pairs already."""

    def run() -> list[tuple[str | None, int]]:
        rows = sqlite3.connect(":memory:")
        rows.execute("create table t (id text, body text)")
        rows.executemany("insert into t values (?, ?)", ((f"doc-{n}", "x" * n) for n in range(300)))
        try:
            cursor = rows.execute("select id, body from t order by rowid")
            return [(r.item_id, r.tokens) for r in mq.map("minilm", cursor, max_in_flight=64)]
        finally:
            rows.close()

    assert await asyncio.to_thread(run) == [(f"doc-{n}", n) for n in range(300)]


async def test_several_threads_map_at_once_with_one_client(mq: embedmq.SyncClient) -> None:
    """Each gets its own vectors, in its own order."""

    def run(letter: str) -> bool:
        texts = [letter * (n % 9 + 1) for n in range(600)]
        found = [r.dense for r in mq.map("minilm", texts, max_in_flight=100)]
        return [each.tolist() for each in found if each is not None] == [vector(text) for text in texts]

    assert all(await asyncio.gather(*(asyncio.to_thread(run, letter) for letter in "abc")))


class Slow:
    """A source that blocks, as a query does, and notes how long it was left alone before each item but the first."""

    def __init__(self, items: int, takes_s: float) -> None:
        self.left_alone_s: list[float] = []
        self._items = items
        self._takes_s = takes_s

    def __iter__(self) -> Iterator[str]:
        for n in range(self._items):
            time.sleep(self._takes_s)
            gave = time.monotonic()
            yield f"{n}"
            self.left_alone_s.append(time.monotonic() - gave)


async def test_a_source_that_blocks_does_not_hold_back_what_was_answered(
    mq: embedmq.SyncClient, worker: StandIn
) -> None:
    """What is answered while it is asked comes out before it is asked again."""
    session = mq._client._session
    assert session is not None
    asked, out = 0, list[int]()

    def texts() -> Iterator[str]:
        nonlocal asked
        for n in range(4):
            while len(worker.requests) < n or session.pending.sent():
                time.sleep(0.01)
            time.sleep(0.1)  # its answer is there: now the loop may tell who waits for it
            asked = n
            yield f"{n}"

    def run() -> None:
        for r in mq.map("minilm", texts()):
            out.append(asked)
            assert r.tokens

    await asyncio.to_thread(run)
    assert len(out) == 4
    assert all(asked <= n + 1 for n, asked in enumerate(out))


async def test_a_source_that_blocks_is_asked_again_soon(mq: embedmq.SyncClient, worker: StandIn) -> None:
    """Within a fraction of what it takes while answers are on their way; else, and where nothing comes out, at once."""
    worker.answer = lambda _: None
    mapped, published = Slow(4, 0.4), Slow(4, 0.4)
    running = asyncio.create_task(asyncio.to_thread(lambda: list(mq.map("minilm", mapped))))
    requests = await worker.wait_for(4)
    await worker.reply(*((request, embedded(request)) for request in requests))
    assert len(await running) == 4
    await asyncio.to_thread(lambda: mq.publish_all("minilm", published, keep_s=0))

    for source in (mapped, published):
        assert min(source.left_alone_s) < 0.2, "each time, but for those when nothing here had its turn"


async def test_a_map_that_is_left_ends_with_its_client(stack: Stack, worker: StandIn) -> None:
    """Nobody closed the generator: the client ends all the same, at once, and the generator says why it goes on no
    more. Afterwards, or before the client is started, there is no map.
    """

    def run() -> None:
        texts = iter(["a"] * 10_000)
        with embedmq.SyncClient(stack.kafka, stack.redis, prefix=worker.prefix) as client:
            left = client.map("minilm", texts)
            next(left)
            began = time.monotonic()
        assert time.monotonic() - began < 10
        with pytest.raises(RuntimeError, match="not started"):
            list(left)
        with pytest.raises(RuntimeError, match="not started"):
            client.map("minilm", texts)

    await asyncio.to_thread(run)


async def test_closing_the_client_ends_a_map_of_another_thread(stack: Stack, worker: StandIn) -> None:
    """It waits for an answer that never comes: it is told so."""
    worker.answer = lambda _: None
    client = embedmq.SyncClient(stack.kafka, stack.redis, prefix=worker.prefix)
    await asyncio.to_thread(client.__enter__)
    waiting = asyncio.create_task(asyncio.to_thread(lambda: list(client.map("minilm", ["a"]))))
    await worker.wait_for(1)
    await asyncio.to_thread(client.__exit__, None, None, None)

    with pytest.raises(embedmq.RequestCancelled, match="the client was closed"):
        await waiting


SCRIPT = """
import sys
import embedmq

def texts():
    try:
        while True:
            yield "a"
    finally:
        print("source closed", flush=True)

kafka, redis, prefix = sys.argv[1:]
with embedmq.SyncClient(kafka, redis, prefix=prefix) as mq:
    for r in mq.map("minilm", texts(), max_in_flight=16):
        print("never", flush=True)
"""


async def test_ctrl_c_ends_a_map_cleanly(stack: Stack, worker: StandIn, until: Until) -> None:
    """The source is closed, the workers are told, and nothing but the interrupt is on standard error."""
    worker.answer = lambda _: None
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-X", "dev", "-c", textwrap.dedent(SCRIPT), stack.kafka, stack.redis, worker.prefix),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    requests = await worker.wait_for(8)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(20):
        out, errors = await process.communicate()

    assert process.returncode == -signal.SIGINT
    assert out.decode().split("\n") == ["source closed", ""]
    assert errors.decode().strip().endswith("KeyboardInterrupt")
    for trace in ("never", "destroyed", "Exception ignored", "During handling"):
        assert trace not in errors.decode()
    keys = [f"{{{worker.prefix}:result:{request['id']}}}:cancel" for request in requests]

    async def marked() -> bool:
        return await worker.redis.exists(*keys) == len(keys)

    await until(marked)


async def test_an_async_source_is_asked_on_the_clients_own_loop(mq: embedmq.SyncClient) -> None:
    """It may be passed all the same."""
    threads: set[str] = set()

    async def texts() -> AsyncIterator[str]:
        for _ in range(3):
            threads.add(threading.current_thread().name)
            yield "a"

    def run() -> int:
        return len(list(mq.map("minilm", texts())))

    assert await asyncio.to_thread(run) == 3
    assert threads == {"embedmq-client"}
