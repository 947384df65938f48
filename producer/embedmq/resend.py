"""What is sent a second time, after Redis was lost and may have lost answers?"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from msgspec.structs import replace

from embedmq.pending import Call, Pending
from embedmq.publisher import Publisher

_LOG = logging.getLogger(__name__)


class Resend:
    """Sends what had been sent before the connection to Redis broke and has no answer still, some time after it is
    back: the same record, once a request however often Redis is lost, and not all at once.

    Slowness alone is no reason, and neither does a request count that was sent while Redis was away: workers held its
    answer back. What ended meanwhile (its time limit, a cancel) is left alone.
    """

    def __init__(self, pending: Pending, publisher: Publisher, grace_s: float, per_s: float) -> None:
        self._pending = pending
        self._publisher = publisher
        self._grace_s = grace_s
        self._period_s = 1 / per_s
        self._owed: Sequence[Call] = ()
        self._task: asyncio.Task[None] | None = None

    def lost(self) -> None:
        """The connection broke: what waits now may have lost its answer."""
        self.stop()
        self._owed = self._pending.unanswered()

    def back(self) -> None:
        """There is a connection again."""
        if self._owed:
            self._task = asyncio.create_task(self._send(self._owed))

    def stop(self) -> None:
        """Send nothing more."""
        self._owed = ()
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _send(self, owed: Sequence[Call]) -> None:
        await asyncio.sleep(self._grace_s)
        count = 0
        try:
            for call in owed:
                if call.again or call.future.done():
                    continue
                call.again = True
                self._publisher.put(call.topic, replace(call.record, again=True))
                count += 1
                await asyncio.sleep(self._period_s)
        finally:
            if count:
                what = "sent %d requests again: they had no answer %g s after Redis was lost and back"
                _LOG.warning(what, count, self._grace_s)
