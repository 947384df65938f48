"""How is a fleet read, and told what to do?"""

from __future__ import annotations

import getpass
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from embedmq_schemas.connection import RedisConnection
from embedmq_schemas.names import Names
from msgspec import Struct

from embedmq.control import give_order
from embedmq.fleet import Fleet
from embedmq.settings import Setup
from embedmq.store import Store
from embedmq.top.orders import TOLD, Wish
from embedmq.top.view import View, look


class Live(Struct, frozen=True):
    """What a view needs of the world: `read` raises Unavailable, `tell` EmbedMQError and returns the order's offset."""

    read: Callable[[], Awaitable[View]]
    tell: Callable[[Wish, str], Awaitable[int]]


@asynccontextmanager
async def live(setup: Setup, redis: RedisConnection, search_s: float) -> AsyncIterator[Live]:
    """The fleet under the prefix of `setup`; new workers are looked for every `search_s`. Redis may be away."""
    store = Store(redis, setup.connect_timeout_s)
    fleet = Fleet(store, Names(setup.prefix))

    async def read() -> View:
        return look(setup.prefix, await fleet.recent(time.monotonic(), search_s), time.time_ns() // 1_000_000)

    async def tell(wish: Wish, model: str) -> int:
        told = TOLD[wish]
        by = f"embedmq top, {_user()}@{socket.gethostname()}"
        return await give_order(setup, model, served=told.served, pinned=told.pinned, by=by)

    try:
        yield Live(read, tell)
    finally:
        await store.stop()


def _user() -> str:
    """For the log of the workers; a container may have none."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "?"
