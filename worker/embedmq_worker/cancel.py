"""Which requests of a batch does nobody want any more?"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from embedmq_schemas.away import TRANSPORT_ERRORS
from embedmq_schemas.names import Names
from redis.asyncio import Redis as RedisClient
from redis.exceptions import RedisError

AWAY_S: Final = 1.0
"""How long Redis is not asked again that did not answer: meanwhile nothing counts as cancelled."""


class Cancellations:
    """Looks for the marks that callers leave, with one command a batch."""

    def __init__(self, client: RedisClient, names: Names) -> None:
        """`client` should give up soon: the device waits meanwhile."""
        self._client = client
        self._head, self._tail = names.cancel("\0").split("\0")
        self._away_until_s = 0.0

    async def among(self, ids: Sequence[str]) -> set[str]:
        """Those that were cancelled."""
        if not ids or time.monotonic() < self._away_until_s:
            return set()
        try:
            marks = await self._client.mget([self._head + id + self._tail for id in ids])
        except (RedisError, *TRANSPORT_ERRORS):
            self._away_until_s = time.monotonic() + AWAY_S
            return set()
        return {id for id, mark in zip(ids, marks, strict=True) if mark is not None} if any(marks) else set()
