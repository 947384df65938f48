"""Would the suite notice? Bugs that others have shipped, planted on purpose; each must turn it red."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final
from unittest.mock import patch

from embedmq.resend import Resend
from embedmq_worker.delivery import Delivery
from embedmq_worker.past import Past
from embedmq_worker.redis_sink import RedisSink
from embedmq_worker.starts import Starts

GRACE_IGNORED: Final = "grace_ignored"


def commit_before_deliver() -> None:
    """A record counts as complete when it is computed, before its answer is acknowledged."""
    deliver = Delivery.deliver

    async def early(self: Any, endings: Sequence[Any]) -> None:
        for ending in endings:
            ending.job.progress.complete(ending.job.record)
        await deliver(self, endings)

    setattr(Delivery, "deliver", early)  # noqa: B010  # both type checkers refuse the plain form


def skip_by_offset_alone() -> None:
    """A record is taken for one that was completed before if it has its offset, whatever it says."""

    def meet(self: Any, offset: int, mark: Any) -> bool:
        _, fate = self.known.pop(offset, (mark, None))
        return bool(fate == "skipped")

    setattr(Past, "meet", meet)  # noqa: B010


def drop_on_redis_error() -> None:
    """An answer that Redis does not take is given up."""

    async def once(self: Any, writes: Sequence[Any]) -> list[Any]:
        with contextlib.suppress(Exception):
            await self._try(writes)
        return []

    setattr(RedisSink, "write", once)  # noqa: B010


def marker_lost() -> None:
    """Nobody writes down what runs, so nobody knows what died of it."""

    async def nothing(self: Any, marks: Any) -> None:
        pass

    setattr(Starts, "_write", nothing)  # noqa: B010


WORKER: Final[Mapping[str, Callable[[], None]]] = MappingProxyType(
    {plant.__name__: plant for plant in (commit_before_deliver, skip_by_offset_alone, drop_on_redis_error, marker_lost)}
)
"""Bugs of the worker, planted in its process."""


def plant(name: str) -> None:
    """Plant one of the worker's; any other name is none."""
    if name in WORKER:
        WORKER[name]()


@contextlib.contextmanager
def planted_in_client(name: str) -> Iterator[None]:
    """Plant the client's for a while: what had no answer is sent again at once, without waiting for what is there."""
    begin = Resend.__init__

    def at_once(self: Any, pending: Any, publisher: Any, grace_s: float, per_s: float) -> None:
        begin(self, pending, publisher, 0.0 if name == GRACE_IGNORED else grace_s, per_s)

    with patch.object(Resend, "__init__", at_once):
        yield
