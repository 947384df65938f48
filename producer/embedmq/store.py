"""How is Redis asked: short commands, on connections of their own?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TypeVar, cast

from embedmq_schemas.away import TRANSPORT_ERRORS
from embedmq_schemas.connection import RedisConnection, redact_url
from embedmq_schemas.refusal import explain
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, RedisError

from embedmq.errors import Unavailable

MAX_CONNECTIONS = 8
COMMAND_TIMEOUT_S = 5.0
"""How long one command may take, sending and answering."""
STOP_TIMEOUT_S = 1.0
SCAN_COUNT = 1_000

_T = TypeVar("_T")


class Store:
    """Reads and writes keys; every failure of Redis is `Unavailable`.

    A command is never cancelled under way, since that can leave a connection out of step: whoever stops waiting
    leaves it to end by itself, which its time limit makes sure of.
    """

    def __init__(self, connection: RedisConnection, connect_timeout_s: float) -> None:
        self._url = connection.url
        self._running: set[asyncio.Task[object]] = set()
        limit_s = min(COMMAND_TIMEOUT_S, connect_timeout_s)
        # an idle connection may have been closed by the other side; who did not answer in time is not asked again
        self._redis = _redis(connection, MAX_CONNECTIONS, limit_s, Retry(NoBackoff(), 1, (ConnectionError,)))
        self._once = _redis(connection, 1, limit_s, Retry(NoBackoff(), 0))

    async def start(self) -> None:
        """Raises Unavailable when Redis is not there, or does not let us in."""
        await self._run("PING")

    async def stop(self) -> None:
        """Let the commands under way end, for a bounded time, then disconnect."""
        if self._running:
            await asyncio.wait(self._running, timeout=STOP_TIMEOUT_S)
        for redis in (self._redis, self._once):
            await redis.aclose()

    async def get(self, key: str) -> bytes | None:
        """The value of a key."""
        return cast("bytes | None", await self._run("GET", key))

    async def get_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """The values of several keys, as they are at one moment."""
        return cast("list[bytes | None]", await self._run("MGET", *keys))

    async def put(self, key: str, value: bytes, ttl_s: int) -> None:
        """Write a key that lives for `ttl_s`."""
        await self._run("SET", key, value, "EX", ttl_s)

    async def put_all(self, lives_s: Mapping[str, int], value: bytes) -> None:
        """Write one value under several keys, each to live for as long as it says, in one round trip."""
        pipe = self._redis.pipeline(transaction=False)
        queue: Callable[..., object] = pipe.execute_command
        for key, ttl_s in lives_s.items():
            queue("SET", key, value, "EX", ttl_s)
        execute: Callable[[], Coroutine[object, object, object]] = pipe.execute
        await self._end_by_itself(execute())

    async def swap(self, key: str, value: bytes) -> bytes | None:
        """Replace a value, if there is one, without changing how long it lives; returns what was there.

        Sent once: of a second try the answer would be what the first had written.
        """
        execute: Callable[..., Coroutine[object, object, object]] = self._once.execute_command
        # redis-py reads the answer as a value only when it is told so
        swapped = execute("SET", key, value, "XX", "KEEPTTL", "GET", get=True)
        return cast("bytes | None", await self._end_by_itself(swapped))

    async def left_s(self, key: str) -> int:
        """How long a key still lives, in seconds; below 0 for one that is not there, or lives for ever."""
        return cast("int", await self._run("TTL", key))

    async def drop(self, key: str) -> None:
        """Remove a key."""
        await self._run("UNLINK", key)

    async def evaluate(self, script: str, keys: Sequence[str], values: Sequence[str | bytes | int]) -> object:
        """Run a script inside Redis, where nothing comes between its steps; returns what it returns."""
        return await self._run("EVAL", script, len(keys), *keys, *values)

    async def find(self, prefix: str) -> dict[str, bytes]:
        """What follows `prefix` in all keys that begin with it, and their values: walks through every key of Redis."""
        keys = await self._end_by_itself(self._scan(prefix))
        values = await self.get_all(keys) if keys else []
        return {key[len(prefix) :]: value for key, value in zip(keys, values, strict=True) if value is not None}

    async def _scan(self, prefix: str) -> list[str]:
        found = {key async for key in self._redis.scan_iter(match=prefix + "*", count=SCAN_COUNT)}
        return sorted(key.decode() for key in found)

    async def _run(self, *words: str | bytes | int) -> object:
        execute: Callable[..., Coroutine[object, object, object]] = self._redis.execute_command
        return await self._end_by_itself(execute(*words))

    async def _end_by_itself(self, command: Coroutine[object, object, _T]) -> _T:
        task = asyncio.ensure_future(command)
        self._running.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except (RedisError, *TRANSPORT_ERRORS) as error:
            raise unavailable(self._url, error) from error

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # seen, even if nobody waits any more


def _redis(connection: RedisConnection, connections: int, limit_s: float, retry: Retry) -> Redis:
    pool = BlockingConnectionPool.from_url(
        connection.url,
        **connection.options(),
        max_connections=connections,
        timeout=COMMAND_TIMEOUT_S,
        socket_timeout=limit_s,
        socket_connect_timeout=limit_s,
        retry=retry,
        protocol=2,
    )
    return Redis.from_pool(pool)


def unavailable(url: str, error: BaseException) -> Unavailable:
    """What an error of Redis means to a caller."""
    where = f"Redis at {redact_url(url)}"
    if (refusal := explain(error, tls=url.startswith("rediss:"))) is not None:
        return Unavailable(f"{where} does not let us in: {refusal}")
    return Unavailable(
        f"{where} cannot be used: {str(error) or type(error).__name__}: check EMBEDMQ_REDIS and that it runs"
    )
