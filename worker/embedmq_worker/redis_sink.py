"""How are results written to Redis, and what happens while it is away?"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from typing import TypeGuard

from embedmq_schemas.away import TRANSPORT_ERRORS
from embedmq_schemas.names import STREAM_FIELD
from embedmq_schemas.refusal import explain
from redis.asyncio import Redis as RedisClient
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ReadOnlyError, RedisError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig

from embedmq_worker.config import Redis
from embedmq_worker.engine.seam import Fault
from embedmq_worker.groups import Groups
from embedmq_worker.jobs import Outcome
from embedmq_worker.metrics import Metrics
from embedmq_worker.plan import KeepWrite, StreamWrite

RETRY_MIN_S = 0.05
RETRY_MAX_S = 1.0
ANSWER_TIMEOUT_S = 10.0
SERVER_ERRORS = ("MISCONF", "NOREPLICAS", "NOPERM", "NOAUTH", "MASTERDOWN", "UNBLOCKED", "BUSY")

Write = StreamWrite | KeepWrite

log = logging.getLogger(__name__)


def connect(settings: Redis, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> RedisClient:
    """A client that neither retries nor waits by itself: what an outage means is decided here."""
    client: RedisClient = RedisClient.from_url(
        settings.url,
        socket_timeout=answer_timeout_s + (settings.wait_replicas_ms / 1000 if settings.wait_replicas else 0),
        socket_connect_timeout=answer_timeout_s,
        retry=Retry(NoBackoff(), 0),
        # with them, redis-py no longer looks whether a connection was closed, or has an answer left, before it uses it
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        **settings.options(),
    )
    return client


class TooFewReplicas(RedisError):
    """It is written, but not yet as durable as was asked for."""


class RedisSink:
    """Writes until Redis has everything: an outage is waited for, however long it lasts."""

    def __init__(self, client: RedisClient, settings: Redis, metrics: Metrics) -> None:
        self._client = client
        self._settings = settings
        self._metrics = metrics
        self._away_since_s: float | None = None
        self._failures = 0
        self._too_few: TooFewReplicas | None = None
        metrics.set("redis_up", 1)  # it answered at start

    @property
    def away_s(self) -> float:
        """For how long it has taken nothing that was written; 0 while it does. May be read from any thread."""
        since_s = self._away_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    async def write(self, writes: Sequence[Write]) -> list[tuple[Outcome, Fault]]:
        """Write all, in one round trip; returns what Redis refuses for good (a key of another type, or an entry that
        breaks every connection).
        """
        refused: list[tuple[Outcome, Fault]] = []
        groups = Groups(writes)
        while groups:
            group = groups.take()
            try:
                answers = await self._send(group)
            except (RedisError, *TRANSPORT_ERRORS) as error:
                if len(group) == 1 and await self._takes_another(group[0]) and groups.is_hopeless(group[0]):
                    refused += _refuse(group[0], error)
                else:
                    groups.broke(group)
                    await self._pause(error)
                continue
            again: list[tuple[Write, Exception]] = []
            for write, answer in zip(group, answers, strict=True):
                if _is_final(answer):
                    refused += _refuse(write, answer)
                elif isinstance(answer, Exception):
                    again.append((write, answer))
            groups.put_back(write for write, _ in again)
            if again:
                await self._pause(again[0][1])
            else:
                groups.answered()
                self._failures = 0
        self._back()
        return refused

    async def _send(self, writes: Sequence[Write]) -> Sequence[object]:
        """One pipeline; every write gets its answer, or the exception that stands for it.

        Raises RedisError or OSError when it is unknown what became of them.
        """
        if self._too_few is not None and not await self._has_replicas():
            return [self._too_few] * len(writes)  # written again and again, entries would fill the streams
        pipe = self._client.pipeline(transaction=False)
        for write in writes:
            if isinstance(write, StreamWrite):
                most = self._settings.stream_max_entries
                pipe.execute_command("XADD", write.key, "MAXLEN", "~", most, "*", STREAM_FIELD, write.entry)
                pipe.execute_command("EXPIRE", write.key, self._settings.stream_ttl_s)
            else:
                only_if = [] if write.replace else ["NX"]
                pipe.execute_command("SET", write.key, write.value, "EX", write.ttl_s, *only_if)
                pipe.execute_command("SET", write.stub_key, write.stub, "XX", "KEEPTTL")
        wanted = self._settings.wait_replicas
        if wanted:
            pipe.execute_command("WAIT", wanted, self._settings.wait_replicas_ms)
        answers: list[object] = await pipe.execute(raise_on_error=False)
        # the first command of each pair is the write; the second, if refused alone, must not have it written again
        written = answers[: 2 * len(writes) : 2]
        have = answers[-1]
        if not wanted or (isinstance(have, int) and have >= wanted):
            self._too_few = None
            return written
        self._too_few = too_few = TooFewReplicas(f"{have} of {wanted} replicas")
        return [answer if isinstance(answer, Exception) else too_few for answer in written]

    async def _has_replicas(self) -> bool:
        """Whether as many replicas as are wanted are there and have what was written last."""
        try:
            have = await self._client.wait(self._settings.wait_replicas, self._settings.wait_replicas_ms)
        except ResponseError:
            return True  # what the writes are told says more, as on a primary that was demoted
        return int(have) >= self._settings.wait_replicas

    async def _takes_another(self, write: Write) -> bool:
        """Whether Redis takes a write just now, other than this one."""
        try:
            await self._client.delete(f"{write.key}:probe")
        except (RedisError, *TRANSPORT_ERRORS):
            return False
        return True

    async def _pause(self, error: Exception) -> None:
        """Wait before the next attempt: a little, then longer, each worker for a time of its own."""
        if self._away_since_s is None:
            self._away_since_s = time.monotonic()
            self._metrics.set("redis_up", 0)
            log.warning("redis_away", extra={"error": f"{type(error).__name__}: {error}"})
        if isinstance(error, ReadOnlyError):
            # a primary no longer: its name may lead to another one by now, and only a new connection asks
            await self._client.connection_pool.disconnect(inuse_connections=False)
        await asyncio.sleep(min(RETRY_MAX_S, RETRY_MIN_S * 2 ** min(self._failures, 10)) * random.uniform(0.5, 1))
        self._failures += 1

    def _back(self) -> None:
        if self._away_since_s is not None:
            away_s = round(time.monotonic() - self._away_since_s, 3)
            log.warning("redis_back", extra={"away_s": away_s})
            self._away_since_s = None
            self._metrics.set("redis_up", 1)


def _refuse(write: Write, error: Exception) -> list[tuple[Outcome, Fault]]:
    """What follows for those whose results are in a write that Redis will never take."""
    fault = Fault("undeliverable", f"Redis refuses the key {write.key}: {error}")
    outcomes = write.outcomes if isinstance(write, StreamWrite) else [write.outcome]
    return [(outcome, fault) for outcome in outcomes]


def _is_final(answer: object) -> TypeGuard[ResponseError]:
    """Whether Redis will never take this write: a key of another type, a stream whose ids are used up.

    What concerns the server and not the key (loading, read-only, out of memory, a missing permission) is waited for.
    redis-py has a class of its own for most of those, and strips the word ERR from all others.
    """
    return type(answer) is ResponseError and not str(answer).startswith(SERVER_ERRORS)


async def wait_reachable(client: RedisClient, timeout_s: float) -> BaseException | None:
    """Ask Redis until it answers; returns None, or why it did not in time, or never will."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            await client.ping()
        except (RedisError, *TRANSPORT_ERRORS) as error:
            refusal = explain(error, tls=False)
            if time.monotonic() >= end or (refusal is not None and refusal.lasting):
                return error
            await asyncio.sleep(0.2)
        else:
            return None
