"""How are results written to Redis, and what happens while it is away?"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence

from embedmq_schemas.names import STREAM_FIELD
from embedmq_schemas.stub import COMPLETED
from redis.asyncio import Redis as RedisClient
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from embedmq_worker.config import Redis
from embedmq_worker.engine.seam import Fault
from embedmq_worker.jobs import Outcome
from embedmq_worker.metrics import Metrics
from embedmq_worker.plan import KeepWrite, StreamWrite

RETRY_MIN_S = 0.05
RETRY_MAX_S = 1.0
ANSWER_TIMEOUT_S = 10.0
SERVER_ERRORS = ("MISCONF", "NOREPLICAS", "NOPERM", "NOAUTH", "MASTERDOWN", "UNBLOCKED", "BUSY")

Write = StreamWrite | KeepWrite

log = logging.getLogger(__name__)


def connect(settings: Redis) -> RedisClient:
    """A client that neither retries nor waits by itself: what an outage means is decided here."""
    client: RedisClient = RedisClient.from_url(
        settings.url,
        socket_timeout=ANSWER_TIMEOUT_S,
        socket_connect_timeout=ANSWER_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        **settings.options(),
    )
    return client


class RedisSink:
    """Writes until Redis has everything: an outage is waited for, however long it lasts."""

    def __init__(self, client: RedisClient, settings: Redis, metrics: Metrics) -> None:
        self._client = client
        self._settings = settings
        self._metrics = metrics
        metrics.set("redis_up", 1)  # it answered at start

    async def write(self, writes: Sequence[Write]) -> list[tuple[Outcome, Fault]]:
        """Write all, in one round trip; returns what Redis refuses for good (a key of another type)."""
        refused: list[tuple[Outcome, Fault]] = []
        left = list(writes)
        attempt = 0
        while left:
            answers = await self._try(left)
            retry: list[Write] = []
            for write, answer in zip(left, answers, strict=True):
                if _is_final(answer):
                    fault = Fault("undeliverable", f"Redis refuses the key {write.key}: {answer}")
                    outcomes = write.outcomes if isinstance(write, StreamWrite) else [write.outcome]
                    refused += [(outcome, fault) for outcome in outcomes]
                elif isinstance(answer, Exception):
                    retry.append(write)
            left = retry
            if left:
                await self._pause(attempt, next(answer for answer in answers if isinstance(answer, Exception)))
                attempt += 1
        if attempt:
            log.warning("redis_back", extra={"attempts": attempt})
        self._metrics.set("redis_up", 1)
        return refused

    async def _try(self, writes: Sequence[Write]) -> list[object]:
        """One pipeline; every write gets its answer, or the exception that stands for it."""
        pipe = self._client.pipeline(transaction=False)
        for write in writes:
            if isinstance(write, StreamWrite):
                most = self._settings.stream_max_entries
                pipe.execute_command("XADD", write.key, "MAXLEN", "~", most, "*", STREAM_FIELD, write.entry)
                pipe.execute_command("EXPIRE", write.key, self._settings.stream_ttl_s)
            else:
                only_if = [] if write.replace else ["NX"]
                pipe.execute_command("SET", write.key, write.value, "EX", write.ttl_s, *only_if)
                pipe.execute_command("SET", write.stub_key, COMPLETED, "XX", "KEEPTTL")
        try:
            answers: list[object] = await pipe.execute(raise_on_error=False)
        except (RedisError, OSError) as error:
            return [error] * len(writes)
        # the first command of each pair is the write; the second, if refused alone, must not have it written again
        return answers[::2]

    async def _pause(self, attempt: int, error: Exception) -> None:
        self._metrics.set("redis_up", 0)
        if attempt == 0:
            log.warning("redis_away", extra={"error": f"{type(error).__name__}: {error}"})
        await asyncio.sleep(min(RETRY_MAX_S, RETRY_MIN_S * 2 ** min(attempt, 10)) * random.uniform(0.5, 1))


def _is_final(answer: object) -> bool:
    """Whether Redis will never take this write: a key of another type, a stream whose ids are used up.

    What concerns the server and not the key (loading, read-only, out of memory, a missing permission) is waited for.
    redis-py has a class of its own for most of those, and strips the word ERR from all others.
    """
    return type(answer) is ResponseError and not str(answer).startswith(SERVER_ERRORS)


async def wait_reachable(client: RedisClient, timeout_s: float) -> str | None:
    """Ask Redis until it answers; returns None, or why it did not in time."""
    end = time.monotonic() + timeout_s
    while True:
        try:
            await client.ping()
        except (RedisError, OSError) as error:
            if time.monotonic() >= end or "NOAUTH" in str(error) or "WRONGPASS" in str(error):
                return f"{type(error).__name__}: {error}"
            await asyncio.sleep(0.2)
        else:
            return None
