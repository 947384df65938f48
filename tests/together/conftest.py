"""A real worker and the real client, with nothing of ours in between but Kafka and Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import embedmq
import pytest
import pytest_asyncio
from embedmq_local.stack import Stack

from tests.held import Hold
from tests.serving import serving

MODELS = """
[models.null]
checkpoint = "null:8"

[models.slow]
checkpoint = "null:8?batch_ms=1"

[models.tail]
checkpoint = "null:8"
shared = true
"""


@pytest.fixture(scope="module")
def hold(tmp_path_factory: pytest.TempPathFactory) -> Hold:
    """Holds the batches of `slow`."""
    return Hold(tmp_path_factory.mktemp("together"))


@pytest.fixture(scope="module")
def served(stack: Stack, hold: Hold) -> Iterator[str]:
    """The prefix under which a worker serves `null`, `slow` and, on the shared topics, `tail`."""
    with serving(stack, hold.folder, MODELS) as prefix:
        yield prefix


@pytest_asyncio.fixture
async def mq(stack: Stack, served: str) -> AsyncIterator[embedmq.Client]:
    """A client of that worker."""
    async with embedmq.Client(stack.kafka, stack.redis, prefix=served) as client:
        yield client
