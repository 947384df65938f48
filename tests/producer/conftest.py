"""What do the tests of the producer share? A stand-in worker, and a client of either kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import embedmq
import pytest
from embedmq_local.redis_server import RedisServer, find_redis
from embedmq_local.stack import Stack

from tests.producer.standin import StandIn

NewClient = Callable[..., AbstractAsyncContextManager[Any]]


class Awaited:
    """A SyncClient whose methods are awaited, so that one test serves both clients."""

    def __init__(self, client: embedmq.SyncClient) -> None:
        self.client = client

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self.client, name)
        return lambda *args, **kwargs: asyncio.to_thread(method, *args, **kwargs)


@pytest.fixture
async def worker(stack: Stack, prefix: str) -> AsyncIterator[StandIn]:
    """A stand-in that serves `minilm` under the test's prefix."""
    async with StandIn(stack.kafka, stack.redis, prefix) as standin:
        yield standin


@pytest.fixture
async def mq(stack: Stack, prefix: str, worker: StandIn) -> AsyncIterator[embedmq.Client]:
    """A client beside the stand-in."""
    async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix) as client:
        yield client


@pytest.fixture(params=["Client", "SyncClient"])
def new_either(request: pytest.FixtureRequest, stack: Stack, prefix: str) -> NewClient:
    """Makes clients of each kind, in turn, that are used in the same way."""

    @asynccontextmanager
    async def make(**settings: Any) -> AsyncIterator[Any]:
        kind = embedmq.Client if request.param == "Client" else embedmq.SyncClient
        client = kind(stack.kafka, settings.pop("redis", stack.redis), prefix=prefix, **settings)
        async with client if isinstance(client, embedmq.Client) else awaited(client) as started:
            yield started

    return make


@asynccontextmanager
async def awaited(client: embedmq.SyncClient) -> AsyncIterator[Awaited]:
    """Start and stop it without holding up the loop."""
    await asyncio.to_thread(client.__enter__)
    try:
        yield Awaited(client)
    finally:
        await asyncio.to_thread(client.__exit__, None, None, None)


@pytest.fixture
async def either(new_either: NewClient, worker: StandIn) -> AsyncIterator[Any]:
    """A client of each kind, in turn, beside the stand-in."""
    async with new_either() as client:
        yield client


@pytest.fixture
def new_redis(tmp_path: Path) -> Iterator[Callable[[], RedisServer]]:
    """Starts a Redis that a test may stop; what it held is gone then."""
    servers: list[RedisServer] = []

    def start() -> RedisServer:
        folder = tmp_path / f"redis-{len(servers)}"
        (folder / "logs").mkdir(parents=True)
        server = RedisServer(find_redis(), folder, None, persistent=False)
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        if server.running:
            server.stop(kill=True)
        server.close()


@pytest.fixture
def own_redis(new_redis: Callable[[], RedisServer]) -> RedisServer:
    """One of them."""
    return new_redis()


@pytest.fixture
def until() -> Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]:
    """Wait until a condition holds; a minute only guards against waiting for ever."""

    async def wait(condition: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(60):
            while not await condition():  # noqa: ASYNC110  # it is another process that is waited for
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def one_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A synchronous source is asked for all that there is room for at once, however long that takes here: else what
    had come after a few milliseconds would go out in a record of its own.
    """
    for module in ("source", "feeding"):
        monkeypatch.setattr(f"embedmq.{module}.SLICE_S", 60.0)
