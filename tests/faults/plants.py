"""Would the suite notice? Bugs that others have shipped, planted on purpose; each must turn it red."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from embedmq_worker.delivery import Delivery
from embedmq_worker.redis_sink import RedisSink


def commit_before_deliver() -> None:
    """A record counts as complete when it is computed, before its answer is acknowledged."""
    deliver = Delivery.deliver

    async def early(self: Any, endings: Sequence[Any]) -> None:
        for ending in endings:
            ending.job.progress.complete(ending.job.record.offset)
        await deliver(self, endings)

    setattr(Delivery, "deliver", early)  # noqa: B010  # both type checkers refuse the plain form


def drop_on_redis_error() -> None:
    """An answer that Redis does not take is given up."""

    async def once(self: Any, writes: Sequence[Any]) -> list[Any]:
        await self._try(writes)
        return []

    setattr(RedisSink, "write", once)  # noqa: B010


WORKER: Final[Mapping[str, Callable[[], None]]] = MappingProxyType(
    {plant.__name__: plant for plant in (commit_before_deliver, drop_on_redis_error)}
)
"""Bugs of the worker, planted in its process."""


def plant(name: str) -> None:
    """Plant one of the worker's; the empty name is none."""
    if name:
        WORKER[name]()
