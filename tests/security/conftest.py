"""What do the tests of security share? One Kafka and one Redis that guard their doors, for all of a process's tests."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack

import pytest
from embedmq_local.errors import StackError

from tests.security.guarded import Guarded, guarded

GOODBYE_S = 5.0


@pytest.fixture(scope="session")
def doors() -> Iterator[Guarded]:
    """Both servers; where they cannot be had, tests skip on a laptop and fail in CI."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(guarded())
        except StackError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(f"no guarded servers: {error}")
        yield running


@pytest.fixture(autouse=True)
async def _goodbyes() -> AsyncIterator[None]:
    """TLS takes leave by a last exchange, for which clients do not wait; a loop that ends before it warns."""
    yield
    loop = asyncio.get_running_loop()
    end_s = loop.time() + GOODBYE_S
    while len(loop._selector.get_map()) > 1 and loop.time() < end_s:  # type: ignore[attr-defined]  # noqa: ASYNC110 -- only it knows
        await asyncio.sleep(0.005)
