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
    """Sends what Kafka had when Redis was lost and came back, and what has no answer still some time later: the same
    record, not all at once, and once a request however often Redis is lost. What Kafka does not take then is sent
    again after the same time, until Kafka has it.

    Slowness alone is no reason. What was sent while Redis was away counts too: some worker may have reached a Redis
    that is gone. What ended meanwhile (its time limit, a cancel) is left alone, and so is what waits for Kafka here.
    """

    def __init__(self, pending: Pending, publisher: Publisher, grace_s: float, per_s: float) -> None:
        self._pending = pending
        self._publisher = publisher
        self._grace_s = grace_s
        self._period_s = 1 / per_s
        self._task: asyncio.Task[None] | None = None

    def back(self) -> None:
        """There is a connection again: what waits now may have lost its answer."""
        self.stop()
        owed = self._pending.unanswered()
        if owed:
            self._task = asyncio.create_task(self._send(owed))

    def stop(self) -> None:
        """Send nothing more, until the next time."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _send(self, owed: Sequence[Call]) -> None:
        await asyncio.sleep(self._grace_s)
        while owed := [call for call in owed if _is_open(call)]:
            await self._send_once(owed)
            await asyncio.sleep(self._grace_s)

    async def _send_once(self, owed: Sequence[Call]) -> None:
        count = 0
        try:
            for call in owed:
                on_its_way = call.again is not None and not call.again.refused
                if call.record is None or on_its_way or not _is_open(call):
                    continue
                call.again = replace(call.record, again=True, accepted=False)
                self._publisher.put(call.topic, call.again)
                count += 1
                await asyncio.sleep(self._period_s)
        finally:
            if count:
                what = "sent %d requests again: they had no answer %g s after Redis was lost and back"
                _LOG.warning(what, count, self._grace_s)


def _is_open(call: Call) -> bool:
    """Whether Kafka has taken a call only once, and nothing has ended it."""
    return not call.future.done() and (call.again is None or not call.again.accepted)
