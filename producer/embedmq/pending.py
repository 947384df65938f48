"""Which requests wait for an answer in this process, and until when?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf

from embedmq_schemas.results import Result
from msgspec import Struct

from embedmq.errors import DeadlineExceeded, EmbedMQError, InvalidRequest, RequestCancelled
from embedmq.publisher import Record

SWEEP_INTERVAL_S = 0.01  # calls that end together are looked at together

_Wait = asyncio.Future[Result] | asyncio.Future[None]


class Call(Struct):
    """A record that was sent and waits for its answer until the loop's time `due`.

    `whole` is the id under which the caller knows it: of a large call that was cut, every part has the same.
    """

    future: asyncio.Future[Result]
    due: float
    whole: str
    topic: str
    record: Record | None = None
    """None while it shares the record of another."""
    again: Record | None = None
    """The record that was sent the second time."""


class Pending:
    """The calls that wait, by id. One timer serves all deadlines: it wakes for the earliest and looks at every call,
    which are as many as may be in flight; nothing is to be undone for a call that is answered in time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: dict[str, Call] = {}
        self._queued: dict[str, tuple[asyncio.Future[None], str]] = {}
        self._next_sweep = inf
        self._timer: asyncio.TimerHandle | None = None

    def add(self, id: str, call: Call) -> None:
        """Wait for the answer to `id`; when its time has passed its future fails with DeadlineExceeded.

        Raises:
            InvalidRequest: an id that waits already.
        """
        if id in self._calls:
            raise _taken(id)
        self._calls[id] = call
        if call.due < self._next_sweep:
            self._arm(call.due)

    def remove(self, id: str) -> None:
        """Wait no longer."""
        self._calls.pop(id, None)

    def queue(self, id: str, whole: str) -> asyncio.Future[None]:
        """Note a call that has to wait before it can be sent; the future is its turn. Raises InvalidRequest."""
        if id in self._calls or id in self._queued:
            raise _taken(id)
        turn: asyncio.Future[None] = self._loop.create_future()
        self._queued[id] = (turn, whole)
        return turn

    def unqueue(self, id: str) -> None:
        """It waits for its turn no longer."""
        self._queued.pop(id, None)

    def resolve(self, result: Result) -> None:
        """Hand over an answer; one that nobody waits for (a second delivery, a cancelled call) is passed over."""
        call = self._calls.get(result.id)
        if call is not None and not call.future.done():
            call.future.set_result(result)

    def unanswered(self) -> list[Call]:
        """What Kafka has, in the order in which it was sent, and has no answer yet."""
        calls = self._calls.values()
        return [call for call in calls if call.record and call.record.accepted and not call.future.done()]

    def sent(self) -> dict[str, float]:
        """The records that have no answer yet, and until when one is wanted."""
        return {id: call.due for id, call in self._calls.items() if call.record and not call.future.done()}

    def cancel(self, whole: str) -> dict[str, float] | None:
        """End the call of that id, and every part of it, with RequestCancelled. None when nothing of it waits, else the
        ids that were sent, and until when they are wanted.
        """
        calls = {id: call for id, call in self._calls.items() if call.whole == whole and not call.future.done()}
        turns = [turn for turn, of in self._queued.values() if of == whole and not turn.done()]
        waiting: list[_Wait] = [*(call.future for call in calls.values()), *turns]
        for future in waiting:
            future.set_exception(RequestCancelled(f"request {whole} was cancelled"))
        return {id: call.due for id, call in calls.items() if call.record} if waiting else None

    def fail_all(self, error: Callable[[str], EmbedMQError]) -> None:
        """End every wait with the error made for its id."""
        waiting: list[tuple[str, _Wait]] = [(id, call.future) for id, call in self._calls.items()]
        for id, future in [*waiting, *((id, turn) for id, (turn, _) in self._queued.items())]:
            if not future.done():
                future.set_exception(error(id))

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, due: float) -> None:
        self.close()
        self._next_sweep = due
        self._timer = self._loop.call_at(due, self._sweep)

    def _sweep(self) -> None:
        now = self._loop.time()
        self._next_sweep = inf
        for id, call in self._calls.items():
            if call.due <= now and not call.future.done():
                call.future.set_exception(DeadlineExceeded(f"request {id}: no answer within its time limit"))
        earliest = min((call.due for call in self._calls.values() if not call.future.done()), default=inf)
        if earliest < inf:
            self._arm(max(earliest, now + SWEEP_INTERVAL_S))


def _taken(id: str) -> InvalidRequest:
    return InvalidRequest(f"id: {id} waits for its answer already: ids are unique, use UUIDs")
