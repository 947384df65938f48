"""The worlds of the contract: real Kafka and Redis, and the fakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import embedmq
import pytest
from embedmq.testing import FakeClient, FakeSyncClient
from embedmq_local.stack import Stack

from tests.producer.conftest import Awaited
from tests.producer.standin import WIDTH, StandIn
from tests.testing.worlds import Fake, Real, World


@pytest.fixture(params=["real", "fake", "fake sync"])
async def world(request: pytest.FixtureRequest, prefix: str) -> AsyncIterator[World]:
    """Each world in turn, with its client started."""
    if request.param == "real":
        stack: Stack = request.getfixturevalue("stack")
        async with StandIn(stack.kafka, stack.redis, prefix) as standin:
            await standin.announce()
            async with embedmq.Client(stack.kafka, stack.redis, prefix=prefix) as client:
                yield Real(client, standin)
    elif request.param == "fake":
        async with FakeClient(prefix=prefix, models={"minilm": WIDTH}) as fake:
            yield Fake(fake, fake)
    else:
        sync = FakeSyncClient(prefix=prefix, models={"minilm": WIDTH})
        await asyncio.to_thread(sync.__enter__)
        yield Fake(Awaited(sync), sync)
        await asyncio.to_thread(sync.__exit__, None, None, None)
