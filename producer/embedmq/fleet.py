"""What does the fleet serve, and how long would a request wait there?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

import msgspec
from embedmq_schemas.catalogue import (
    STATUS_PERIOD_S,
    STATUS_TTL_S,
    ModelEntry,
    ModelStatus,
    WorkerStatus,
    decode_model,
    decode_worker,
)
from embedmq_schemas.names import Names
from msgspec import Struct

from embedmq.errors import Unavailable
from embedmq.store import Store

SEARCH_PERIOD_S = 60.0
"""How often new workers are looked for; those known are read every `STATUS_PERIOD_S`."""
SEARCH_SHARE = 0.02
"""Part of the time that may be spent on that: it means to look through every key that Redis has."""


class ServedModel(Struct, frozen=True):
    """One model: what the catalogue says of it, and its state on each worker, by the worker's id."""

    name: str
    entry: ModelEntry
    workers: dict[str, ModelStatus]


class Fleet:
    """Reads what workers publish. Estimated waits are read in the background, and only while requests are made."""

    def __init__(self, store: Store, names: Names) -> None:
        self._store = store
        self._names = names
        self._waits: dict[tuple[str, str], float] = {}
        self._read_at = self._tried_at = -SEARCH_PERIOD_S
        self._search_at = float("-inf")
        self._workers: list[str] = []
        self._task: asyncio.Task[None] | None = None

    async def models(self) -> list[ServedModel]:
        """Every model in the catalogue, by name; raises Unavailable."""
        entries = await self._store.find(self._names.model(""))
        workers = await self.workers()
        return [
            ServedModel(name, entry, {worker.id: worker.models[name] for worker in workers if name in worker.models})
            for name, value in sorted(entries.items())
            if (entry := _entry(value)) is not None
        ]

    async def workers(self) -> list[WorkerStatus]:
        """What each worker says of itself, read now; raises Unavailable."""
        return _readable((await self._store.find(self._names.worker(""))).values())

    async def recent(self, now: float, search_s: float = SEARCH_PERIOD_S) -> list[WorkerStatus]:
        """As `workers`, of those that were known at the last search: where Redis has many keys, one finds new ones less
        often than every `search_s`. Raises Unavailable.
        """
        if not self._workers or now >= self._search_at:
            prefix, start_s = self._names.worker(""), time.monotonic()
            found = await self._store.find(prefix)
            self._workers = [prefix + worker for worker in found]
            self._search_at = now + max(search_s, (time.monotonic() - start_s) / SEARCH_SHARE)
            return _readable(found.values())
        return _readable(value for value in await self._store.get_all(self._workers) if value is not None)

    async def waits(self) -> dict[tuple[str, str], float]:
        """The shortest estimated wait by model and lane, read now; raises Unavailable."""
        return shortest_waits(await self.workers())

    def wait_s(self, model: str, lane: str, now: float) -> float | None:
        """The shortest wait that any worker estimates for a request sent now; None when nothing recent is known."""
        if now - self._tried_at >= STATUS_PERIOD_S and self._task is None:
            self._tried_at = now
            self._task = asyncio.create_task(self._read(now))
        return self._waits.get((model, lane)) if now - self._read_at < STATUS_TTL_S else None

    async def stop(self) -> None:
        """End the reading."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _read(self, now: float) -> None:
        try:
            self._waits = shortest_waits(await self.recent(now))
            self._read_at = now
        except Unavailable:
            pass  # what was read last is believed as long as the workers' own status would live
        finally:
            self._task = None


def shortest_waits(workers: Iterable[WorkerStatus]) -> dict[tuple[str, str], float]:
    """The shortest estimated wait over all workers, in seconds, by model and lane."""
    waits: dict[tuple[str, str], float] = {}
    for worker in workers:
        for model, status in worker.models.items():
            for lane, wait_s in status.wait_s.items():
                waits[model, lane] = min(wait_s, waits.get((model, lane), wait_s))
    return waits


def _entry(value: bytes) -> ModelEntry | None:
    try:
        return decode_model(value)
    except msgspec.MsgspecError:
        return None


def _readable(values: Iterable[bytes]) -> list[WorkerStatus]:
    """Those that can be read: one worker of a later version does not hide the others."""
    workers: list[WorkerStatus] = []
    for value in values:
        try:
            workers.append(decode_worker(value))
        except msgspec.MsgspecError:
            continue
    return workers
