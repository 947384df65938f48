"""Where in Redis do vectors wait for the same text to come again, and how is it bounded what they take?

The cache is a fixed number of places, each for a value of bounded size. An item's hash says its place, and what is
written there replaces what was there. So the bound holds whoever writes, without counting, and a place taken by another
item is a miss.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

from embedmq_schemas.away import TRANSPORT_ERRORS
from embedmq_schemas.limits import MIB
from embedmq_schemas.names import Names
from redis.asyncio import Redis as RedisClient
from redis.exceptions import RedisError

from embedmq_worker.config import Cache
from embedmq_worker.metrics import Metrics

AWAY_S: Final = 1.0
"""How long Redis is not asked again that did not answer: meanwhile nothing is found or kept."""

PLACE_BYTES: Final = 256
"""What a key with its value's header, its expiry and its part of Redis's tables takes beside the value, at most."""

ROUNDED_UP: Final = 1.25
"""By how much Redis's allocator rounds a value up, at most."""

WRITE_BYTES: Final = 4 * MIB
"""Most that is written for one batch; the rest is not kept."""

log = logging.getLogger(__name__)


class Contents:
    """Reads and writes values by hash, one command or pipeline a batch. Away, it has nothing and takes nothing."""

    def __init__(self, client: RedisClient, names: Names, settings: Cache, metrics: Metrics) -> None:
        """`client` should give up soon: the device waits meanwhile."""
        self._client = client
        self._names = names
        self._settings = settings
        self._metrics = metrics
        self._away_until_s = 0.0
        self.places = places(settings)

    async def read(self, digests: Sequence[bytes]) -> Sequence[bytes | None]:
        """What lies in each one's place: perhaps another's, or anything."""
        if not digests or time.monotonic() < self._away_until_s:
            return [None] * len(digests)
        try:
            found = await self._client.mget([self._key(digest) for digest in digests])
        except (RedisError, *TRANSPORT_ERRORS) as error:
            self._fail("read", error)
            return [None] * len(digests)
        return [value if isinstance(value, bytes) else None for value in found]

    async def write(self, values: Sequence[tuple[bytes, bytes]]) -> None:
        """Put values in the places of their hashes, as many as may be at a time."""
        fitting = [pair for pair in values if len(pair[1]) <= self._settings.max_value_bytes]
        fitting = fitting[: WRITE_BYTES // self._settings.max_value_bytes]
        if not fitting or time.monotonic() < self._away_until_s:
            return
        pipe = self._client.pipeline(transaction=False)
        for digest, value in fitting:
            pipe.execute_command("SET", self._key(digest), value, "EX", self._settings.ttl_s)
        try:
            await pipe.execute()
        except (RedisError, *TRANSPORT_ERRORS) as error:
            self._fail("write", error)
            return
        self._metrics.count("cache_written_total", len(fitting))
        self._metrics.count("cache_written_bytes_total", sum(len(value) for _, value in fitting))

    def _key(self, digest: bytes) -> str:
        return self._names.cached(int.from_bytes(digest[:8], "big") % self.places)

    def _fail(self, step: str, error: Exception) -> None:
        self._away_until_s = time.monotonic() + AWAY_S
        self._metrics.count("cache_failures_total", 1, step)
        log.warning("cache_failed", extra={"step": step, "error": f"{type(error).__name__}: {error}"})


def places(settings: Cache) -> int:
    """How many values there is room for."""
    return int(settings.max_bytes / (settings.max_value_bytes * ROUNDED_UP + PLACE_BYTES))
