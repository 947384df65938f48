"""How is a request called off, and what had become of it by then?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from math import ceil, inf
from typing import Literal

from embedmq_schemas.codec import Undecodable, decode_result
from embedmq_schemas.names import Names
from embedmq_schemas.results import Failed
from embedmq_schemas.stub import encode_stub
from msgspec.structs import replace

from embedmq.errors import Unavailable
from embedmq.kept import DEADLINE_GRACE_S, read_stub
from embedmq.store import Store

Cancelled = Literal["cancelled", "completed", "unknown"]
"""What `cancel` found: called off, too late, or nothing of that id."""

MAX_MARK_S = 7 * 24 * 3600
"""How long a mark lives at most, in seconds: as long as Kafka keeps a request by default."""
TELL_TIMEOUT_S = 1.0
"""How long a cancelled call waits for Redis to be told."""
MARK = b"1"  # workers look only whether it is there

_LOG = logging.getLogger(__name__)


class Cancel:
    """Leaves marks for the workers, which look for them just before the device."""

    def __init__(self, store: Store, names: Names) -> None:
        self._store = store
        self._names = names
        self._soon: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._stopped = False

    async def submitted(self, id: str) -> Cancelled:
        """Call off a request that anybody submitted; raises Unavailable.

        The stub is marked first, and what it said then decides: a worker that finished in between is put in the right.
        """
        key = self._names.stub(id)
        result, stub = await self._store.get_all([self._names.result(id), key])
        if result is None and stub is None:
            return "unknown"
        known = None if stub is None else read_stub(stub)
        if result is not None or known is None or known.state == "completed":
            return _said(result)
        before = await self._store.swap(key, encode_stub(replace(known, state="cancelled")))
        if before is not None and read_stub(before).state == "completed":
            await self._store.swap(key, before)
            return _said(await self._store.get(self._names.result(id)))
        left_s = await self._store.left_s(key)
        await self._store.put(self._names.cancel(id), MARK, max(1, min(left_s, MAX_MARK_S)))
        return "cancelled"

    def mark_soon(self, id: str, due: float) -> None:
        """Mark a request of this process, which is wanted until the loop's time `due`; those of one moment travel
        together. Nobody waits for it any more, so it does no harm if Redis cannot be told.
        """
        if self._stopped:
            return
        self._soon[id] = due
        if self._task is None:
            self._task = asyncio.create_task(self._mark_all())

    async def told(self) -> None:
        """Wait until the marks are there, for a bounded time."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=TELL_TIMEOUT_S)

    async def stop(self) -> None:
        """Let the marks go out that are on their way, for a bounded time."""
        self._stopped = True
        await self.told()
        if self._task is not None:
            self._task.cancel()

    async def _mark_all(self) -> None:
        try:
            while self._soon:
                soon, self._soon = self._soon, {}
                await self._mark(soon)
        finally:
            self._task = None

    async def _mark(self, until: Mapping[str, float]) -> None:
        now = asyncio.get_running_loop().time()
        try:
            await self._store.put_all({self._names.cancel(id): _life_s(due - now) for id, due in until.items()}, MARK)
        except Unavailable as error:
            _LOG.info("could not tell the workers that %d requests are cancelled: %s", len(until), error)


def _said(result: bytes | None) -> Cancelled:
    """A request that was cancelled before it was computed has a result too, which says so."""
    if result is None:
        return "completed"
    try:
        answer = decode_result(result)
    except Undecodable:
        return "completed"
    return "cancelled" if isinstance(answer, Failed) and answer.code == "cancelled" else "completed"


def _life_s(left_s: float) -> int:
    """How long a mark is of use: past its deadline no request is computed anyway."""
    return MAX_MARK_S if left_s == inf else max(1, min(ceil(left_s + DEADLINE_GRACE_S), MAX_MARK_S))
